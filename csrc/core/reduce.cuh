// Sums over a warp and a block, always in the same order. Included by .cu files only.
#pragma once
#include "core/cuda.cuh"

namespace focus {
namespace {

// Lanes trade halves of their 2 * kHalf values until one is left. Recursive, so that every index is a constant and the
// values stay in registers.
template <int kHalf, class T>
__device__ __forceinline__ void trade_halves(T* x) {
  if constexpr (kHalf > 0) {
    const bool upper = (threadIdx.x & kHalf) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const T keep = upper ? x[i + kHalf] : x[i], give = upper ? x[i] : x[i + kHalf];
      x[i] = keep + __shfl_xor_sync(kAllLanes, give, kHalf);
    }
    trade_halves<kHalf / 2>(x);
  }
}

// Lane l gets the sum over the warp of x[l % N]; N is a power of two, x is destroyed. 32 values cost 31 shuffles, not
// 160.
template <int N, class T>
__device__ __forceinline__ T warp_sum(T* x) {
  trade_halves<N / 2>(x);
  T sum = x[0];
#pragma unroll
  for (int step = N; step < 32; step *= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  return sum;
}

// row[k] = sum over the warp of x[k], k < N.
template <int N, class T>
__device__ __forceinline__ void warp_sums(T* x, T* row) {
  constexpr int kPiece = N >= 32 ? 32 : N >= 16 ? 16 : N >= 8 ? 8 : N >= 4 ? 4 : N >= 2 ? 2 : 1;
  const int lane = threadIdx.x % 32;
  const T sum = warp_sum<kPiece>(x);
  if (lane < kPiece) row[lane] = sum;
  if constexpr (N > kPiece) warp_sums<N - kPiece>(x + kPiece, row + kPiece);
}

// out[k * stride] = sum over the block of x[k], k < N. `some` may be false in threads whose x is all zero. Every thread
// of the block must call it.
template <int N, class T>
__device__ __forceinline__ void block_sums(T* x, bool some, T (*rows)[N], T* out, int64_t stride) {
  T* row = rows[threadIdx.x / 32];
  if (__any_sync(kAllLanes, some)) {
    warp_sums<N>(x, row);
  } else {
    for (int k = threadIdx.x % 32; k < N; k += 32) row[k] = 0;
  }
  __syncthreads();
  if (threadIdx.x < N) {
    T sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += rows[w][threadIdx.x];
    out[threadIdx.x * stride] = sum;
  }
  __syncthreads();
}

// Sum over the parts of column k of partial [parts, columns], by one warp, in every lane.
template <class T>
__device__ __forceinline__ T sum_parts(const T* partial, int64_t parts, int columns, int k) {
  T sum = 0;
  for (int64_t i = threadIdx.x % 32; i < parts; i += 32) sum += partial[columns * i + k];
  return warp_sum<1>(&sum);
}

}  // namespace
}  // namespace focus
