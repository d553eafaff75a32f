// masked_pixel_loss on the CPU: blocks of pixels in parallel, their sums added in order.
#include <algorithm>
#include <memory>

#include "core/cpu.h"
#include "core/pages.h"
#include "core/parallel.h"
#include "masked_pixel_loss/masked_pixel_loss_block.h"
#include "masked_pixel_loss/masked_pixel_loss_math.h"

namespace focus {

namespace baseline {
extern const PixelKernels pixel_table;
}
#ifdef FOCUS_X86_SIMD
namespace avx2 {
extern const PixelKernels pixel_table;
}
namespace avx512 {
extern const PixelKernels pixel_table;
}
#endif

namespace {

// Pixels of one job. An image has the same blocks whatever the batch and the number of threads.
constexpr int64_t kBlock = 8192;

const PixelKernels& pixel_kernels() {
#ifdef FOCUS_X86_SIMD
  if (isa() == Isa::avx512) return avx512::pixel_table;
  if (isa() == Isa::avx2) return avx2::pixel_table;
#endif
  return baseline::pixel_table;
}

const PixelKernelsOf<float>& of(const PixelKernels& k, const float*) { return k.f32; }
const PixelKernelsOf<double>& of(const PixelKernels& k, const double*) { return k.f64; }
const PixelKernelsOf<F16>& of(const PixelKernels& k, const F16*) { return k.f16; }
const PixelKernelsOf<Bf16>& of(const PixelKernels& k, const Bf16*) { return k.bf16; }

// Calls body(kernels, image, block of its pixels) for all of them.
template <class P, class Body>
void each_block(const P& p, const PixelRule& rule, const Body& body) {
  const int64_t blocks = (p.P + kBlock - 1) / kBlock;
  const auto& kernels = of(pixel_kernels(), p.target);
  parallel_for(p.B * blocks, p.threads, [&](int64_t job) {
    const int64_t b = job / blocks, first = job % blocks * kBlock, last = std::min(first + kBlock, p.P);
    body(kernels, b,
         PixelBlock<std::decay_t<decltype(*p.target)>>{p.target + 3 * p.P * b, p.rendered + 3 * p.P * b,
                                                       p.mask + p.P * b, rule, p.P, first, last});
  });
}

}  // namespace

template <class S>
void masked_pixel_loss_cpu(const MaskedPixelLossParams<S>& p) {
  if (p.rule.reduction == PixelReduction::none) {
    expect_large_pages(p.loss, p.B * p.P);
    each_block(p, p.rule, [&](const PixelKernelsOf<S>& kernels, int64_t b, const PixelBlock<S>& block) {
      kernels.map(block, p.loss + p.P * b);
    });
    return;
  }
  const int64_t blocks = (p.P + kBlock - 1) / kBlock;
  std::unique_ptr<double[]> parts(new double[2 * p.B * blocks]);
  each_block(p, p.rule, [&](const PixelKernelsOf<S>& kernels, int64_t b, const PixelBlock<S>& block) {
    kernels.sums(block, parts.get() + 2 * (blocks * b + block.first / kBlock));
  });
  double loss = 0, batch[2] = {0, 0};
  for (int64_t b = 0; b < p.B; ++b) {
    double image[2] = {0, 0};
    for (int64_t k = 0; k < blocks; ++k)
      for (int i = 0; i < 2; ++i) image[i] += parts[2 * (blocks * b + k) + i];
    for (int i = 0; i < 2; ++i) batch[i] += image[i];
    if (p.rule.reduction != PixelReduction::mask_mean) continue;
    for (int i = 0; i < 2; ++i) p.sums[2 * b + i] = image[i];
    loss += image[0] / denominator(image[1]);
  }
  switch (p.rule.reduction) {
    case PixelReduction::mask_mean:
      loss /= static_cast<double>(std::max<int64_t>(p.B, 1));
      break;
    case PixelReduction::batch_mask_mean:
      for (int i = 0; i < 2; ++i) p.sums[i] = batch[i];
      loss = batch[0] / denominator(batch[1]);
      break;
    case PixelReduction::mean:
      loss = batch[0] / static_cast<double>(std::max<int64_t>(p.B * p.P, 1));
      break;
    default:
      loss = batch[0];
  }
  *p.loss = static_cast<Sum<S>>(loss);
}

template <class S>
void masked_pixel_loss_grad_cpu(const MaskedPixelLossGradParams<S>& p) {
  for (S* out : {p.grad_target, p.grad_rendered}) expect_large_pages(out, 3 * p.B * p.P);
  expect_large_pages(p.grad_mask, p.B * p.P);
  const PixelReduction reduction = p.rule.reduction;
  const bool per_pixel = reduction == PixelReduction::none;
  each_block(p, p.rule, [&](const PixelKernelsOf<S>& kernels, int64_t b, const PixelBlock<S>& block) {
    ImageFactors factors{per_pixel ? 1 : static_cast<double>(*p.grad), 0};
    if (reduction == PixelReduction::mean) factors.of_sum /= static_cast<double>(p.B * p.P);
    if (reduction == PixelReduction::mask_mean)
      factors = masked_factors(factors.of_sum / static_cast<double>(p.B), p.sums + 2 * b);
    if (reduction == PixelReduction::batch_mask_mean) factors = masked_factors(factors.of_sum, p.sums);
    auto image = [&](S* out, int64_t channels) { return out == nullptr ? out : out + channels * p.P * b; };
    kernels.grad(block, {per_pixel ? p.grad + p.P * b : nullptr, static_cast<Sum<S>>(factors.of_sum),
                         static_cast<Sum<S>>(factors.of_weight), image(p.grad_target, 3), image(p.grad_rendered, 3),
                         image(p.grad_mask, 1)});
  });
}

template <class S>
void inlier_mask_cpu(const InlierMaskParams<S>& p) {
  expect_large_pages(p.out, p.B * p.P);
  const PixelRule rule{PixelKind::squared, PixelReduction::none, 1, 0, p.threshold, true};
  each_block(p, rule, [&](const PixelKernelsOf<S>& kernels, int64_t b, const PixelBlock<S>& block) {
    kernels.inliers(block, p.out + p.P * b);
  });
}

#define FOCUS_INSTANCES(S)                                                       \
  template void masked_pixel_loss_cpu(const MaskedPixelLossParams<S>&);          \
  template void masked_pixel_loss_grad_cpu(const MaskedPixelLossGradParams<S>&); \
  template void inlier_mask_cpu(const InlierMaskParams<S>&);
FOCUS_INSTANCES(float)
FOCUS_INSTANCES(double)
FOCUS_INSTANCES(F16)
FOCUS_INSTANCES(Bf16)

}  // namespace focus
