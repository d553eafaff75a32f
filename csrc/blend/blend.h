// blend: mean + coefficients times basis, a linear face model for a batch. M is how a basis lies in memory: float,
// Bf16, F16 or double; everything else is Sum<M>. N = 3 V columns.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

#include "core/half.h"

namespace focus {

template <class M>
struct BlendParams {
  const Sum<M>* mean;    // [N]
  const M* basis;        // [K, N], row k at basis + stride * k
  const Sum<M>* coeffs;  // [B, K]
  Sum<M>* out;           // [B, N]
  int64_t B, K, N, stride;
  int threads;
};

template <class M>
struct BlendGradParams {
  const Sum<M>* grad;    // [B, N] gradient of out
  const M* basis;        // [K, N], row k at basis + stride * k; read for grad_coeffs only
  const Sum<M>* coeffs;  // [B, K], read for grad_basis only
  Sum<M>* grad_mean;     // [N] or null
  M* grad_basis;         // [K, N] or null
  Sum<M>* grad_coeffs;   // [B, K] or null
  int64_t B, K, N, stride;
  int threads;
};

template <class M>
void blend_cpu(const BlendParams<M>&);
template <class M>
void blend_grad_cpu(const BlendGradParams<M>&);

}  // namespace focus
