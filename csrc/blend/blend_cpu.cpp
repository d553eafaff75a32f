// blend on the CPU: columns in parallel. The forward, the gradient of the basis and that of the mean are one product of
// weights and rows; the gradient of the coefficients is a sum over columns, of each stripe and then of stripes.
#include <algorithm>
#include <memory>
#include <vector>

#include "blend/blend.h"
#include "blend/blend_lanes.h"
#include "blend/blend_math.h"
#include "core/cpu.h"
#include "core/pages.h"
#include "core/parallel.h"

namespace focus {

namespace baseline {
extern const BlendKernels blend_table;
}
#ifdef FOCUS_X86_SIMD
namespace avx2 {
extern const BlendKernels blend_table;
}
namespace avx512 {
extern const BlendKernels blend_table;
}
#endif

namespace {

const BlendKernels& blend_kernels() {
#ifdef FOCUS_X86_SIMD
  if (isa() == Isa::avx512) return avx512::blend_table;
  if (isa() == Isa::avx2) return avx2::blend_table;
#endif
  return baseline::blend_table;
}

auto kernel(const Product<float, float>&) { return blend_kernels().product_f32; }
auto kernel(const Product<Bf16, float>&) { return blend_kernels().product_bf16; }
auto kernel(const Product<F16, float>&) { return blend_kernels().product_f16; }
auto kernel(const Product<double, double>&) { return blend_kernels().product_f64; }
auto kernel(const Product<float, Bf16>&) { return blend_kernels().product_to_bf16; }
auto kernel(const Product<float, F16>&) { return blend_kernels().product_to_f16; }
auto kernel(const Dots<float>&) { return blend_kernels().dots_f32; }
auto kernel(const Dots<Bf16>&) { return blend_kernels().dots_bf16; }
auto kernel(const Dots<F16>&) { return blend_kernels().dots_f16; }
auto kernel(const Dots<double>&) { return blend_kernels().dots_f64; }

template <class In, class Out>
void multiply(const Product<In, Out>& p, int threads) {
  const auto run = kernel(p);
  expect_large_pages(p.out, p.R * p.N);
  parallel_for((p.N + kColumns - 1) / kColumns, threads,
               [&](int64_t job) { run(p, kColumns * job, std::min(kColumns * (job + 1), p.N)); });
}

template <class M>
void grad_coeffs(const BlendGradParams<M>& p) {
  using T = Sum<M>;
  const Dots<M> dots{p.grad, p.basis, p.B, p.K, p.N, p.stride};
  const auto run = kernel(dots);
  const int64_t stripes = stripes_of(p.N), size = p.B * p.K;
  std::unique_ptr<T[]> sums(new T[stripes * size]);  // [stripes, B, K]
  parallel_for(stripes, p.threads, [&](int64_t stripe) {
    run(dots, kStripe * stripe, std::min(kStripe * (stripe + 1), p.N), sums.get() + size * stripe);
  });
  parallel_for(p.B, p.threads, [&](int64_t b) {
    for (int64_t i = p.K * b; i < p.K * (b + 1); ++i) {
      double total = 0;
      for (int64_t stripe = 0; stripe < stripes; ++stripe) total += sums[size * stripe + i];
      p.grad_coeffs[i] = static_cast<T>(total);
    }
  });
}

}  // namespace

template <class M>
void blend_cpu(const BlendParams<M>& p) {
  // Only the components that some image has.
  std::vector<const M*> rows;
  std::vector<int64_t> used;
  for (int64_t k = 0; k < p.K; ++k) {
    bool zero = true;
    for (int64_t b = 0; b < p.B; ++b) zero = zero && p.coeffs[p.K * b + k] == 0;
    if (zero) continue;
    rows.push_back(p.basis + p.stride * k);
    used.push_back(k);
  }
  const int64_t J = static_cast<int64_t>(used.size());
  std::vector<Sum<M>> weights(p.B * J);
  for (int64_t b = 0; b < p.B; ++b)
    for (int64_t j = 0; j < J; ++j) weights[J * b + j] = p.coeffs[p.K * b + used[j]];
  multiply(Product<M, Sum<M>>{p.mean, rows.data(), weights.data(), p.out, p.B, J, p.N}, p.threads);
}

template <class M>
void blend_grad_cpu(const BlendGradParams<M>& p) {
  using T = Sum<M>;
  std::vector<const T*> rows;
  for (int64_t b = 0; b < p.B; ++b) rows.push_back(p.grad + p.N * b);
  if (p.grad_mean != nullptr) {
    const std::vector<T> ones(p.B, 1);
    multiply(Product<T, T>{nullptr, rows.data(), ones.data(), p.grad_mean, 1, p.B, p.N}, p.threads);
  }
  if (p.grad_basis != nullptr) {
    std::vector<T> weights(p.K * p.B);
    for (int64_t k = 0; k < p.K; ++k)
      for (int64_t b = 0; b < p.B; ++b) weights[p.B * k + b] = p.coeffs[p.K * b + k];
    multiply(Product<T, M>{nullptr, rows.data(), weights.data(), p.grad_basis, p.K, p.B, p.N}, p.threads);
  }
  if (p.grad_coeffs != nullptr) grad_coeffs(p);
}

template void blend_cpu(const BlendParams<float>&);
template void blend_cpu(const BlendParams<Bf16>&);
template void blend_cpu(const BlendParams<F16>&);
template void blend_cpu(const BlendParams<double>&);
template void blend_grad_cpu(const BlendGradParams<float>&);
template void blend_grad_cpu(const BlendGradParams<Bf16>&);
template void blend_grad_cpu(const BlendGradParams<F16>&);
template void blend_grad_cpu(const BlendGradParams<double>&);

}  // namespace focus
