// FOCUS_HD marks math that the CPU and the CUDA kernels share; FOCUS_HD_MEMBER the same inside a struct.
#pragma once
#ifdef __CUDACC__
#define FOCUS_HD static __host__ __device__ __forceinline__
#define FOCUS_HD_MEMBER __host__ __device__ __forceinline__
#else
// static: each instruction set's copy of a header stays in its own object file (no comdat merging across -mavx512f).
#define FOCUS_HD static inline
#define FOCUS_HD_MEMBER __attribute__((always_inline)) inline
#endif

namespace focus {

// Without std::fmax, which is a call into libm on the CPU.
template <class T>
FOCUS_HD T larger(T a, T b) {
  return a < b ? b : a;
}

template <class T>
FOCUS_HD bool is_finite(T x) {
  return x - x == 0;
}

}  // namespace focus
