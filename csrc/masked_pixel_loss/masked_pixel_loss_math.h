// How sums become a loss, and its gradient the factors of an image.
#pragma once
#include "core/hd.h"
#include "masked_pixel_loss/masked_pixel_loss.h"

namespace focus {

// max(weight, 1), as torch.clamp has it: NaN stays.
FOCUS_HD double denominator(double weight) { return weight < 1 ? 1 : weight; }

// The gradient to a pixel's distance is `of_sum` * m, that to its weight m `of_sum` * distance - `of_weight`.
struct ImageFactors {
  double of_sum, of_weight;
};

FOCUS_HD ImageFactors masked_factors(double grad, const double sums[2]) {
  const double below = denominator(sums[1]), of_sum = grad / below;
  return {of_sum, sums[1] >= 1 ? of_sum * (sums[0] / below) : 0};
}

}  // namespace focus
