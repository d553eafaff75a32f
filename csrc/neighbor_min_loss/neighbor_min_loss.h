// neighbor_min_loss: each pixel of one image against the most similar of its neighbours in the other.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

#include "core/half.h"

namespace focus {

enum class NeighborReduction : int { mean = 0, mask_mean = 1, sum = 2, none = 3 };

struct NeighborRule {
  int radius;          // the window is 2 radius + 1 wide
  bool search_target;  // the neighbours are the target's, else those of the rendered image
  bool squared;        // the squared distance, else its root
  bool mask_images;    // the mask multiplies both images, else the smallest distance
  bool valid;          // only pixels whose window is inside of the image: H' = H - 2 radius, else H' = H; W' alike
  NeighborReduction reduction;
};

// S: as the images lie in memory; sums and results are Sum<S>.
template <class S>
struct NeighborMinLossParams {
  const S* target;    // [B, 3, H, W]
  const S* rendered;  // [B, 3, H, W]
  const S* mask;      // [B, 1, H, W]
  Sum<S>* out;        // [], or [B, 1, H', W'] without a reduction
  uint8_t* winner;    // [B, H', W'] (dy + radius) * window + dx + radius of the nearest neighbour
  Sum<S>* sums;       // [B, 2] of the map and of the mask, over the pixels of the map
  int64_t B, H, W;
  NeighborRule rule;
  int threads;
};

template <class S>
struct NeighborMinLossGradParams {
  const Sum<S>* grad;     // as out
  const S* target;        // [B, 3, H, W]
  const S* rendered;      // [B, 3, H, W]
  const S* mask;          // [B, 1, H, W]
  const uint8_t* winner;  // [B, H', W']
  const Sum<S>* sums;     // [B, 2]
  S* grad_target;         // [B, 3, H, W] or null
  S* grad_rendered;       // [B, 3, H, W] or null
  S* grad_mask;           // [B, 1, H, W] or null
  int64_t B, H, W;
  NeighborRule rule;
  int threads;
};

template <class S>
void neighbor_min_loss_cpu(const NeighborMinLossParams<S>&);
template <class S>
void neighbor_min_loss_grad_cpu(const NeighborMinLossGradParams<S>&);

}  // namespace focus
