// Spherical harmonics of bands 0 to 2 with Condon-Shortley phase, order (l, m = -l..l), and their gradients; shared by
// the CPU and the CUDA kernels.
#pragma once
#include <cmath>

#include "core/hd.h"

namespace focus {

constexpr double kSh0 = 0.28209479177387814;   // 1/2 sqrt(1/pi)
constexpr double kSh1 = 0.4886025119029199;    // 1/2 sqrt(3/pi)
constexpr double kSh2 = 1.0925484305920792;    // 1/2 sqrt(15/pi)
constexpr double kSh20 = 0.31539156525252005;  // 1/4 sqrt(5/pi)
constexpr double kSh22 = 0.5462742152960396;   // 1/4 sqrt(15/pi)

template <class T>
FOCUS_HD void sh_basis(const T n[3], T y[9]) {
  y[0] = T(kSh0);
  y[1] = -T(kSh1) * n[1];
  y[2] = T(kSh1) * n[2];
  y[3] = -T(kSh1) * n[0];
  y[4] = T(kSh2) * (n[0] * n[1]);
  y[5] = -T(kSh2) * (n[1] * n[2]);
  y[6] = T(kSh20) * (T(3) * (n[2] * n[2]) - T(1));
  y[7] = -T(kSh2) * (n[0] * n[2]);
  y[8] = T(kSh22) * (n[0] * n[0] - n[1] * n[1]);
}

template <class T>
FOCUS_HD void sh_basis_grad(const T n[3], const T grad_y[9], T grad_n[3]) {
  grad_n[0] =
      -T(kSh1) * grad_y[3] + T(kSh2) * (n[1] * grad_y[4] - n[2] * grad_y[7]) + T(2 * kSh22) * (n[0] * grad_y[8]);
  grad_n[1] =
      -T(kSh1) * grad_y[1] + T(kSh2) * (n[0] * grad_y[4] - n[2] * grad_y[5]) - T(2 * kSh22) * (n[1] * grad_y[8]);
  grad_n[2] = T(kSh1) * grad_y[2] - T(kSh2) * (n[1] * grad_y[5] + n[0] * grad_y[7]) + T(6 * kSh20) * (n[2] * grad_y[6]);
}

// FOCUS takes the basis at the angles acos(nz), atan2(ny, nx): (q nx, q ny, nz) with q = sqrt(1 - nz^2) / |(nx, ny)|,
// which is not n where |n| < 1. Below |(nx, ny)| = 1e-6 the direction shrinks linearly to zero.
template <class T>
FOCUS_HD void focus_normal(const T n[3], T out[3]) {
  T r = std::sqrt(n[0] * n[0] + n[1] * n[1]);
  T s = std::sqrt(larger(T(1) - n[2] * n[2], T(0)));
  T q = s / larger(r, T(1e-6));
  out[0] = q * n[0];
  out[1] = q * n[1];
  out[2] = n[2];
}

// Finite everywhere: ds/dnz = -nz / s, and 0 where s is 0; q does not vary with r below 1e-6.
template <class T>
FOCUS_HD void focus_normal_grad(const T n[3], const T grad_out[3], T grad_n[3]) {
  T r = std::sqrt(n[0] * n[0] + n[1] * n[1]);
  T s = std::sqrt(larger(T(1) - n[2] * n[2], T(0)));
  T floor_r = larger(r, T(1e-6));
  T q = s / floor_r;
  T grad_q = grad_out[0] * n[0] + grad_out[1] * n[1];
  T grad_r = r > T(1e-6) ? -grad_q * q / r : T(0);
  T grad_s = grad_q / floor_r;
  T along = r > T(1e-6) ? grad_r / r : T(0);
  grad_n[0] = q * grad_out[0] + along * n[0];
  grad_n[1] = q * grad_out[1] + along * n[1];
  grad_n[2] = grad_out[2] + (s > 0 ? -grad_s * n[2] / s : T(0));
}

// One vertex: shaded = albedo * (sh . basis).
template <class T>
FOCUS_HD void shade_vertex(const T n[3], const T* albedo, const T* sh, bool focus, T shaded[3]) {
  T m[3] = {n[0], n[1], n[2]}, y[9];
  if (focus) focus_normal(n, m);
  sh_basis(m, y);
  for (int c = 0; c < 3; ++c) {
    T light = 0;
    for (int k = 0; k < 9; ++k) light += sh[9 * c + k] * y[k];
    shaded[c] = albedo[c] * light;
  }
}

// grad_sh[27] is what this vertex adds.
template <class T>
FOCUS_HD void shade_vertex_grad(const T n[3], const T* albedo, const T* sh, bool focus, const T* grad, T grad_n[3],
                                T* grad_albedo, T grad_sh[27]) {
  T m[3] = {n[0], n[1], n[2]}, y[9], grad_y[9] = {0}, grad_m[3];
  if (focus) focus_normal(n, m);
  sh_basis(m, y);
  for (int c = 0; c < 3; ++c) {
    T light = 0, grad_light = grad[c] * albedo[c];
    for (int k = 0; k < 9; ++k) {
      light += sh[9 * c + k] * y[k];
      grad_y[k] += grad_light * sh[9 * c + k];
      grad_sh[9 * c + k] = grad_light * y[k];
    }
    grad_albedo[c] = grad[c] * light;
  }
  sh_basis_grad(m, grad_y, grad_m);
  if (focus) {
    focus_normal_grad(n, grad_m, grad_n);
  } else {
    for (int k = 0; k < 3; ++k) grad_n[k] = grad_m[k];
  }
}

}  // namespace focus
