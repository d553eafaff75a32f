// Which pixels and neighbours there are, and what a reduction makes of a gradient.
#pragma once
#include "core/hd.h"
#include "neighbor_min_loss/neighbor_min_loss.h"

namespace focus {

// [first, end)
struct Span {
  int64_t first, end;
  FOCUS_HD_MEMBER int64_t size() const { return end - first; }
};

// The rows (or columns) of an image that the map has.
FOCUS_HD Span map_span(int64_t size, const NeighborRule& rule) {
  const int64_t off = rule.valid ? rule.radius : 0;
  return {off, size - off};
}

// The offsets from row (or column) `at` that stay inside of the image.
FOCUS_HD Span offsets_at(int64_t at, int64_t size, int64_t radius) {
  return {at < radius ? -at : -radius, (size - 1 - at < radius ? size - 1 - at : radius) + 1};
}

// What the mask's sum divides: torch's clamp(min=1), which lets a NaN through.
template <class T>
FOCUS_HD T mask_divisor(T mask_sum) {
  return larger(mask_sum, T(1));
}

// The gradient to each pixel of an image's map, from that to the reduced number.
template <class T>
FOCUS_HD T map_gradient(T grad, NeighborReduction reduction, int64_t B, int64_t pixels, T mask_sum) {
  if (reduction == NeighborReduction::mean) return grad / static_cast<T>(B * pixels);
  if (reduction == NeighborReduction::mask_mean) return grad / static_cast<T>(B) / mask_divisor(mask_sum);
  return grad;
}

// What the divisor takes from the gradient to the mask; 0 where it is 1 whatever the mask is.
template <class T>
FOCUS_HD T divisor_gradient(T map_gradient, NeighborReduction reduction, T map_sum, T mask_sum) {
  if (reduction != NeighborReduction::mask_mean || mask_sum < 1) return 0;
  return map_gradient * (map_sum / mask_sum);
}

}  // namespace focus
