// PyTorch3D's rules at one covered sample, in pixels: shared by the CPU and the CUDA kernels, which give the same bits.
// e[i] are edges() with the sign that makes them positive, S their sum, A the signed doubled area.
#pragma once
#include "rasterize/rasterize_math.h"
#include "rasterize_ndc/rasterize_ndc.h"

namespace focus {

constexpr double kNdcEpsilon = 1e-8;   // PyTorch3D's kEpsilon
constexpr double kNdcLeastSum = 1e-5;  // and what it divides clipped barycentrics by at least

inline NdcRule ndc_rule(int64_t H, int64_t W, bool perspective, bool clip) {
  const double scale = 0.5 * static_cast<double>(H < W ? H : W);
  return {scale, kNdcEpsilon * scale * scale, perspective, clip};
}

// What draw() decides by. The bias scales a depth only where barycentrics are not normalised.
inline RasterRule raster_rule(const NdcRule& rule, int cull) { return {kStrict, cull, rule.perspective, false}; }
inline AreaRule area_rule(const NdcRule& rule) { return {rule.bias, rule.perspective || rule.clip ? 0.0 : rule.bias}; }

// A vertex in pixels; a depth below zero, which nothing draws, where PyTorch3D drops its faces.
template <class T>
FOCUS_HD Vec3<T> to_pixels(const T* position, int64_t H, int64_t W, double scale) {
  const T s = static_cast<T>(scale), half = T(0.5);
  return {half * static_cast<T>(W) - s * position[0], half * static_cast<T>(H) - s * position[1],
          position[2] >= T(kNdcEpsilon) ? position[2] : T(-1)};
}

template <class T>
FOCUS_HD Triangle<T> triangle_in_pixels(const T* positions, const int32_t* face, int64_t H, int64_t W, double scale) {
  Triangle<T> t;
  for (int k = 0; k < 3; ++k) t.v[k] = to_pixels(positions + int64_t{3} * face[k], H, W, scale);
  return t;
}

// PyTorch3D divides perspective weights by at least 1e-8; below, what it returns is scaled by the denominator over
// this.
FOCUS_HD double least_denominator(const NdcRule& rule) { return rule.clip ? kNdcEpsilon * kNdcLeastSum : kNdcEpsilon; }

// Squared length in pixels of the edge opposite corner i.
template <class T>
FOCUS_HD T squared_length(const Triangle<T>& t, int i) {
  const Vec3<T>&a = t.v[(i + 1) % 3], &b = t.v[(i + 2) % 3];
  const T x = b.x - a.x, y = b.y - a.y;
  return x * x + y * y;
}

// The barycentrics and the distance; `depth` comes as draw() found it.
template <class T>
FOCUS_HD void ndc_values(const Triangle<T>& t, const T e[3], const NdcRule& rule, T& depth, T b[3], T& distance) {
  barycentrics_at(t, e, rule.perspective, b);
  if (rule.perspective || !rule.clip) {
    T factor = bias_factor(t, signed_area(t), rule.bias);
    if (rule.perspective) {
      const T least = static_cast<T>(least_denominator(rule));
      const T denominator = (factor * ((t.v[0].z * t.v[1].z) * t.v[2].z)) / depth;
      factor = denominator < least ? denominator / least : T(1);
      depth = depth * factor;
    }
    for (int i = 0; i < 3; ++i) b[i] = b[i] * factor;
  }
  T nearest = (e[0] * e[0]) / squared_length(t, 0);
  for (int i = 1; i < 3; ++i) {
    const T d = (e[i] * e[i]) / squared_length(t, i);
    if (d < nearest) nearest = d;
  }
  distance = T(0) - nearest * static_cast<T>(1 / (rule.scale * rule.scale));
}

// Gradient to the NDC positions of the corners, from those to what is seen at a covered sample.
template <class T>
FOCUS_HD void ndc_sample_grad(const Triangle<T>& t, T px, T py, const NdcRule& rule, T grad_depth, const T grad_b[3],
                              T grad_distance, Vec3<T> grad[3]) {
  const T area = signed_area(t);
  const T size = std::fabs(area), sign = area < 0 ? T(-1) : T(1);
  T e[3], u[3], grad_e[3];
  edges(t, px, py, e);
  for (int i = 0; i < 3; ++i) {
    e[i] = std::fabs(e[i]);
    u[i] = rule.perspective ? e[i] / t.v[i].z : e[i];
  }
  const T sum = (u[0] + u[1]) + u[2];
  const T factor = bias_factor(t, area, rule.bias);  // S / (S + c) with c = -sign * bias
  const T slope = (factor / size) * (factor / size) * (-sign * static_cast<T>(rule.bias));  // its derivative to S
  T grad_sum = 0;  // to S, which is the same at all samples: through `factor` only
  if (rule.perspective) {
    const T s = (e[0] + e[1]) + e[2], d = s / sum;
    const T least = static_cast<T>(least_denominator(rule));
    const T volume = (t.v[0].z * t.v[1].z) * t.v[2].z, denominator = (factor * volume) / d;
    const bool clamped = denominator < least;  // else the denominator, which may be infinite, counts for nothing
    const T total = clamped ? denominator / least : T(1);
    const T share = ((grad_b[0] * u[0] + grad_b[1] * u[1]) + grad_b[2] * u[2]) / sum;
    const T grad_denominator = clamped ? (share + grad_depth * d) / least : T(0);
    const T grad_d = grad_depth * total - (clamped ? grad_denominator * (denominator / d) : T(0));
    grad_sum = clamped ? grad_denominator * (volume / d) * slope : T(0);
    const T mean = share * total + grad_d * d;
    for (int i = 0; i < 3; ++i) {
      const T grad_u = (grad_b[i] * total - mean) / sum;
      grad_e[i] = (grad_u / t.v[i].z + grad_d / sum) + grad_sum;
      grad[i].z = ((clamped ? grad_denominator * denominator : T(0)) - grad_u * u[i]) / t.v[i].z;
    }
  } else {
    const bool biased = !rule.clip;
    const T scaled = biased ? factor : T(1);
    T g[3];
    for (int i = 0; i < 3; ++i) g[i] = grad_b[i] + grad_depth * t.v[i].z;
    const T mean = ((g[0] * u[0] + g[1] * u[1]) + g[2] * u[2]) / sum;
    if (biased) grad_sum = mean * slope;
    for (int i = 0; i < 3; ++i) {
      grad_e[i] = scaled * ((g[i] - mean) / sum) + grad_sum;
      grad[i].z = grad_depth * (u[i] / sum) * scaled;
    }
  }

  // of edges at the same distance PyTorch3D takes that from corner 0 to 1, then from 2 to 0
  T length[3], squared[3];
  for (int i = 0; i < 3; ++i) {
    length[i] = squared_length(t, i);
    squared[i] = (e[i] * e[i]) / length[i];
  }
  const bool second = squared[1] < squared[2], first = squared[0] < (second ? squared[1] : squared[2]);
  const bool nearest[3] = {first, second && !first, !second && !first};
  const T pull = grad_distance * static_cast<T>(1 / (rule.scale * rule.scale));
  for (int i = 0; i < 3; ++i) {
    if (nearest[i]) grad_e[i] -= pull * (2 * e[i] / length[i]);
    grad_e[i] *= sign;
  }
  edges_grad(t, px, py, grad_e, grad);
  for (int i = 0; i < 3; ++i) {  // the same e of a longer edge is a smaller distance
    const int k = (i + 1) % 3, l = (i + 2) % 3;
    const T stretch = nearest[i] ? 2 * pull * (squared[i] / length[i]) : T(0);
    const T x = stretch * (t.v[l].x - t.v[k].x), y = stretch * (t.v[l].y - t.v[k].y);
    grad[l].x += x;
    grad[l].y += y;
    grad[k].x -= x;
    grad[k].y -= y;
  }
  for (int i = 0; i < 3; ++i) {
    grad[i].x *= -static_cast<T>(rule.scale);
    grad[i].y *= -static_cast<T>(rule.scale);
  }
}

}  // namespace focus
