// The CUDA runtime and the built-in functions of kernels, as far as csrc uses them, in plain C++: .cu files that
// include this file in place of NVIDIA's run on the CPU. See emulation.cpp for how threads run, shadow.cpp for races.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

struct CUstream_st;
using cudaStream_t = CUstream_st*;  // everything is done when the call returns, whatever the stream

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaMemsetAsync(void* data, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
template <class... Args>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Args...), cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace cuda_emulation {

struct Indices {
  dim3 thread, block, block_dim, grid_dim;
};
extern Indices indices;  // of the thread that runs now

// Of the memory that a `__shared__` variable, known by the address of `site`, has in the running block.
void* shared_memory(const void* site, size_t bytes, size_t alignment);
void* dynamic_shared_memory();

// Runs the grid. Throws std::runtime_error for what no GPU reports: a race, a barrier that not all threads reach, a
// read of shared memory that nobody wrote, a shuffle from a lane that does not take part.
void launch(const char* name, const void* kernel, dim3 grid, dim3 block, size_t shared,
            const std::function<void()>& body);

void sync_threads();
void sync_warp(unsigned mask);
// Waits for the lanes of `mask` to come to the same `operation`; all[lane] is what each of them brought.
void exchange(const char* operation, unsigned mask, uint64_t mine, uint64_t (&all)[32]);
unsigned lane();
uint64_t taken(const char* operation, unsigned mask, const uint64_t (&all)[32], unsigned from);
void note_atomic(const volatile void* data, size_t bytes, const void* where);

template <auto kernel>
const char* name() {
  return __PRETTY_FUNCTION__;
}

template <class To, class From>
To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class T>
T shuffle(const char* operation, unsigned mask, T value, unsigned from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  uint64_t all[32];
  exchange(operation, mask, bits<Bits>(value), all);
  return bits<T>(static_cast<Bits>(taken(operation, mask, all, from)));
}

// One atomic read-modify-write: nothing else runs meanwhile, so only the log must know.
template <class T, class F>
__attribute__((noinline, no_sanitize_thread)) T atomic(T* p, F next) {
  note_atomic(p, sizeof(T), __builtin_return_address(0));
  const T before = *p;
  *p = next(before);
  return before;
}

}  // namespace cuda_emulation

#define threadIdx (::cuda_emulation::indices.thread)
#define blockIdx (::cuda_emulation::indices.block)
#define blockDim (::cuda_emulation::indices.block_dim)
#define gridDim (::cuda_emulation::indices.grid_dim)
constexpr int warpSize = 32;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ _Pragma("GCC error \"shared memory is declared by FOCUS_SHARED\"")

#define FOCUS_CUDA_LAUNCH(kernel, grid, block, shared, stream, ...)                                            \
  (static_cast<void>(stream),                                                                                  \
   ::cuda_emulation::launch(::cuda_emulation::name<(kernel)>(), reinterpret_cast<const void*>(kernel), (grid), \
                            (block), (shared), [&] { kernel(__VA_ARGS__); }))
#define FOCUS_SHARED(type, name, size)                                                      \
  auto& name = *static_cast<std::add_pointer_t<type size>>(::cuda_emulation::shared_memory( \
      []() -> const void* {                                                                 \
        static const char site = 0;                                                         \
        return &site;                                                                       \
      }(),                                                                                  \
      sizeof(type size), alignof(type)))
#define FOCUS_DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(::cuda_emulation::dynamic_shared_memory())

inline void __syncthreads() { ::cuda_emulation::sync_threads(); }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { ::cuda_emulation::sync_warp(mask); }
inline void __threadfence() {}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  uint64_t all[32];
  ::cuda_emulation::exchange("__ballot_sync", mask, predicate != 0, all);
  unsigned votes = 0;
  for (unsigned i = 0; i < 32; ++i)
    if (mask >> i & 1) votes |= static_cast<unsigned>(all[i]) << i;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "");
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const uint64_t mine = ::cuda_emulation::bits<Bits>(value);
  uint64_t all[32];
  ::cuda_emulation::exchange("__match_any_sync", mask, mine, all);
  unsigned equal = 0;
  for (unsigned i = 0; i < 32; ++i)
    if ((mask >> i & 1) != 0 && all[i] == mine) equal |= 1u << i;
  return equal;
}

// `width` lanes, a power of two, shuffle among themselves.
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
  const unsigned first = ::cuda_emulation::lane() & ~(width - 1u);
  return ::cuda_emulation::shuffle("__shfl_sync", mask, value, first + (from & (width - 1u)));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = ::cuda_emulation::lane(), within = lane & (width - 1u);
  return ::cuda_emulation::shuffle("__shfl_up_sync", mask, value, within < delta ? lane : lane - delta);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = ::cuda_emulation::lane(), within = lane & (width - 1u);
  return ::cuda_emulation::shuffle("__shfl_down_sync", mask, value,
                                   within + delta >= static_cast<unsigned>(width) ? lane : lane + delta);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const unsigned lane = ::cuda_emulation::lane(), end = (lane & ~(width - 1u)) + width, from = lane ^ bits;
  return ::cuda_emulation::shuffle("__shfl_xor_sync", mask, value, from < end ? from : lane);
}

template <class T>
T atomicAdd(T* p, std::common_type_t<T> x) {
  return ::cuda_emulation::atomic(p, [x](T old) { return static_cast<T>(old + x); });
}
template <class T>
T atomicMin(T* p, std::common_type_t<T> x) {
  return ::cuda_emulation::atomic(p, [x](T old) { return x < old ? x : old; });
}
template <class T>
T atomicMax(T* p, std::common_type_t<T> x) {
  return ::cuda_emulation::atomic(p, [x](T old) { return old < x ? x : old; });
}
template <class T>
T atomicExch(T* p, std::common_type_t<T> x) {
  return ::cuda_emulation::atomic(p, [x](T) { return x; });
}
template <class T>
T atomicCAS(T* p, std::common_type_t<T> compare, std::common_type_t<T> x) {
  return ::cuda_emulation::atomic(p, [compare, x](T old) { return old == compare ? x : old; });
}
template <class T>
T atomicAnd(T* p, std::common_type_t<T> x) {
  return ::cuda_emulation::atomic(p, [x](T old) { return old & x; });
}
template <class T>
T atomicOr(T* p, std::common_type_t<T> x) {
  return ::cuda_emulation::atomic(p, [x](T old) { return old | x; });
}

inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline unsigned __float_as_uint(float x) { return ::cuda_emulation::bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return ::cuda_emulation::bits<float>(x); }
inline int __float_as_int(float x) { return ::cuda_emulation::bits<int>(x); }
inline float __int_as_float(int x) { return ::cuda_emulation::bits<float>(x); }
inline long long __double_as_longlong(double x) { return ::cuda_emulation::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return ::cuda_emulation::bits<double>(x); }
