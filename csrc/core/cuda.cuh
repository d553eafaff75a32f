// What every CUDA kernel here shares: device guard, grid, launch and its check, rows of four. Included by .cu files
// only.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace focus {

inline void check(cudaError_t e, const char* what) {
  if (e != cudaSuccess) throw std::runtime_error(std::string(what) + "(): CUDA error: " + cudaGetErrorString(e));
}

struct DeviceGuard {
  explicit DeviceGuard(int device) : device_(device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != device_) check(cudaSetDevice(device_), "cudaSetDevice");
  }
  // Setting a device creates its context, so the device before is only set again where it was another one.
  ~DeviceGuard() {
    if (before_ != device_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int device_, before_ = 0;
};

constexpr int kThreads = 256;  // of every block
constexpr int kWarps = kThreads / 32;
constexpr int kAnyBlocks = 0;  // in __launch_bounds__: the compiler chooses, and may spill to fit in one block more
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// Blocks for n items in x and B images in y. Kernels loop over the images past 65535 themselves.
inline dim3 grid(int64_t n, int64_t B) {
  return dim3(static_cast<unsigned>((n + kThreads - 1) / kThreads), static_cast<unsigned>(B < 65535 ? B : 65535));
}

// What C++ has no words for. The emulation of the runtime (tests/cuda_emulation), under which the kernels are compiled
// as plain C++, brings its own: all kernels are launched by FOCUS_KERNEL and all shared memory is FOCUS_SHARED.
#ifndef FOCUS_CUDA_EMULATION
#define FOCUS_CUDA_LAUNCH(kernel, grid, block, shared, stream, ...) kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
// FOCUS_SHARED(float, rows, [8][32]); of a scalar: FOCUS_SHARED(int, count, )
#define FOCUS_SHARED(type, name, size) __shared__ type name size
#define FOCUS_DYNAMIC_SHARED(type, name)                                \
  extern __shared__ __align__(16) unsigned char focus_dynamic_shared[]; \
  type* name = reinterpret_cast<type*>(focus_dynamic_shared)
#endif

// The one door to the GPU. A grid without blocks, which CUDA takes for an error, is no launch.
#define FOCUS_KERNEL(kernel, grid, block, shared, stream, ...)                   \
  do {                                                                           \
    const dim3 focus_grid = (grid);                                              \
    if (focus_grid.x != 0 && focus_grid.y != 0 && focus_grid.z != 0) {           \
      FOCUS_CUDA_LAUNCH(kernel, focus_grid, block, shared, stream, __VA_ARGS__); \
      ::focus::check(cudaGetLastError(), #kernel);                               \
    }                                                                            \
  } while (0)

// Every byte of p[0, count) becomes `byte`.
template <class X>
void fill_bytes(X* p, int byte, int64_t count, cudaStream_t stream) {
  if (count > 0) check(cudaMemsetAsync(p, byte, sizeof(X) * static_cast<size_t>(count), stream), "cudaMemsetAsync");
}

__device__ __forceinline__ int64_t thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }

// A read of what other threads may be changing by atomics: some earlier value, never a torn one.
template <class T>
__device__ __forceinline__ T relaxed_load(const T* p) {
  return *static_cast<const volatile T*>(p);
}

// Row and column of a pixel; most images are small enough for the division of 32 bits, which is several times cheaper.
__device__ __forceinline__ void split(int64_t pixel, int64_t W, int64_t& row, int64_t& column) {
  if (((pixel | W) >> 32) == 0) {
    const uint32_t r = static_cast<uint32_t>(pixel) / static_cast<uint32_t>(W);
    row = r;
    column = static_cast<uint32_t>(pixel) - r * static_cast<uint32_t>(W);
  } else {
    row = pixel / W;
    column = pixel - row * W;
  }
}

// A row of a [*, 4] scratch tensor, moved 16 bytes at a time.
template <class T>
struct alignas(16) Four {
  T v[4];
};

template <class T>
__device__ __forceinline__ Four<T> load4(const T* rows, int64_t i) {
  return reinterpret_cast<const Four<T>*>(rows)[i];
}
template <class T>
__device__ __forceinline__ void store4(T* rows, int64_t i, const Four<T>& row) {
  reinterpret_cast<Four<T>*>(rows)[i] = row;
}

}  // namespace focus
