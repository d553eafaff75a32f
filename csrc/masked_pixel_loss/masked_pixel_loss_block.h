// A run of pixels of one image on the CPU. A copy per instruction set (masked_pixel_loss_simd.cpp).
#pragma once
#include "masked_pixel_loss/masked_pixel_loss.h"

namespace focus {

// Pointers are to the first pixel of the image; channels lie P apart.
template <class S>
struct PixelBlock {
  const S* target;
  const S* rendered;
  const S* mask;
  PixelRule rule;
  int64_t P, first, last;
};

template <class S>
struct PixelGrads {
  const Sum<S>* grad;  // per pixel, or null: of_sum has it
  Sum<S> of_sum, of_weight;
  S* target;  // each may be null
  S* rendered;
  S* mask;
};

template <class S>
struct PixelKernelsOf {
  void (*sums)(const PixelBlock<S>&, double sums[2]);
  void (*map)(const PixelBlock<S>&, Sum<S>* out);
  void (*grad)(const PixelBlock<S>&, const PixelGrads<S>&);
  void (*inliers)(const PixelBlock<S>&, S* out);
};

struct PixelKernels {
  PixelKernelsOf<float> f32;
  PixelKernelsOf<double> f64;
  PixelKernelsOf<F16> f16;
  PixelKernelsOf<Bf16> bf16;
};

}  // namespace focus
