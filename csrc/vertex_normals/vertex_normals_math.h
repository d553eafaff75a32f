// The normal of a face and of a vertex, with gradients; shared by the CPU and the CUDA kernels.
// A sum is four numbers per vertex: the crosses of its faces, and their lengths (used where `normalize` is false).
#pragma once
#include <cmath>

#include "core/hd.h"

namespace focus {

template <class T>
FOCUS_HD void cross(const T a[3], const T b[3], T out[3]) {
  out[0] = a[1] * b[2] - a[2] * b[1];
  out[1] = a[2] * b[0] - a[0] * b[2];
  out[2] = a[0] * b[1] - a[1] * b[0];
}

// Scaled by the largest component, so that the squares neither over- nor underflow.
template <class T>
FOCUS_HD T length(const T n[3]) {
  T largest = larger(larger(std::fabs(n[0]), std::fabs(n[1])), std::fabs(n[2]));
  if (!(largest > 0)) return T(0);
  T u[3] = {n[0] / largest, n[1] / largest, n[2] / largest};
  return largest * std::sqrt((u[0] * u[0] + u[1] * u[1]) + u[2] * u[2]);
}

template <class T>
struct FaceNormal {
  T e1[3], e2[3];  // v1 - v0, v2 - v0
  T n[3];          // e1 x e2
  T length;
  bool usable;  // finite; else the face is left out
};

template <class T>
FOCUS_HD FaceNormal<T> face_normal(const T* v0, const T* v1, const T* v2) {
  FaceNormal<T> f;
  for (int k = 0; k < 3; ++k) {
    f.e1[k] = v1[k] - v0[k];
    f.e2[k] = v2[k] - v0[k];
  }
  cross(f.e1, f.e2, f.n);
  f.length = length(f.n);
  f.usable = is_finite(f.n[0]) && is_finite(f.n[1]) && is_finite(f.n[2]);
  return f;
}

// Below this a sum counts as zero: its reciprocal would overflow.
template <class T>
FOCUS_HD T smallest_sum() {
  return sizeof(T) == 4 ? T(1e-36) : T(1e-300);
}

// What a sum is divided by; 0 where the normal is zero.
template <class T>
FOCUS_HD T normal_scale(const T sum[4], bool normalize) {
  T scale = normalize ? length(sum) : sum[3];
  return scale > smallest_sum<T>() && is_finite(scale) ? scale : T(0);
}

// The sum of a vertex -> its normal; zero where the sum is.
template <class T>
FOCUS_HD void finish_normal(const T sum[4], bool normalize, T n[3]) {
  T scale = normal_scale(sum, normalize);
  for (int k = 0; k < 3; ++k) n[k] = scale > 0 ? sum[k] / scale : T(0);
}

// Whether any of three numbers is NaN or so large that a sum of many could overflow.
template <class T>
FOCUS_HD bool too_large(const T x[3]) {
  const T most = sizeof(T) == 4 ? T(1e36) : T(1e306);
  return !(std::fabs(x[0]) <= most && std::fabs(x[1]) <= most && std::fabs(x[2]) <= most);
}

// Gradient of a normal -> gradient of its sum. One too large for T is left out, but NaN and infinity are passed on.
template <class T>
FOCUS_HD void finish_normal_grad(const T sum[4], bool normalize, const T grad[3], T grad_sum[4]) {
  T scale = normal_scale(sum, normalize), n[3];
  finish_normal(sum, normalize, n);
  for (int k = 0; k < 4; ++k) grad_sum[k] = 0;
  if (!(scale > 0)) return;
  T along = (n[0] * grad[0] + n[1] * grad[1]) + n[2] * grad[2];
  for (int k = 0; k < 3; ++k) grad_sum[k] = (normalize ? grad[k] - n[k] * along : grad[k]) / scale;
  if (!normalize) grad_sum[3] = -along / scale;
  if (!too_large(grad) && too_large(grad_sum))
    for (int k = 0; k < 4; ++k) grad_sum[k] = 0;
}

// Gradients of the sums of the three corners, added up -> gradient of the corners. As above, what is too large is left
// out: where a face is thinner than 1e-36, say, for the gradient is one divided by that.
template <class T>
FOCUS_HD void face_normal_grad(const FaceNormal<T>& f, const T grad_sum[4], T grad0[3], T grad1[3], T grad2[3]) {
  T g[3];
  for (int k = 0; k < 3; ++k) g[k] = grad_sum[k] + (f.length > 0 ? grad_sum[3] * f.n[k] / f.length : T(0));
  cross(f.e2, g, grad1);
  cross(g, f.e1, grad2);
  if ((too_large(grad1) || too_large(grad2)) && is_finite(g[0]) && is_finite(g[1]) && is_finite(g[2]))
    for (int k = 0; k < 3; ++k) grad1[k] = grad2[k] = 0;
  for (int k = 0; k < 3; ++k) grad0[k] = -(grad1[k] + grad2[k]);
}

// Corner `corner` of the gradient of one face, for kernels that gather by vertex.
template <class T>
FOCUS_HD void face_normal_grad_corner(const FaceNormal<T>& f, const T grad_sum[4], int corner, T grad[3]) {
  T g0[3], g1[3], g2[3];
  face_normal_grad(f, grad_sum, g0, g1, g2);
  for (int k = 0; k < 3; ++k) grad[k] = corner == 0 ? g0[k] : corner == 1 ? g1[k] : g2[k];
}

}  // namespace focus
