// How the threads of a block run: each on a stack of its own, one at a time, until it waits or ends; then another that
// can go on, drawn at random, runs. Blocks run one after the other, in random order. The seed decides all of it.
#include "emulation.h"

#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>

#include "fiber.h"

namespace cuda_emulation {

Indices indices;
Running running;
Range kernel_stacks, host_stack;
thread_local bool in_kernel = false;

namespace {

constexpr size_t kSharedLimit = 48 << 10;        // without cudaFuncSetAttribute
constexpr size_t kSharedOptInLimit = 227 << 10;  // with it, on sm_90
constexpr unsigned kMaxThreads = 1024;

enum class State { kNew, kReady, kAtBarrier, kInWarp, kDone };

struct Thread {
  State state = State::kNew;
  Fiber* fiber = nullptr;
  const char* operation = nullptr;  // that it waits in, with these lanes, bringing this, to get what all bring
  unsigned mask = 0;
  uint64_t mine = 0;
  uint64_t* all = nullptr;
  uint32_t syncs[kWarp] = {0};
};

struct Free {
  void operator()(void* p) const { std::free(p); }
};
struct Shared {
  const void* site;
  std::unique_ptr<void, Free> data;
};

std::mutex launching;
std::mt19937_64 random_numbers(1);
std::map<const void*, size_t> shared_opt_in;
cudaError_t last_error = cudaSuccess;

// The running launch.
Fiber host;
std::deque<Fiber> fibers;
std::vector<Fiber*> idle;
std::vector<Thread> threads;
std::vector<uint32_t> ready;  // threads that can go on
std::vector<Shared> shared;
const std::function<void()>* kernel_body = nullptr;
size_t dynamic_bytes = 0, shared_bytes = 0;
uint32_t current = 0, waiting = 0, done = 0;
std::string problem;

StackMemory& stack_memory() {
  static StackMemory memory;
  return memory;
}

dim3 unravel(uint64_t i, const dim3& size) {
  return dim3(static_cast<unsigned>(i % size.x), static_cast<unsigned>(i / size.x % size.y),
              static_cast<unsigned>(i / size.x / size.y));
}

uint32_t first_of_warp(uint32_t thread) { return thread / kWarp * kWarp; }
uint32_t end_of_warp(uint32_t thread) {
  return std::min<uint32_t>(first_of_warp(thread) + kWarp, static_cast<uint32_t>(threads.size()));
}

void make_current(uint32_t thread) {
  current = thread;
  running.thread = thread;
  running.syncs = threads[thread].syncs;
  indices.thread = unravel(thread, indices.block_dim);
}

void resume(uint32_t thread) {
  threads[thread].state = State::kReady;
  threads[thread].operation = nullptr;
  ready.push_back(thread);
}

// Draws the thread that runs next. False where none can: the block has ended, or hangs.
bool draw() {
  if (ready.empty()) return false;
  const size_t i = random_numbers() % ready.size();
  make_current(ready[i]);
  ready[i] = ready.back();
  ready.pop_back();
  return true;
}

void run_threads();

Fiber& free_fiber() {
  if (idle.empty()) {
    fibers.emplace_back();
    fibers.back().start(stack_memory().take(fibers.size() - 1), run_threads);
    idle.push_back(&fibers.back());
  }
  Fiber* fiber = idle.back();
  idle.pop_back();
  return *fiber;
}

// Leaves the fiber for whoever runs next.
void switch_from(Fiber& self) {
  if (!draw()) {
    Fiber::switch_to(self, host);
    return;
  }
  Thread& next = threads[current];
  if (next.state == State::kNew) next.fiber = &free_fiber();
  if (next.fiber != &self) Fiber::switch_to(self, *next.fiber);
}

// What a fiber does: one thread of a block after the other, for as long as they come.
void run_threads() {
  threads[current].fiber->arrived();
  for (;;) {
    Fiber& self = *threads[current].fiber;
    (*kernel_body)();
    threads[current].state = State::kDone;
    ++done;
    idle.push_back(&self);
    switch_from(self);
  }
}

std::string list_waiting() {
  std::string text;
  std::map<std::string, std::vector<uint32_t>> where;
  for (uint32_t t = 0; t < threads.size(); ++t) {
    if (threads[t].state == State::kDone) where["returned"].push_back(t);
    if (threads[t].state == State::kAtBarrier) where["wait at __syncthreads"].push_back(t);
    if (threads[t].state == State::kInWarp) where[std::string("wait in ") + threads[t].operation].push_back(t);
  }
  for (const auto& [what, who] : where)
    text += (text.empty() ? "" : ", ") + std::to_string(who.size()) + " threads " + what + " (the first is " +
            coordinates(unravel(who[0], indices.block_dim)) + ")";
  return text;
}

void run_block(const dim3& index, uint32_t number) {
  const size_t count = size_t{1} * indices.block_dim.x * indices.block_dim.y * indices.block_dim.z;
  indices.block = index;
  running.block = number;
  running.barriers = 0;
  threads.assign(count, Thread());
  ready.resize(count);
  std::iota(ready.begin(), ready.end(), 0);
  shared.clear();
  shared_bytes = dynamic_bytes;
  waiting = done = 0;
  begin_block_log();
  draw();
  threads[current].fiber = &free_fiber();
  in_kernel = true;
  Fiber::switch_to(host, *threads[current].fiber);
  in_kernel = false;
  if (problem.empty() && done != count) problem = "deadlock in block " + coordinates(index) + ": " + list_waiting();
}

// Fibers that were left in the middle are of no use any more; their stacks are.
void abandon_fibers() {
  for (Fiber& fiber : fibers) fiber.forget();
  fibers.clear();
  idle.clear();
}

// "const char* name() [with auto kernel = focus::{anonymous}::fill<float>]" -> "fill<float>"
std::string short_name(const char* pretty) {
  std::string name(pretty);
  const size_t from = name.find("kernel = ");
  if (from != std::string::npos) name = name.substr(from + 9, name.rfind(']') - from - 9);
  for (const char* part : {"focus::", "{anonymous}::", "(anonymous namespace)::", "&"})
    for (size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, std::strlen(part));
  return name;
}

cudaError_t configuration_error(const void* kernel, const dim3& grid, const dim3& block, size_t bytes) {
  const uint64_t count = uint64_t{1} * block.x * block.y * block.z;
  const auto opt_in = shared_opt_in.find(kernel);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || count == 0) return cudaErrorInvalidConfiguration;
  if (grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
  if (block.x > kMaxThreads || block.y > kMaxThreads || block.z > 64 || count > kMaxThreads)
    return cudaErrorInvalidConfiguration;
  if (bytes > (opt_in == shared_opt_in.end() ? kSharedLimit : opt_in->second)) return cudaErrorInvalidValue;
  return cudaSuccess;
}

}  // namespace

std::string coordinates(const dim3& i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}

std::string thread_name(uint32_t block, uint32_t thread) {
  return "thread " + coordinates(unravel(thread, indices.block_dim)) + " of block " +
         coordinates(unravel(block, indices.grid_dim));
}

std::map<std::string, int64_t>& launches() {
  static std::map<std::string, int64_t> counts;
  return counts;
}

void set_seed(uint64_t seed) {
  std::lock_guard<std::mutex> lock(launching);
  random_numbers.seed(seed);
}

void stop_kernel(const std::string& what) {
  problem = thread_name(running.block, running.thread) + " " + what;
  Fiber::switch_to(*threads[current].fiber, host);
  std::abort();  // nobody comes back here
}

void launch(const char* pretty, const void* kernel, dim3 grid, dim3 block, size_t bytes,
            const std::function<void()>& body) {
  std::lock_guard<std::mutex> lock(launching);
  last_error = configuration_error(kernel, grid, block, bytes);
  if (last_error != cudaSuccess) return;
  const std::string name = short_name(pretty);
  ++launches()[name];
  ++running.launch;
  indices.block_dim = block;
  indices.grid_dim = grid;
  kernel_body = &body;
  dynamic_bytes = bytes;
  problem.clear();
  host.on_thread_stack();
  host_stack = {host.stack(), host.stack() + host.size()};
  kernel_stacks = {stack_memory().begin(), stack_memory().end()};
  std::vector<uint32_t> blocks(size_t{1} * grid.x * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::shuffle(blocks.begin(), blocks.end(), random_numbers);
  for (uint32_t number : blocks) {
    run_block(unravel(number, grid), number);
    if (!problem.empty()) break;
  }
  if (!problem.empty()) abandon_fibers();
  std::string found = take_problems();
  if (!problem.empty()) found += (found.empty() ? "" : "\n  ") + problem;
  if (!found.empty()) throw std::runtime_error("cuda_emulation: " + name + ": " + found);
}

void* shared_memory(const void* site, size_t bytes, size_t alignment) {
  for (const Shared& s : shared)
    if (s.site == site) return s.data.get();
  if (site != nullptr) shared_bytes += bytes;
  if (shared_bytes - dynamic_bytes > kSharedLimit || shared_bytes > kSharedOptInLimit)
    stop_kernel("uses " + std::to_string(shared_bytes) + " bytes of shared memory, more than there are");
  // An allocation each, so that AddressSanitizer watches over its ends.
  void* data = nullptr;
  if (posix_memalign(&data, std::max(alignment, sizeof(void*)), bytes) != 0) throw std::bad_alloc();
  std::memset(data, 0xFF, bytes);
  add_shared_log(data, bytes);
  shared.push_back({site, std::unique_ptr<void, Free>(data)});
  return data;
}

void* dynamic_shared_memory() { return shared_memory(nullptr, dynamic_bytes, 16); }

void sync_threads() {
  Thread& self = threads[current];
  self.state = State::kAtBarrier;
  if (++waiting == threads.size()) {
    waiting = 0;
    ++running.barriers;
    for (uint32_t t = 0; t < threads.size(); ++t) resume(t);
  }
  switch_from(*self.fiber);
}

void exchange(const char* operation, unsigned mask, uint64_t mine, uint64_t (&all)[32]) {
  Thread& self = threads[current];
  const uint32_t first = first_of_warp(current), end = end_of_warp(current);
  if ((mask >> lane() & 1) == 0) stop_kernel(std::string("calls ") + operation + " with a mask that it is not in");
  self.state = State::kInWarp;
  self.operation = operation;
  self.mask = mask;
  self.mine = mine;
  self.all = all;
  bool complete = true;
  for (uint32_t t = first; t < end; ++t)
    if (mask >> (t - first) & 1) {
      const Thread& other = threads[t];
      complete = complete && other.state == State::kInWarp && other.mask == mask &&
                 std::strcmp(other.operation, operation) == 0;
    }
  if (complete) {
    if (std::strcmp(operation, "__syncwarp") == 0) {
      uint32_t latest[kWarp] = {0};
      for (uint32_t t = first; t < end; ++t)
        if (mask >> (t - first) & 1) {
          ++threads[t].syncs[t - first];
          for (int k = 0; k < kWarp; ++k) latest[k] = std::max(latest[k], threads[t].syncs[k]);
        }
      for (uint32_t t = first; t < end; ++t)
        if (mask >> (t - first) & 1) std::copy(latest, latest + kWarp, threads[t].syncs);
    }
    for (uint32_t t = first; t < end; ++t)
      if (mask >> (t - first) & 1) {
        for (uint32_t k = first; k < end; ++k) threads[t].all[k - first] = threads[k].mine;
        resume(t);
      }
  }
  switch_from(*self.fiber);
}

void sync_warp(unsigned mask) {
  uint64_t all[kWarp];
  exchange("__syncwarp", mask, 0, all);
}

unsigned lane() { return current % kWarp; }

uint64_t taken(const char* operation, unsigned mask, const uint64_t (&all)[32], unsigned from) {
  if (from >= kWarp || (mask >> from & 1) == 0 || first_of_warp(current) + from >= threads.size())
    stop_kernel(std::string("takes a value in ") + operation + " from lane " + std::to_string(from) +
                ", which does not take part");
  return all[from];
}

}  // namespace cuda_emulation

using namespace cuda_emulation;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
  }
  return "unrecognized error code";
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }

cudaError_t cudaMemsetAsync(void* data, int byte, size_t bytes, cudaStream_t) {
  std::memset(data, byte, bytes);
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value < 0 || static_cast<size_t>(value) > kSharedOptInLimit) return cudaErrorInvalidValue;
  shared_opt_in[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}
