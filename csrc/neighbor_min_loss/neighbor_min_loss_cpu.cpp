// neighbor_min_loss on the CPU: stripes of rows in parallel. A sum is over one row, then over rows in order, so it does
// not depend on the stripes.
#include <algorithm>
#include <vector>

#include "core/cpu.h"
#include "core/pages.h"
#include "core/parallel.h"
#include "neighbor_min_loss/neighbor_min_loss_image.h"
#include "neighbor_min_loss/neighbor_min_loss_math.h"

namespace focus {

namespace baseline {
extern const NeighborKernels neighbor_table;
}
#ifdef FOCUS_X86_SIMD
namespace avx2 {
extern const NeighborKernels neighbor_table;
}
namespace avx512 {
extern const NeighborKernels neighbor_table;
}
#endif

const NeighborKernels& neighbor_kernels() {
#ifdef FOCUS_X86_SIMD
  if (isa() == Isa::avx512) return avx512::neighbor_table;
  if (isa() == Isa::avx2) return avx2::neighbor_table;
#endif
  return baseline::neighbor_table;
}

namespace {

constexpr int64_t kStripe = 32;  // rows; the backward repeats 2 radius rows for each

// Calls body(b, first, end) for the stripes of rows [span.first, span.end) of every image.
template <class Body>
void for_stripes(int64_t B, Span span, int threads, const Body& body) {
  const int64_t stripes = (span.size() + kStripe - 1) / kStripe;
  parallel_for(B * stripes, threads, [&](int64_t job) {
    const int64_t first = span.first + kStripe * (job % stripes);
    body(job / stripes, first, std::min(first + kStripe, span.end));
  });
}

}  // namespace

template <class S>
void neighbor_min_loss_cpu(const NeighborMinLossParams<S>& p) {
  using T = Sum<S>;
  const Span rows = map_span(p.H, p.rule);
  const int64_t pixels = rows.size() * map_span(p.W, p.rule).size();
  const bool reduced = p.rule.reduction != NeighborReduction::none;
  if (!reduced) expect_large_pages(p.out, p.B * pixels);
  std::vector<T> row_sums(static_cast<size_t>(2 * p.B * p.H));
  for_stripes(p.B, rows, p.threads, [&](int64_t b, int64_t first, int64_t end) {
    run(NeighborRows<S>{&p, b, first, end, row_sums.data() + 2 * p.H * b});
  });
  double total = 0;
  for (int64_t b = 0; b < p.B; ++b) {
    double sums[2] = {0, 0};
    for (int64_t y = rows.first; y < rows.end; ++y)
      for (int k = 0; k < 2; ++k) sums[k] += static_cast<double>(row_sums[static_cast<size_t>(2 * (p.H * b + y) + k)]);
    for (int k = 0; k < 2; ++k) p.sums[2 * b + k] = static_cast<T>(sums[k]);
    const bool per_mask = p.rule.reduction == NeighborReduction::mask_mean;
    total += per_mask ? sums[0] / static_cast<double>(mask_divisor(p.sums[2 * b + 1])) : sums[0];
  }
  if (!reduced) return;
  int64_t count = p.rule.reduction == NeighborReduction::mean ? p.B * pixels : 1;
  if (p.rule.reduction == NeighborReduction::mask_mean) count = p.B;
  total /= static_cast<double>(std::max<int64_t>(count, 1));  // the mean of nothing is 0
  *p.out = static_cast<T>(total);
}

template <class S>
void neighbor_min_loss_grad_cpu(const NeighborMinLossGradParams<S>& p) {
  if (p.H * p.W == 0) return;
  for (S* out : {p.grad_target, p.grad_rendered}) expect_large_pages(out, 3 * p.B * p.H * p.W);
  expect_large_pages(p.grad_mask, p.B * p.H * p.W);
  for_stripes(p.B, {0, p.H}, p.threads,
              [&](int64_t b, int64_t first, int64_t end) { run(NeighborGradRows<S>{&p, b, first, end}); });
}

template void neighbor_min_loss_cpu(const NeighborMinLossParams<float>&);
template void neighbor_min_loss_cpu(const NeighborMinLossParams<double>&);
template void neighbor_min_loss_cpu(const NeighborMinLossParams<F16>&);
template void neighbor_min_loss_cpu(const NeighborMinLossParams<Bf16>&);
template void neighbor_min_loss_grad_cpu(const NeighborMinLossGradParams<float>&);
template void neighbor_min_loss_grad_cpu(const NeighborMinLossGradParams<double>&);
template void neighbor_min_loss_grad_cpu(const NeighborMinLossGradParams<F16>&);
template void neighbor_min_loss_grad_cpu(const NeighborMinLossGradParams<Bf16>&);

}  // namespace focus
