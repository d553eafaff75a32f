// What blend_cpu.cpp hands to the kernels of blend_simd.cpp, of which each instruction set has a copy.
#pragma once
#include <cstdint>

#include "core/half.h"

namespace focus {

// Columns [begin, end) of out[r] = base + sum over j of weights[r][j] * rows[j], for all r.
template <class In, class Out>
struct Product {
  const Sum<In>* base;     // [N] or null
  const In* const* rows;   // [J] each [N]
  const Sum<In>* weights;  // [R, J]
  Out* out;                // [R, N]
  int64_t R, J, N;
};

// sums[b][k] = sum over the columns [begin, end), a stripe, of grad[b] * basis[k].
template <class M>
struct Dots {
  const Sum<M>* grad;  // [B, N]
  const M* basis;      // [K, N], row k at basis + stride * k
  int64_t B, K, N, stride;
};

template <class In, class Out>
using ProductKernel = void(const Product<In, Out>&, int64_t begin, int64_t end);
template <class M>
using DotsKernel = void(const Dots<M>&, int64_t begin, int64_t end, Sum<M>* sums);

constexpr int64_t kColumns = 4096;  // of one job of a product

struct BlendKernels {
  ProductKernel<float, float>* product_f32;
  ProductKernel<Bf16, float>* product_bf16;
  ProductKernel<F16, float>* product_f16;
  ProductKernel<double, double>* product_f64;
  ProductKernel<float, Bf16>* product_to_bf16;
  ProductKernel<float, F16>* product_to_f16;
  DotsKernel<float>* dots_f32;
  DotsKernel<Bf16>* dots_bf16;
  DotsKernel<F16>* dots_f16;
  DotsKernel<double>* dots_f64;
};

}  // namespace focus
