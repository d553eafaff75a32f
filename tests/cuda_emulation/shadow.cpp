// The log of accesses. The kernels are compiled with -fsanitize=thread, which calls the functions at the end of this
// file at every load and store; they stand in for ThreadSanitizer's runtime, which knows nothing of blocks and warps.
//
// Two accesses of one launch to the same bytes, by different threads, of which one writes and not both are atomic, are
// a race unless a barrier lies between them: __syncthreads, or __syncwarp for lanes of a warp. Blocks have none. Each
// four bytes remember their last plain write, two plain reads and two atomic accesses; that misses a race only where
// several sizes of access or several __syncwarp overlap.
#include <dlfcn.h>

#include <cstdio>
#include <memory>
#include <set>
#include <unordered_map>

#include "emulation.h"

namespace cuda_emulation {
namespace {

enum Kind { kRead, kWrite, kAtomic };

struct Access {
  uint32_t block = 0, barriers = 0, syncs = 0;
  uint16_t thread = 0;
  uint8_t bytes = 0;  // a bit for each of the four; 0 where there was no access
  const void* where = nullptr;
};

struct Cell {
  uint32_t launch = 0;
  Access write, reads[2], atomics[2];
};

constexpr size_t kPage = 4096, kMaxPages = 8192, kMaxProblems = 4;

struct SharedLog {
  const char* data;
  std::vector<bool> written;
  std::vector<Cell> cells;
};

std::unordered_map<uintptr_t, std::unique_ptr<Cell[]>> pages;
uintptr_t last_page = 0;
Cell* last_cells = nullptr;
std::vector<SharedLog> shared_logs;
std::vector<std::string> problems;
std::set<std::pair<const void*, const void*>> known;  // pairs of places that are reported already

Cell& global_cell(uintptr_t at) {
  const uintptr_t page = at / kPage;
  if (page != last_page || last_cells == nullptr) {
    std::unique_ptr<Cell[]>& cells = pages[page];
    if (cells == nullptr) cells = std::make_unique<Cell[]>(kPage / 4);
    last_page = page;
    last_cells = cells.get();
  }
  return last_cells[at % kPage / 4];
}

uint32_t lane_of(uint32_t thread) { return thread % kWarp; }

bool same_thread(const Access& a, const Access& b) { return a.block == b.block && a.thread == b.thread; }

// Whether a barrier lies between an earlier access and one that the running thread makes now.
bool ordered(const Access& before) {
  if (before.block != running.block) return false;
  if (before.thread == running.thread || before.barriers < running.barriers) return true;
  return before.thread / kWarp == running.thread / kWarp && before.syncs < running.syncs[lane_of(before.thread)];
}

bool races(const Access& before, const Access& now) { return (before.bytes & now.bytes) != 0 && !ordered(before); }

// "rasterize_draw.cuh:151", as far as the build keeps lines.
std::string line_of(const void* where) {
  Dl_info info;
  if (where == nullptr || dladdr(where, &info) == 0) return "?";
  const auto offset = static_cast<const char*>(where) - static_cast<const char*>(info.dli_fbase) - 1;
  char command[4200], line[512] = "";
  std::snprintf(command, sizeof command, "addr2line -e '%s' 0x%tx 2>/dev/null", info.dli_fname, offset);
  if (std::FILE* pipe = popen(command, "r")) {
    if (std::fgets(line, sizeof line, pipe) == nullptr) line[0] = 0;
    pclose(pipe);
  }
  std::string text(line);
  text = text.substr(text.rfind('/') + 1);
  return text.empty() ? "?" : text.substr(0, text.find_first_of(" \n"));
}

void report(const Access& before, Kind kind_before, const Access& now, Kind kind, bool shared) {
  if (problems.size() >= kMaxProblems || !known.insert({before.where, now.where}).second) return;
  static const char* const verbs[] = {"reads", "writes", "changes by an atomic"};
  problems.push_back("race in " + std::string(shared ? "shared" : "global") +
                     " memory: " + thread_name(before.block, before.thread) + " " + verbs[kind_before] + " (" +
                     line_of(before.where) + "), " + thread_name(now.block, now.thread) + " " + verbs[kind] + " (" +
                     line_of(now.where) + ") the same bytes, with no barrier between");
}

// Keeps two of a kind, of different threads where there are, in the place of one that is over.
void keep(Access (&slots)[2], const Access& now) {
  for (Access& slot : slots)
    if (slot.bytes == 0 || same_thread(slot, now) || ordered(slot)) {
      slot = now;
      return;
    }
}

void check_cell(Cell& cell, const Access& now, Kind kind, bool shared) {
  if (cell.launch != running.launch) {
    cell = Cell();
    cell.launch = running.launch;
  }
  if (races(cell.write, now)) report(cell.write, kWrite, now, kind, shared);
  if (kind != kAtomic)
    for (const Access& other : cell.atomics)
      if (races(other, now)) report(other, kAtomic, now, kind, shared);
  if (kind != kRead)
    for (const Access& other : cell.reads)
      if (races(other, now)) report(other, kRead, now, kind, shared);
  if (kind == kWrite)
    cell.write = now;
  else
    keep(kind == kRead ? cell.reads : cell.atomics, now);
}

void check_written(SharedLog& log, size_t from, size_t bytes, Kind kind, const void* where) {
  for (size_t i = from; i < from + bytes && i < log.written.size(); ++i) {
    if (kind != kWrite && !log.written[i] && problems.size() < kMaxProblems && known.insert({where, nullptr}).second)
      problems.push_back(thread_name(running.block, running.thread) + " reads (" + line_of(where) +
                         ") shared memory that no thread has written");
    if (kind != kRead) log.written[i] = true;
  }
}

void note(const void* data, size_t bytes, Kind kind, const void* where) {
  if (!in_kernel || kernel_stacks.holds(data) || host_stack.holds(data)) return;
  const char* const first = reinterpret_cast<const char*>(&indices);
  if (data >= first && data < first + sizeof indices) return;
  SharedLog* log = nullptr;
  for (SharedLog& s : shared_logs)
    if (data >= s.data && data < s.data + s.written.size()) log = &s;
  const auto at = reinterpret_cast<uintptr_t>(data);
  const auto origin = log == nullptr ? uintptr_t{0} : reinterpret_cast<uintptr_t>(log->data);
  if (log != nullptr) check_written(*log, at - origin, bytes, kind, where);
  Access now;
  now.block = running.block;
  now.barriers = running.barriers;
  now.thread = static_cast<uint16_t>(running.thread);
  now.syncs = running.syncs[lane_of(running.thread)];
  now.where = where;
  for (uintptr_t cell = at / 4; cell * 4 < at + bytes; ++cell) {
    const uintptr_t begin = std::max(at, cell * 4), end = std::min(at + bytes, cell * 4 + 4);
    now.bytes = static_cast<uint8_t>(((1u << (end - begin)) - 1) << (begin - cell * 4));
    const size_t own = cell - origin / 4;
    if (log == nullptr)
      check_cell(global_cell(cell * 4), now, kind, false);
    else if (own < log->cells.size())
      check_cell(log->cells[own], now, kind, true);
  }
}

}  // namespace

#if defined(FOCUS_SANITIZE_ADDRESS)
// Plain accesses are not logged in this build, so there is nothing to hold an atomic against.
void note_atomic(const volatile void*, size_t, const void*) {}
#else
void note_atomic(const volatile void* data, size_t bytes, const void* where) {
  note(const_cast<const void*>(data), bytes, kAtomic, where);
}
#endif

void begin_block_log() {
  shared_logs.clear();
  if (pages.size() > kMaxPages) {
    pages.clear();
    last_cells = nullptr;
  }
}

void add_shared_log(const void* data, size_t bytes) {
  SharedLog log{static_cast<const char*>(data), std::vector<bool>(bytes), {}};
  log.cells.resize(bytes / 4 + 2);
  shared_logs.push_back(std::move(log));
}

std::string take_problems() {
  std::string text;
  for (const std::string& p : problems) text += (text.empty() ? "" : "\n  ") + p;
  problems.clear();
  known.clear();
  return text;
}

}  // namespace cuda_emulation

