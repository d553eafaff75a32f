// A triangle in clip space: where its corners are on the screen, what of it is in view, and its weights at a sample.
// All in double, whatever the positions are. Compiled without contraction, so that the CPU and CUDA give the same bits.
#pragma once
#include <cmath>

#include "core/hd.h"
#include "rasterize/rasterize_math.h"
#include "rasterize_clip/rasterize_clip.h"

namespace focus {

// Depths are compared as z/w + 3: in [2, 4] they are positive, and taking the 3 away again is exact.
constexpr double kDepthOffset = 3.0;
constexpr double kSubpixels = 16.0;
// Of a clipped triangle. A convex one has 9; with rounding, each of the six planes adds at most half as many again.
constexpr int kMaxCorners = 28;
// On coordinates that are multiples of 1/16 edge functions are exact in double while H * W <= 2^44.
constexpr RasterRule kClipRule = {kTopLeft, kCullNone, false, true};

struct ClipCorner {
  double x, y, z, w;
};

template <class T>
FOCUS_HD ClipCorner load_clip(const T* positions, int64_t v) {
  const T* row = positions + 4 * v;
  return {static_cast<double>(row[0]), static_cast<double>(row[1]), static_cast<double>(row[2]),
          static_cast<double>(row[3])};
}

FOCUS_HD bool is_finite(const ClipCorner& c) {
  return is_finite(c.x) && is_finite(c.y) && is_finite(c.z) && is_finite(c.w);
}

// How far inside plane k: -x, +x, -y, +y, -z, +z. Its sign is exact.
FOCUS_HD double reach(const ClipCorner& c, int k) {
  const double along = k < 2 ? c.x : k < 4 ? c.y : c.z;
  return k % 2 == 0 ? c.w + along : c.w - along;
}

FOCUS_HD bool in_view(const ClipCorner& c) {
  if (!is_finite(c) || !(c.w > 0)) return false;
  return std::fabs(c.x) <= c.w && std::fabs(c.y) <= c.w && std::fabs(c.z) <= c.w;
}

// Whether there is anything to clip: finite, not wholly in view, not wholly beyond one plane.
FOCUS_HD bool crosses_view(const ClipCorner& a, const ClipCorner& b, const ClipCorner& c) {
  if (!(is_finite(a) && is_finite(b) && is_finite(c))) return false;
  if (in_view(a) && in_view(b) && in_view(c)) return false;
  for (int k = 0; k < 6; ++k)
    if (reach(a, k) < 0 && reach(b, k) < 0 && reach(c, k) < 0) return false;
  return true;
}

FOCUS_HD double clamped(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

// Column and row, rounded to 1/16 about the middle of the image, and the depth that is compared.
FOCUS_HD Vec3<double> on_screen(const ClipCorner& c, int64_t H, int64_t W) {
  const double half_x = static_cast<double>(W) / 2, half_y = static_cast<double>(H) / 2;
  const double x = clamped(c.x / c.w, -1, 1), y = clamped(c.y / c.w, -1, 1), z = clamped(c.z / c.w, -1, 1);
  return {std::rint(x * (half_x * kSubpixels)) / kSubpixels + half_x,
          std::rint(y * (half_y * kSubpixels)) / kSubpixels + half_y, z + kDepthOffset};
}

// NaN where the corner is not in view: then no comparison with its triangles is true.
FOCUS_HD Vec3<double> point_of(const ClipCorner& c, int64_t H, int64_t W) {
  const double none = NAN;
  return in_view(c) ? on_screen(c, H, W) : Vec3<double>{none, none, none};
}

// The part of the triangle in `polygon` that is in view; `other` is room for the next step. Each holds kMaxCorners.
// Returns how many corners are left, in `polygon`: 0 where one is not finite or has no positive w.
// A cut starts from the corner inside, so that the two triangles at an edge are cut at the same place.
FOCUS_HD int clip(ClipCorner* polygon, ClipCorner* other) {
  int count = 3;
  for (int plane = 0; plane < 6; ++plane) {
    int kept = 0;
    for (int k = 0; k < count; ++k) {
      const ClipCorner &here = polygon[k], &last = polygon[k == 0 ? count - 1 : k - 1];
      const double d = reach(here, plane), e = reach(last, plane);
      if ((d >= 0) != (e >= 0)) {
        const ClipCorner &in = d >= 0 ? here : last, &out = d >= 0 ? last : here;
        const double near = d >= 0 ? d : e, far = d >= 0 ? e : d, t = near / (near - far);
        other[kept++] = {in.x + t * (out.x - in.x), in.y + t * (out.y - in.y), in.z + t * (out.z - in.z),
                         in.w + t * (out.w - in.w)};
      }
      if (d >= 0) other[kept++] = here;
    }
    ClipCorner* swap = polygon;
    polygon = other;
    other = swap;
    count = kept;
  }
  for (int k = 0; k < count; ++k)  // after six swaps `polygon` is what it was
    if (!is_finite(polygon[k]) || !(polygon[k].w > 0)) return 0;
  return count < 3 ? 0 : count;
}

// The corners about a pixel centre (X, Y): x - X w, y - Y w, w.
struct AboutPixel {
  double x[3], y[3], w[3];
  double X, Y, per_column, per_row;  // the centre and the steps to the next, in units of the view
};

FOCUS_HD AboutPixel about_pixel(const ClipCorner c[3], int64_t row, int64_t column, int64_t H, int64_t W) {
  AboutPixel a;
  a.X = static_cast<double>(2 * column + 1) / static_cast<double>(W) - 1;
  a.Y = static_cast<double>(2 * row + 1) / static_cast<double>(H) - 1;
  a.per_column = 2 / static_cast<double>(W);
  a.per_row = 2 / static_cast<double>(H);
  for (int k = 0; k < 3; ++k) {
    a.x[k] = c[k].x - a.X * c[k].w;
    a.y[k] = c[k].y - a.Y * c[k].w;
    a.w[k] = c[k].w;
  }
  return a;
}

// The perspective-correct weights of corners 0 and 1, not clamped, and their steps to the next column and row.
struct ClipWeights {
  double share[3], total;  // the weights before division, and their sum
  double u, v;             // of corners 0 and 1
  double step[4];          // du/dX, du/dY, dv/dX, dv/dY
  double total_step[2];    // of `total`, to the next column and row
  bool known;              // u and v are finite and no mere rounding
  bool sound;              // so is all else, and the sample is not so far out of a face that it is a line
};

constexpr double kClipNoise = 3.5527136788005009e-15;  // 2^-48: of a total, beside the terms it is made of
constexpr double kMostWeight = 256;  // rounding moves a centre by 1/16 px: out of a face that is thinner than 1/4096

FOCUS_HD ClipWeights weights_at(const AboutPixel& a) {
  ClipWeights r;
  double along_x[3], along_y[3], reach[3];
  for (int i = 0; i < 3; ++i) {
    const int k = (i + 1) % 3, l = (i + 2) % 3;
    reach[i] = std::fabs(a.w[k]) * (std::fabs(a.x[l]) + std::fabs(a.y[l])) +
               std::fabs(a.w[l]) * (std::fabs(a.x[k]) + std::fabs(a.y[k]));
    r.share[i] = a.x[k] * a.y[l] - a.x[l] * a.y[k];
    along_x[i] = (a.w[l] * a.y[k] - a.w[k] * a.y[l]) * a.per_column;
    along_y[i] = (a.w[k] * a.x[l] - a.w[l] * a.x[k]) * a.per_row;
  }
  r.total = (r.share[0] + r.share[1]) + r.share[2];
  r.total_step[0] = (along_x[0] + along_x[1]) + along_x[2];
  r.total_step[1] = (along_y[0] + along_y[1]) + along_y[2];
  r.u = r.share[0] / r.total;
  r.v = r.share[1] / r.total;
  r.step[0] = (along_x[0] - r.u * r.total_step[0]) / r.total;
  r.step[1] = (along_y[0] - r.u * r.total_step[1]) / r.total;
  r.step[2] = (along_x[1] - r.v * r.total_step[0]) / r.total;
  r.step[3] = (along_y[1] - r.v * r.total_step[1]) / r.total;
  r.known = is_finite(r.u) && is_finite(r.v) && std::fabs(r.total) > kClipNoise * ((reach[0] + reach[1]) + reach[2]);
  r.sound = r.known && std::fabs(r.u) <= kMostWeight && std::fabs(r.v) <= kMostWeight &&
            std::fabs(r.share[2] / r.total) <= kMostWeight;
  for (int k = 0; k < 4; ++k) r.sound = r.sound && is_finite(r.step[k]);
  return r;
}

// What is returned at a covered pixel; `tested` is the depth that was compared.
template <class T>
FOCUS_HD void resolve_clip(const ClipCorner c[3], int64_t row, int64_t column, int64_t H, int64_t W, double tested,
                           T b[2], T& depth, T step[4]) {
  const AboutPixel a = about_pixel(c, row, column, H, W);
  const ClipWeights r = weights_at(a);
  const double z = ((r.share[0] * c[0].z + r.share[1] * c[1].z) + r.share[2] * c[2].z) /
                   ((r.share[0] * c[0].w + r.share[1] * c[1].w) + r.share[2] * c[2].w);
  depth = static_cast<T>(clamped(is_finite(z) ? z : tested, -1, 1));
  const double u = clamped(r.u, 0, 1), v = clamped(r.v, 0, 1), most = larger(u + v, 1.0);
  b[0] = r.known ? static_cast<T>(u / most) : T(0);
  b[1] = r.known ? static_cast<T>(v / most) : T(0);
  for (int k = 0; k < 4; ++k) step[k] = r.sound ? static_cast<T>(r.step[k]) : T(0);
}

// Gradient to x, y, w of the corners, from those to u and v (before they are clamped) and to their steps.
FOCUS_HD void clip_grad(const ClipCorner c[3], int64_t row, int64_t column, int64_t H, int64_t W, double grad_u,
                        double grad_v, const double grad_step[4], Vec3<double> grad[3]) {
  const AboutPixel a = about_pixel(c, row, column, H, W);
  const ClipWeights r = weights_at(a);
  for (int k = 0; k < 3; ++k) grad[k] = {0, 0, 0};
  if (!r.sound) return;
  // step = (along - weight * total_step) / total
  double g[4], grad_total = 0;
  for (int k = 0; k < 4; ++k) {
    g[k] = grad_step[k] / r.total;
    grad_total -= g[k] * r.step[k];
  }
  grad_u = (grad_u - (g[0] * r.total_step[0] + g[1] * r.total_step[1])) / r.total;
  grad_v = (grad_v - (g[2] * r.total_step[0] + g[3] * r.total_step[1])) / r.total;
  grad_total -= grad_u * r.u + grad_v * r.v;
  const double all_x = -(g[0] * r.u + g[2] * r.v), all_y = -(g[1] * r.u + g[3] * r.v);
  const double share[3] = {grad_total + grad_u, grad_total + grad_v, grad_total};
  const double along_x[3] = {(all_x + g[0]) * a.per_column, (all_x + g[2]) * a.per_column, all_x * a.per_column};
  const double along_y[3] = {(all_y + g[1]) * a.per_row, (all_y + g[3]) * a.per_row, all_y * a.per_row};
  for (int i = 0; i < 3; ++i) {
    const int k = (i + 1) % 3, l = (i + 2) % 3;
    grad[k].x += share[i] * a.y[l] - along_y[i] * a.w[l];
    grad[l].x += along_y[i] * a.w[k] - share[i] * a.y[k];
    grad[k].y += along_x[i] * a.w[l] - share[i] * a.x[l];
    grad[l].y += share[i] * a.x[k] - along_x[i] * a.w[k];
    grad[k].z += along_y[i] * a.x[l] - along_x[i] * a.y[l];
    grad[l].z += along_x[i] * a.y[k] - along_y[i] * a.x[k];
  }
  for (int k = 0; k < 3; ++k) grad[k].z -= a.X * grad[k].x + a.Y * grad[k].y;
}

}  // namespace focus
