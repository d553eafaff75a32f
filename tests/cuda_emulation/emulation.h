// What the scheduler (emulation.cpp) and the log of accesses (shadow.cpp) tell each other.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cuda_runtime.h"

namespace cuda_emulation {

constexpr int kWarp = 32;

// Who runs now, for the log.
struct Running {
  uint32_t launch = 0, block = 0, thread = 0;
  uint32_t barriers = 0;  // that the block has passed
  // syncs[lane]: the __syncwarp of that lane, in its own count, that this thread's own last one came after
  const uint32_t* syncs = nullptr;
};
extern Running running;
extern thread_local bool in_kernel;  // of this thread of the host: code of a kernel runs in it

struct Range {
  const char *begin = nullptr, *end = nullptr;
  bool holds(const void* p) const { return begin <= p && p < end; }
};
extern Range kernel_stacks, host_stack;

// Ends the launch with an error, from within a kernel.
[[noreturn]] void stop_kernel(const std::string& problem);
std::string coordinates(const dim3& index);
std::string thread_name(uint32_t block, uint32_t thread);

// The log. Accesses are checked one by one; problems are kept until the launch ends.
void begin_block_log();
void add_shared_log(const void* data, size_t bytes);
std::string take_problems();

// Kernels by name and how often each was launched.
std::map<std::string, int64_t>& launches();
void set_seed(uint64_t seed);

}  // namespace cuda_emulation
