// Rows of one image on the CPU: a copy of these kernels per instruction set (neighbor_min_loss_simd.cpp).
#pragma once
#include "neighbor_min_loss/neighbor_min_loss.h"

namespace focus {

// Rows [first, end) of image b. The forward takes rows of the map only, and writes the sums of each row's map and mask
// at row_sums[2 * row].
template <class S>
struct NeighborRows {
  const NeighborMinLossParams<S>* p;
  int64_t b, first, end;
  Sum<S>* row_sums;
};
template <class S>
struct NeighborGradRows {
  const NeighborMinLossGradParams<S>* p;
  int64_t b, first, end;
};

struct NeighborKernels {
  void (*f32)(const NeighborRows<float>&);
  void (*f64)(const NeighborRows<double>&);
  void (*f16)(const NeighborRows<F16>&);
  void (*bf16)(const NeighborRows<Bf16>&);
  void (*grad_f32)(const NeighborGradRows<float>&);
  void (*grad_f64)(const NeighborGradRows<double>&);
  void (*grad_f16)(const NeighborGradRows<F16>&);
  void (*grad_bf16)(const NeighborGradRows<Bf16>&);
};

const NeighborKernels& neighbor_kernels();  // for the instruction set in use

inline void run(const NeighborRows<float>& r) { neighbor_kernels().f32(r); }
inline void run(const NeighborRows<double>& r) { neighbor_kernels().f64(r); }
inline void run(const NeighborRows<F16>& r) { neighbor_kernels().f16(r); }
inline void run(const NeighborRows<Bf16>& r) { neighbor_kernels().bf16(r); }
inline void run(const NeighborGradRows<float>& r) { neighbor_kernels().grad_f32(r); }
inline void run(const NeighborGradRows<double>& r) { neighbor_kernels().grad_f64(r); }
inline void run(const NeighborGradRows<F16>& r) { neighbor_kernels().grad_f16(r); }
inline void run(const NeighborGradRows<Bf16>& r) { neighbor_kernels().grad_bf16(r); }

}  // namespace focus
