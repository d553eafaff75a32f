// masked_pixel_loss: distances of two images, weighted by a mask, summed; and the mask without outliers.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

#include "core/half.h"

namespace focus {

// The numbers of KINDS and REDUCTIONS in focus_kernels/ops/masked_pixel_loss/op.py.
enum class PixelKind : int64_t { squared = 0, l2 = 1, l1 = 2 };
enum class PixelReduction : int64_t { none = 0, sum = 1, mean = 2, mask_mean = 3, batch_mask_mean = 4 };

// What a pixel costs: scale * r2 + offset, r or |d|_1, by kind; and which pixels count.
struct PixelRule {
  PixelKind kind;
  PixelReduction reduction;
  double scale, offset;  // of squared
  double threshold;      // of r2, where there is a cut
  bool cut;
};

// S is the type in memory; P = H * W.
template <class S>
struct MaskedPixelLossParams {
  const S* target;    // [B, 3, P]
  const S* rendered;  // [B, 3, P]
  const S* mask;      // [B, P]
  Sum<S>* loss;       // [] or, where nothing is reduced, [B, P]
  double* sums;       // what the backward needs: (sum, weight) in [B, 2] of mask_mean, [1, 2] of batch_mask_mean
  PixelRule rule;
  int64_t B, P;
  int threads;
};

template <class S>
struct MaskedPixelLossGradParams {
  const Sum<S>* grad;  // [] or [B, P]
  const S* target;     // [B, 3, P]
  const S* rendered;   // [B, 3, P]
  const S* mask;       // [B, P]
  const double* sums;  // as the forward left them
  S* grad_target;      // [B, 3, P] or null
  S* grad_rendered;    // [B, 3, P] or null
  S* grad_mask;        // [B, P] or null
  PixelRule rule;
  int64_t B, P;
  int threads;
};

template <class S>
struct InlierMaskParams {
  const S* target;    // [B, 3, P]
  const S* rendered;  // [B, 3, P]
  const S* mask;      // [B, P]
  S* out;             // [B, P]
  double threshold;
  int64_t B, P;
  int threads;
};

template <class S>
void masked_pixel_loss_cpu(const MaskedPixelLossParams<S>&);
template <class S>
void masked_pixel_loss_grad_cpu(const MaskedPixelLossGradParams<S>&);
template <class S>
void inlier_mask_cpu(const InlierMaskParams<S>&);

}  // namespace focus
