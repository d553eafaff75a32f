// The vector arithmetic that the forward and the backward of one image share. For files of core/simd.h only.
#pragma once
#include "core/simd.h"
#include "render_sh/render_sh_image.h"
#include "render_sh/render_sh_math.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

template <class V>
struct V3 {
  V x, y, z;
};

// Packed rows of three.
template <class V>
inline V3<V> load_rows3(const typename V::T* p) {
  V3<V> v;
  load3(p, v.x, v.y, v.z);
  return v;
}

// Consecutive rows of four, `step` rows apart; the first three columns.
template <class V>
inline V3<V> load_rows4(const typename V::T* p, int step = 1) {
  int32_t row[V::width];
  for (int lane = 0; lane < V::width; ++lane) row[lane] = step * lane;
  V3<V> v;
  V::rows(p, row, 1, v.x, v.y, v.z);
  return v;
}

// The fourth column of consecutive rows of four.
template <class V>
inline V load_fourth(const typename V::T* p) {
  typename V::T w[V::width];
  for (int lane = 0; lane < V::width; ++lane) w[lane] = p[4 * lane + 3];
  return V::load(w);
}

template <class V>
inline V3<V> operator+(const V3<V>& a, const V3<V>& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class V>
inline V3<V> operator-(const V3<V>& a, const V3<V>& b) {
  return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class V>
inline V3<V> operator*(const V3<V>& a, V s) {
  return {a.x * s, a.y * s, a.z * s};
}
template <class V>
inline V3<V> operator/(const V3<V>& a, V s) {
  return {a.x / s, a.y / s, a.z / s};
}
template <class V>
inline V3<V> keep(const V3<V>& a, typename V::Mask m) {
  return {a.x.keep(m), a.y.keep(m), a.z.keep(m)};
}
template <class V>
inline V dot(const V3<V>& a, const V3<V>& b) {
  return (a.x * b.x + a.y * b.y) + a.z * b.z;
}
template <class V>
inline V3<V> cross(const V3<V>& a, const V3<V>& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
template <class V>
inline typename V::Mask finite(V v) {
  return v - v <= V::set(0);
}
// True for NaN as well, so that it is passed on.
template <class V>
inline typename V::Mask nonzero(const V3<V>& a) {
  return V::first(V::width).andnot((a.x.abs() + a.y.abs()) + a.z.abs() <= V::set(0));
}

// M v, and M^T v
template <class V>
inline V3<V> rotate_lanes(const typename V::T* M, const V3<V>& v) {
  auto row = [&](int i) { return (V::set(M[3 * i]) * v.x + V::set(M[3 * i + 1]) * v.y) + V::set(M[3 * i + 2]) * v.z; };
  return {row(0), row(1), row(2)};
}
template <class V>
inline V3<V> rotate_back_lanes(const typename V::T* M, const V3<V>& v) {
  auto column = [&](int i) { return (V::set(M[i]) * v.x + V::set(M[3 + i]) * v.y) + V::set(M[6 + i]) * v.z; };
  return {column(0), column(1), column(2)};
}

template <class V>
inline V3<V> camera_lanes(const VertexStage<typename V::T>& s, int64_t v) {
  return rotate_lanes(s.R, load_rows3<V>(s.vertices + 3 * v)) + V3<V>{V::set(s.t[0]), V::set(s.t[1]), V::set(s.t[2])};
}

// Scaled by the largest component, so that the squares neither over- nor underflow.
template <class V>
inline V length_lanes(const V3<V>& a) {
  V largest = V::max(V::max(a.x.abs(), a.y.abs()), a.z.abs());
  typename V::Mask some = V::set(0) < largest;
  V3<V> u = a / V::select(some, largest, V::set(1));
  return (largest * dot(u, u).sqrt()).keep(some);
}

template <class V>
struct Normal {
  V3<V> n;
  V scale;                // n = sum / scale
  typename V::Mask some;  // else n is zero
};

template <class V>
inline Normal<V> normal_lanes(const typename V::T* sums, bool focus) {
  using T = typename V::T;
  V3<V> sum = load_rows4<V>(sums);
  Normal<V> r;
  r.scale = focus ? load_fourth<V>(sums) : length_lanes(sum);
  r.some = (V::set(smallest_sum<T>()) < r.scale) & finite(r.scale);
  r.scale = V::select(r.some, r.scale, V::set(1));
  r.n = keep(sum / r.scale, r.some);
  return r;
}

template <class V>
struct FocusNormal {
  V3<V> m;
  V r, s, q;
};

template <class V>
inline FocusNormal<V> focus_lanes(const V3<V>& n) {
  using T = typename V::T;
  FocusNormal<V> f;
  f.r = (n.x * n.x + n.y * n.y).sqrt();
  f.s = V::max(V::set(1) - n.z * n.z, V::set(0)).sqrt();
  f.q = f.s / V::max(f.r, V::set(T(1e-6)));
  f.m = {f.q * n.x, f.q * n.y, n.z};
  return f;
}

template <class V>
inline void basis_lanes(const V3<V>& n, V y[9]) {
  using T = typename V::T;
  y[0] = V::set(T(kSh0));
  y[1] = V::set(-T(kSh1)) * n.y;
  y[2] = V::set(T(kSh1)) * n.z;
  y[3] = V::set(-T(kSh1)) * n.x;
  y[4] = V::set(T(kSh2)) * (n.x * n.y);
  y[5] = V::set(-T(kSh2)) * (n.y * n.z);
  y[6] = V::set(T(kSh20)) * (V::set(3) * (n.z * n.z) - V::set(1));
  y[7] = V::set(-T(kSh2)) * (n.x * n.z);
  y[8] = V::set(T(kSh22)) * (n.x * n.x - n.y * n.y);
}

template <class V>
inline V light_lanes(const typename V::T* sh, const V y[9]) {
  V sum = V::set(0);
  for (int k = 0; k < 9; ++k) sum = sum + V::set(sh[k]) * y[k];
  return sum;
}

}  // namespace
}  // namespace FOCUS_ISA
}  // namespace focus
