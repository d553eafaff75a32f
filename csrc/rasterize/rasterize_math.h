// One triangle at one sample: the rules of coverage, depth and their gradients, shared by the CPU and the CUDA kernels.
// Compiled without contraction (no fused multiply-add), so that both give the same bits.
#pragma once
#include <cmath>

#include "core/hd.h"
#include "rasterize/rasterize.h"

namespace focus {

template <class T>
struct Vec3 {
  T x, y, z;
};

template <class T>
struct Triangle {
  Vec3<T> v[3];  // x px, y px, depth
};

// Beyond these a triangle is dropped: float32 has no pixel centres past 2^23, and cannot divide by such depths.
constexpr double kMaxCoordinate = 8388608.0;
constexpr double kMinDepth = 1e-18, kMaxDepth = 1e18;

// False for NaN as well.
template <class T>
FOCUS_HD bool drawable(T x, T y, T z) {
  return std::fabs(x) <= T(kMaxCoordinate) && std::fabs(y) <= T(kMaxCoordinate) && z >= T(kMinDepth) &&
         z <= T(kMaxDepth);
}

// (a - p) x (b - p). In float32 the sign is the one that double gives: eight units in the last place bound the rounding
// error, and inside that bound the value is taken from double. Exactly antisymmetric in a and b, so a sample is never
// on the same side of an edge for both of its triangles.
template <class T>
struct Edge;

template <>
struct Edge<double> {
  static constexpr double kUnsure = 0.0;
  FOCUS_HD_MEMBER static double sure(double ax, double ay, double bx, double by, double px, double py) {
    return (ax - px) * (by - py) - (ay - py) * (bx - px);
  }
};

template <>
struct Edge<float> {
  static constexpr float kUnsure = 4.76837158203125e-07f;  // 2^-21
  FOCUS_HD_MEMBER static float sure(float ax, float ay, float bx, float by, float px, float py) {
    return static_cast<float>(Edge<double>::sure(ax, ay, bx, by, px, py));
  }
};

template <class T>
FOCUS_HD T edge(T ax, T ay, T bx, T by, T px, T py) {
  T s = (ax - px) * (by - py);
  T e = s - (ay - py) * (bx - px);
  if (std::fabs(e) <= Edge<T>::kUnsure * std::fabs(s)) e = Edge<T>::sure(ax, ay, bx, by, px, py);
  return e;
}

// Twice the signed area, positive when the corners run clockwise on the screen (x right, y down); 0 = degenerate.
template <class T>
FOCUS_HD T signed_area(const Triangle<T>& t) {
  return edge(t.v[1].x, t.v[1].y, t.v[2].x, t.v[2].y, t.v[0].x, t.v[0].y);
}

template <class T>
FOCUS_HD bool faces_us(T area, int cull) {
  return cull == kCullBack ? area < 0 : cull == kCullFront ? area > 0 : area < 0 || area > 0;
}

template <class T>
FOCUS_HD double sure_area(const Triangle<T>& t) {
  return Edge<double>::sure(t.v[1].x, t.v[1].y, t.v[2].x, t.v[2].y, t.v[0].x, t.v[0].y);
}

// Whether the doubled area, of which `area` is the float, is more than `least`; decided in double near it.
template <class T>
FOCUS_HD bool exceeds(const Triangle<T>& t, T area, double least) {
  return std::fabs(area) > T(2 * least) || std::fabs(sure_area(t)) > least;
}

// area / (area - bias) of a triangle whose doubled area exceeds `bias`: positive and finite.
template <class T>
FOCUS_HD T bias_factor(const Triangle<T>& t, T area, double bias) {
  if (std::fabs(area) > T(2 * bias)) return area / (area - T(bias));
  double sure = sure_area(t);
  return static_cast<T>(sure / (sure - bias));
}

// Whether samples exactly on the edge a -> b (clockwise) belong to its triangle.
template <class T>
FOCUS_HD bool owns_edge(const Vec3<T>& a, const Vec3<T>& b, int coverage) {
  if (coverage == kInclusive) return true;
  if (coverage == kStrict) return false;
  return b.y < a.y || (b.y == a.y && b.x > a.x);
}

// The weights of the three corners before division, e[i] >= 0 inside.
template <class T>
FOCUS_HD void edges(const Triangle<T>& t, T px, T py, T e[3]) {
  const Vec3<T>*a = &t.v[0], *b = &t.v[1], *c = &t.v[2];
  e[0] = edge(b->x, b->y, c->x, c->y, px, py);
  e[1] = edge(c->x, c->y, a->x, a->y, px, py);
  e[2] = edge(a->x, a->y, b->x, b->y, px, py);
}

// Whether the sample is in the triangle, whose signed area is `area`; makes e[i] >= 0.
template <class T>
FOCUS_HD bool covers(const Triangle<T>& t, T area, T px, T py, int coverage, T e[3]) {
  edges(t, px, py, e);
  for (int i = 0; i < 3; ++i) {
    if (area < 0) e[i] = -e[i];
    if (!(e[i] >= 0)) return false;
    if (e[i] == 0) {
      const Vec3<T>&from = t.v[(i + 1) % 3], &to = t.v[(i + 2) % 3];
      if (!(area < 0 ? owns_edge(to, from, coverage) : owns_edge(from, to, coverage))) return false;
    }
  }
  return e[0] + e[1] + e[2] > 0;
}

// Depth at the sample.
template <class T>
FOCUS_HD T depth_at(const Triangle<T>& t, const T e[3], bool perspective) {
  T sum = (e[0] + e[1]) + e[2];
  if (perspective) return sum / ((e[0] / t.v[0].z + e[1] / t.v[1].z) + e[2] / t.v[2].z);
  return ((e[0] * t.v[0].z + e[1] * t.v[1].z) + e[2] * t.v[2].z) / sum;
}

template <class T>
FOCUS_HD void barycentrics_at(const Triangle<T>& t, const T e[3], bool perspective, T b[3]) {
  for (int i = 0; i < 3; ++i) b[i] = perspective ? e[i] / t.v[i].z : e[i];
  T sum = (b[0] + b[1]) + b[2];
  for (int i = 0; i < 3; ++i) b[i] = b[i] / sum;
}

// Gradient to x and y of the corners, from those to edges().
template <class T>
FOCUS_HD void edges_grad(const Triangle<T>& t, T px, T py, const T grad_e[3], Vec3<T> grad[3]) {
  T x[3], y[3];
  for (int i = 0; i < 3; ++i) {
    x[i] = t.v[i].x - px;
    y[i] = t.v[i].y - py;
  }
  for (int i = 0; i < 3; ++i) {  // e[j] = x[k] y[l] - y[k] x[l] for (j, k, l) cyclic
    int k = (i + 1) % 3, l = (i + 2) % 3;
    grad[i].x = grad_e[l] * y[k] - grad_e[k] * y[l];
    grad[i].y = grad_e[k] * x[l] - grad_e[l] * x[k];
  }
}

// Gradient to the corners, from those to the barycentrics b and the depth d of a covered sample.
template <class T>
FOCUS_HD void sample_grad(const Triangle<T>& t, T px, T py, bool perspective, const T grad_b[3], T grad_d,
                          Vec3<T> grad[3]) {
  T e[3];
  edges(t, px, py, e);
  T sign = (e[0] + e[1]) + e[2] < 0 ? T(-1) : T(1);
  T b[3], u[3], grad_e[3];
  for (int i = 0; i < 3; ++i) {
    e[i] *= sign;
    u[i] = perspective ? e[i] / t.v[i].z : e[i];
  }
  T sum_u = (u[0] + u[1]) + u[2];
  for (int i = 0; i < 3; ++i) b[i] = u[i] / sum_u;
  if (perspective) {
    T d = ((e[0] + e[1]) + e[2]) / sum_u;
    T mean = (grad_b[0] * b[0] + grad_b[1] * b[1]) + grad_b[2] * b[2] + grad_d * d;
    for (int i = 0; i < 3; ++i) {
      T grad_u = (grad_b[i] - mean) / sum_u;
      grad_e[i] = grad_u / t.v[i].z + grad_d / sum_u;
      grad[i].z = -grad_u * u[i] / t.v[i].z;
    }
  } else {
    T g[3];
    for (int i = 0; i < 3; ++i) g[i] = grad_b[i] + grad_d * t.v[i].z;
    T mean = (g[0] * b[0] + g[1] * b[1]) + g[2] * b[2];
    for (int i = 0; i < 3; ++i) {
      grad_e[i] = (g[i] - mean) / sum_u;
      grad[i].z = grad_d * b[i];
    }
  }
  for (int i = 0; i < 3; ++i) grad_e[i] *= sign;
  edges_grad(t, px, py, grad_e, grad);
}

// First and last column (or row) whose centre lies in [low, high], cut to [0, size); empty when first > last.
template <class T>
FOCUS_HD void sample_range(T low, T high, int64_t size, int& first, int& last) {
  T f = std::ceil(low - T(0.5)), l = std::floor(high - T(0.5));
  T end = static_cast<T>(size - 1);
  first = static_cast<int>(f > 0 ? (f < end + 1 ? f : end + 1) : T(0));
  last = static_cast<int>(l < end ? (l > -1 ? l : T(-1)) : end);
}

}  // namespace focus