// What -fsanitize=thread calls. gcc passes aligned sizes to the first, the rest to the others.
using cuda_emulation::kAtomic;
using cuda_emulation::kRead;
using cuda_emulation::kWrite;
using cuda_emulation::note;

extern "C" {
#define FOCUS_HOOK(name, size, kind) \
  void __tsan_##name(void* data) { note(data, size, kind, __builtin_return_address(0)); }
#define FOCUS_HOOKS(size)                        \
  FOCUS_HOOK(read##size, size, kRead)            \
  FOCUS_HOOK(write##size, size, kWrite)          \
  FOCUS_HOOK(volatile_read##size, size, kAtomic) \
  FOCUS_HOOK(volatile_write##size, size, kAtomic)
#define FOCUS_UNALIGNED_HOOKS(size)                        \
  FOCUS_HOOK(unaligned_read##size, size, kRead)            \
  FOCUS_HOOK(unaligned_write##size, size, kWrite)          \
  FOCUS_HOOK(unaligned_volatile_read##size, size, kAtomic) \
  FOCUS_HOOK(unaligned_volatile_write##size, size, kAtomic)
FOCUS_HOOKS(1)
FOCUS_HOOKS(2)
FOCUS_HOOKS(4)
FOCUS_HOOKS(8)
FOCUS_HOOKS(16)
FOCUS_UNALIGNED_HOOKS(2)
FOCUS_UNALIGNED_HOOKS(4)
FOCUS_UNALIGNED_HOOKS(8)
FOCUS_UNALIGNED_HOOKS(16)
void __tsan_read_range(void* data, size_t bytes) { note(data, bytes, kRead, __builtin_return_address(0)); }
void __tsan_write_range(void* data, size_t bytes) { note(data, bytes, kWrite, __builtin_return_address(0)); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
}
