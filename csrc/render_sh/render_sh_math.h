// One vertex through the camera, with gradients; shared by the CPU and the CUDA kernels.
#pragma once
#include <cmath>

#include "core/hd.h"
#include "rasterize/rasterize_math.h"
#include "shade_sh/shade_sh_math.h"
#include "vertex_normals/vertex_normals_math.h"

namespace focus {

// out = M v (rows times v)
template <class T>
FOCUS_HD void rotate(const T* M, const T v[3], T out[3]) {
  for (int i = 0; i < 3; ++i) out[i] = (M[3 * i] * v[0] + M[3 * i + 1] * v[1]) + M[3 * i + 2] * v[2];
}

// out = M^T v
template <class T>
FOCUS_HD void rotate_back(const T* M, const T v[3], T out[3]) {
  for (int i = 0; i < 3; ++i) out[i] = (M[i] * v[0] + M[3 + i] * v[1]) + M[6 + i] * v[2];
}

// A depth of zero would divide to NaN; what is that near is dropped by the rasterizer all the same.
template <class T>
FOCUS_HD T divisor(T z) {
  return std::fabs(z) < T(kMinDepth) ? (std::signbit(z) ? -T(kMinDepth) : T(kMinDepth)) : z;
}

// Camera frame -> pixels and depth.
template <class T>
FOCUS_HD void to_pixels(const T* K, bool orthographic, const T c[3], T out[3]) {
  for (int i = 0; i < 2; ++i) {
    T sum = K[3 * i] * c[0] + K[3 * i + 1] * c[1];
    out[i] = orthographic ? sum + K[3 * i + 2] : (sum + K[3 * i + 2] * c[2]) / divisor(c[2]);
  }
  out[2] = c[2];
}

template <class T>
FOCUS_HD void project_vertex(const T* K, const T* R, const T* t, bool orthographic, const T* v, T out[3]) {
  T c[3];
  rotate(R, v, c);
  for (int i = 0; i < 3; ++i) c[i] = c[i] + t[i];
  to_pixels(K, orthographic, c, out);
}

// Whether a projected vertex has gradients: float32 could not divide by the others.
template <class T>
FOCUS_HD bool has_gradient(const T position[3], bool orthographic) {
  if (!(is_finite(position[0]) && is_finite(position[1]) && is_finite(position[2]))) return false;
  T depth = std::fabs(position[2]);
  return orthographic || (depth >= T(kMinDepth) && depth <= T(kMaxDepth) && std::fabs(position[0]) <= T(kMaxDepth) &&
                          std::fabs(position[1]) <= T(kMaxDepth));
}

// grad of position -> grad_v[3], and added to sums: K (6, its first two rows), R (9), t (3).
template <class T>
FOCUS_HD void project_vertex_grad(const T* K, const T* R, const T* t, bool orthographic, const T* v,
                                  const T position[3], const T grad[3], T grad_v[3], T sums[18]) {
  T c[3], grad_c[3] = {0, 0, grad[2]};
  rotate(R, v, c);
  for (int i = 0; i < 3; ++i) c[i] = c[i] + t[i];
  for (int i = 0; i < 2; ++i) {
    T g = orthographic ? grad[i] : grad[i] / c[2];
    grad_c[0] += K[3 * i] * g;
    grad_c[1] += K[3 * i + 1] * g;
    if (!orthographic) grad_c[2] += (K[3 * i + 2] - position[i]) * g;
    sums[3 * i] += c[0] * g;
    sums[3 * i + 1] += c[1] * g;
    sums[3 * i + 2] += orthographic ? g : grad[i];
  }
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < 3; ++k) sums[6 + 3 * i + k] += grad_c[i] * v[k];
    sums[15 + i] += grad_c[i];
  }
  rotate_back(R, grad_c, grad_v);
}

// The colour of a vertex from the sum of its face normals.
template <class T>
FOCUS_HD void color_vertex(const T sum[4], const T* R, const T* albedo, const T* sh, bool focus, T color[3]) {
  T n[3], turned[3];
  finish_normal(sum, !focus, n);
  rotate(R, n, turned);
  shade_vertex(turned, albedo, sh, focus, color);
}

// Gradient of the colour -> albedo, the sum of face normals, and added to sums: light (27), R (9).
template <class T>
FOCUS_HD void color_vertex_grad(const T sum[4], const T* R, const T* albedo, const T* sh, bool focus, const T* grad,
                                T* grad_albedo, T grad_sum[4], T light_sums[27], T R_sums[9]) {
  T n[3], turned[3], grad_turned[3], grad_n[3], own[27];
  finish_normal(sum, !focus, n);
  rotate(R, n, turned);
  shade_vertex_grad(turned, albedo, sh, focus, grad, grad_turned, grad_albedo, own);
  for (int k = 0; k < 27; ++k) light_sums[k] += own[k];
  for (int i = 0; i < 3; ++i)
    for (int k = 0; k < 3; ++k) R_sums[3 * i + k] += grad_turned[i] * n[k];
  rotate_back(R, grad_turned, grad_n);
  finish_normal_grad(sum, !focus, grad_n, grad_sum);
}

// One visible pixel of image b: gradients to the positions and the colours of its corners.
template <class T>
struct PixelGrad {
  Vec3<T> position[3];
  T color[3][3];
};

// grad_rgb[c * plane] is the gradient of channel c, or null; grad_b and grad_d likewise.
template <class T>
FOCUS_HD void pixel_grad(const Triangle<T>& t, const T* const color[3], T px, T py, bool perspective, const T* grad_rgb,
                         int64_t plane, const T* grad_b, const T* grad_d, PixelGrad<T>& out) {
  T g[3] = {0, 0, 0}, e[3], b[3];
  edges(t, px, py, e);
  barycentrics_at(t, e, perspective, b);  // the sign of e cancels
  for (int k = 0; k < 3; ++k) {
    if (grad_b != nullptr) g[k] = grad_b[k];
    for (int c = 0; c < 3; ++c) {
      out.color[k][c] = 0;
      if (grad_rgb == nullptr) continue;
      out.color[k][c] = grad_rgb[c * plane] * b[k];
      g[k] += grad_rgb[c * plane] * color[k][c];
    }
  }
  sample_grad(t, px, py, perspective, g, grad_d != nullptr ? *grad_d : T(0), out.position);
}

}  // namespace focus
