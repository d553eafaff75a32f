// Kernels for the tests of the emulation: planted bugs, each beside its sound twin, and every built-in function in use.
// Run as `planted NAME SEED`: prints what the kernel computed, or the error that stopped it.
#include "core/cuda.cuh"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <vector>

#include "emulation.h"

namespace focus {
namespace {

using Image = std::vector<int>;
constexpr int kPixels = 1000;
unsigned blocks() { return (kPixels + kThreads - 1) / kThreads; }

// ---- global memory

__global__ void fill_kernel(int* image, int pixels, int limit) {
  const int i = static_cast<int>(thread());
  if (i < limit) image[i] = i % 7;
  (void)pixels;
}

// Two neighbouring threads share a pixel: by a plain write, or by an atomic.
template <bool kAtomic>
__global__ void splat_kernel(int* image, int pixels) {
  const int i = static_cast<int>(thread());
  if (i >= pixels) return;
  if (kAtomic)
    atomicMin(image + i / 2, i);
  else
    image[i / 2] = i / 2;
}

// Reads what another block writes.
__global__ void shift_kernel(int* image, int pixels) {
  const int i = static_cast<int>(thread());
  if (i + kThreads < pixels) image[i] = image[i + kThreads];
}

// The order of threads shows: the last one to come wins.
__global__ void order_kernel(int* image, int pixels) {
  const int i = static_cast<int>(thread());
  if (i < pixels) image[atomicAdd(image + pixels, 1)] = i;
}

__global__ void overflow_kernel(int* image, int pixels, int factor) {
  const int i = static_cast<int>(thread());
  if (i < pixels) image[i] = i * factor;
}

// ---- shared memory

// Each thread reads its neighbour's number.
template <bool kBarrier>
__global__ void neighbour_kernel(int* image, int pixels) {
  FOCUS_SHARED(int, row, [kThreads]);
  const int i = static_cast<int>(thread());
  row[threadIdx.x] = i;
  if (kBarrier) __syncthreads();
  if (i < pixels) image[i] = row[(threadIdx.x + 1) % kThreads];
}

template <bool kBarrier>
__global__ void warp_neighbour_kernel(int* image, int pixels) {
  FOCUS_SHARED(int, row, [kThreads]);
  const int i = static_cast<int>(thread()), first = threadIdx.x / 32 * 32;
  row[threadIdx.x] = i;
  if (kBarrier) __syncwarp();
  if (i < pixels) image[i] = row[first + (threadIdx.x + 1) % 32];
}

template <bool kAll>
__global__ void uninitialised_kernel(int* image, int pixels) {
  FOCUS_SHARED(int, row, [kThreads]);
  if (kAll || threadIdx.x != 5) row[threadIdx.x] = 1;
  __syncthreads();
  const int i = static_cast<int>(thread());
  if (i < pixels) image[i] = row[threadIdx.x];
}

__global__ void beyond_shared_kernel(int* image, int pixels, int step) {
  FOCUS_SHARED(int, row, [kThreads]);
  row[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  const int i = static_cast<int>(thread());
  if (i < pixels) image[i] = row[threadIdx.x + step];
}

__global__ void dynamic_kernel(int* image, int pixels) {
  FOCUS_DYNAMIC_SHARED(int, row);
  row[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  const int i = static_cast<int>(thread());
  if (i < pixels) image[i] = row[kThreads - 1 - threadIdx.x];
}

__global__ void beyond_dynamic_kernel(int* image, int pixels) {
  FOCUS_DYNAMIC_SHARED(int, row);
  row[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  const int i = static_cast<int>(thread());
  if (i < pixels) image[i] = row[threadIdx.x + 1];
}

// ---- barriers and warps

__global__ void divergent_kernel(int* image, int pixels) {
  const int i = static_cast<int>(thread());
  if (i >= pixels) return;
  __syncthreads();
  image[i] = 1;
}

__global__ void half_warp_kernel(int* image, int pixels) {
  const int i = static_cast<int>(thread());
  if (threadIdx.x % 32 < 16) return;
  const int sum = __shfl_xor_sync(kAllLanes, i, 1);
  if (i < pixels) image[i] = sum;
}

__global__ void absent_lane_kernel(int* image, int pixels) {
  const int i = static_cast<int>(thread());
  int value = i;
  if (threadIdx.x % 32 < 16) value = __shfl_sync(0xFFFFu, i, 20);
  if (i < pixels) image[i] = value;
}

// Every built-in function, against what its definition says.
__global__ void builtins_kernel(int* image, int pixels) {
  const int i = static_cast<int>(thread()), lane = i % 32;
  bool ok = __ballot_sync(kAllLanes, lane % 3 == 0) == 0x49249249u;
  ok = ok && __any_sync(kAllLanes, lane == 7) && !__any_sync(kAllLanes, lane > 31);
  ok = ok && __all_sync(kAllLanes, lane >= 0) && !__all_sync(kAllLanes, lane != 3);
  ok = ok && __match_any_sync(kAllLanes, lane / 8) == 0xFFu << lane / 8 * 8;
  ok = ok && __shfl_sync(kAllLanes, lane, 9) == 9 && __shfl_sync(kAllLanes, lane, 9, 8) == lane / 8 * 8 + 1;
  ok = ok && __shfl_up_sync(kAllLanes, lane, 3) == (lane < 3 ? lane : lane - 3);
  ok = ok && __shfl_down_sync(kAllLanes, lane, 3, 16) == (lane % 16 > 12 ? lane : lane + 3);
  ok = ok && __shfl_xor_sync(kAllLanes, lane, 5) == (lane ^ 5);
  ok = ok && __shfl_sync(kAllLanes, 0.5 * lane, 31) == 15.5;
  if (lane < 8) ok = ok && __shfl_sync(0xFFu, lane, 6) == 6;
  ok = ok && __ffs(40) == 4 && __ffs(0) == 0 && __popc(0xF0F0u) == 8 && __clz(1) == 31 && __clz(0) == 32;
  ok = ok && __uint_as_float(__float_as_uint(1.5f)) == 1.5f && __int_as_float(__float_as_int(-2.f)) == -2.f;
  ok = ok && __longlong_as_double(__double_as_longlong(-0.25)) == -0.25;
  if (i < pixels) image[i] = ok;
}

__global__ void atomics_kernel(int* image, int pixels, unsigned long long* wide, float* real) {
  const int i = static_cast<int>(thread());
  if (i >= pixels) return;
  atomicAdd(image, 1);
  atomicMax(image + 1, i);
  atomicMin(image + 2, -i);
  atomicOr(image + 3, 1 << i % 20);
  atomicAnd(image + 4, ~(1 << i % 20));
  atomicExch(image + 5, 8);
  atomicCAS(image + 6, 0, i + 1);
  atomicAdd(wide, 1ULL << 32);
  atomicMin(wide + 1, static_cast<unsigned long long>(i));
  atomicAdd(real, 0.5f);
}

// An atomic on shared memory after a plain store.
__global__ void queue_kernel(int* image, int pixels) {
  FOCUS_SHARED(int, queued, [1]);
  const int i = static_cast<int>(thread());
  if (threadIdx.x == 0) queued[0] = 0;
  __syncthreads();
  atomicAdd(queued, 1);
  __syncthreads();
  if (i < pixels) image[i] = queued[0];
}

// ---- what `main` runs

void print(const char* label, int64_t value) { std::printf("%s %lld\n", label, static_cast<long long>(value)); }

int64_t sum(const Image& image) {
  int64_t total = 0;
  for (int i = 0; i < kPixels; ++i) total += image[i];
  return total;
}

#define RUN(kernel, ...) FOCUS_KERNEL(kernel, blocks(), kThreads, 0, nullptr, image.data(), kPixels, ##__VA_ARGS__)

const std::map<std::string, std::function<void(Image&)>> kPlanted = {
    {"fill", [](Image& image) { RUN(fill_kernel, kPixels); }},
    {"out_of_bounds", [](Image& image) { RUN(fill_kernel, kPixels + 1); }},
    {"splat", [](Image& image) { RUN(splat_kernel<true>); }},
    {"pixel_race", [](Image& image) { RUN(splat_kernel<false>); }},
    {"block_race", [](Image& image) { RUN(shift_kernel); }},
    {"order",
     [](Image& image) {
       image.resize(kPixels + 1);
       RUN(order_kernel);
       print("first", image[0]);
     }},
    {"product", [](Image& image) { RUN(overflow_kernel, 1000); }},
    {"signed_overflow", [](Image& image) { RUN(overflow_kernel, 10000000); }},
    {"neighbour", [](Image& image) { RUN(neighbour_kernel<true>); }},
    {"missing_barrier", [](Image& image) { RUN(neighbour_kernel<false>); }},
    {"warp_neighbour", [](Image& image) { RUN(warp_neighbour_kernel<true>); }},
    {"missing_warp_barrier", [](Image& image) { RUN(warp_neighbour_kernel<false>); }},
    {"initialised", [](Image& image) { RUN(uninitialised_kernel<true>); }},
    {"uninitialised", [](Image& image) { RUN(uninitialised_kernel<false>); }},
    {"queue", [](Image& image) { RUN(queue_kernel); }},
    {"within_shared", [](Image& image) { RUN(beyond_shared_kernel, 0); }},
    {"beyond_shared", [](Image& image) { RUN(beyond_shared_kernel, 1); }},
    {"dynamic",
     [](Image& image) {
       const size_t bytes = kThreads * sizeof(int);
       FOCUS_KERNEL(dynamic_kernel, blocks(), kThreads, bytes, nullptr, image.data(), kPixels);
     }},
    {"beyond_dynamic",
     [](Image& image) {
       const size_t bytes = kThreads * sizeof(int);
       FOCUS_KERNEL(beyond_dynamic_kernel, blocks(), kThreads, bytes, nullptr, image.data(), kPixels);
     }},
    {"deadlock", [](Image& image) { RUN(divergent_kernel); }},
    {"half_warp", [](Image& image) { RUN(half_warp_kernel); }},
    {"absent_lane", [](Image& image) { RUN(absent_lane_kernel); }},
    {"builtins", [](Image& image) { RUN(builtins_kernel); }},
    {"atomics",
     [](Image& image) {
       std::vector<unsigned long long> wide{0, ~0ULL};
       std::vector<float> real{0};
       image[4] = -1;
       RUN(atomics_kernel, wide.data(), real.data());
       for (int k = 0; k < 6; ++k) print("int", image[k]);
       print("won", image[6] > 0 && image[6] <= kPixels);
       print("wide", static_cast<int64_t>(wide[0] >> 32));
       print("least", static_cast<int64_t>(wide[1]));
       print("real", static_cast<int64_t>(real[0]));
     }},
    {"after_an_error",  // the emulation goes on after a kernel that it had to stop
     [](Image& image) {
       try {
         RUN(divergent_kernel);
       } catch (const std::exception&) {
         RUN(neighbour_kernel<true>);
       }
     }},
    {"too_many_threads",
     [](Image& image) { FOCUS_KERNEL(fill_kernel, 1, 1025, 0, nullptr, image.data(), kPixels, 0); }},
    {"grid_too_high",
     [](Image& image) { FOCUS_KERNEL(fill_kernel, dim3(1, 65536), 1, 0, nullptr, image.data(), kPixels, 0); }},
    {"grid_of_zero",  // not through FOCUS_KERNEL, for which it is no launch
     [](Image& image) {
       FOCUS_CUDA_LAUNCH(fill_kernel, dim3(0), 1, 0, nullptr, image.data(), kPixels, 0);
       check(cudaGetLastError(), "fill_kernel");
     }},
    {"too_much_shared",
     [](Image& image) { FOCUS_KERNEL(dynamic_kernel, 1, kThreads, 50000, nullptr, image.data(), kPixels); }},
    {"enough_shared",
     [](Image& image) {
       check(cudaFuncSetAttribute(dynamic_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 50000), "attribute");
       FOCUS_KERNEL(dynamic_kernel, blocks(), kThreads, 50000, nullptr, image.data(), kPixels);
     }},
    {"second_device", [](Image&) { DeviceGuard guard(1); }},
};

}  // namespace
}  // namespace focus

int main(int argc, char** argv) {
  if (argc != 3 || focus::kPlanted.count(argv[1]) == 0) return 64;
  cuda_emulation::set_seed(std::strtoull(argv[2], nullptr, 10));
  focus::Image image(focus::kPixels);
  try {
    focus::kPlanted.at(argv[1])(image);
  } catch (const std::exception& error) {
    std::printf("error: %s\n", error.what());
    return 1;
  }
  focus::print("sum", focus::sum(image));
  return 0;
}
