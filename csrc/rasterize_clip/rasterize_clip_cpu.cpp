// rasterize_clip on the CPU. What is wholly in view goes through the vectors of rasterize; the few triangles that cross
// the border of the view are clipped and drawn one by one.
#include "core/pages.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "rasterize/rasterize_image.h"
#include "rasterize_clip/rasterize_clip_math.h"

namespace focus {
namespace {

// positions [V, 4] -> points [V, 4]; returns whether all are in view.
template <class T>
bool make_clip_points(const RasterizeClipParams<T>& p, const T* positions, double* points) {
  bool all = true;
  for (int64_t v = 0; v < p.V; ++v) {
    const Vec3<double> at = point_of(load_clip(positions, v), p.H, p.W);
    all = all && at.z > 0;
    points[4 * v] = at.x;
    points[4 * v + 1] = at.y;
    points[4 * v + 2] = at.z;
    points[4 * v + 3] = 0;
  }
  return all;
}

void draw_one(const RasterImage<double>& r, const Triangle<double>& t, int32_t id) {
  const double area = signed_area(t);
  if (area == 0) return;
  const auto low = [](double a, double b, double c) { return std::min(std::min(a, b), c); };
  const auto high = [](double a, double b, double c) { return std::max(std::max(a, b), c); };
  int first_column, last_column, first_row, last_row;
  sample_range(low(t.v[0].x, t.v[1].x, t.v[2].x), high(t.v[0].x, t.v[1].x, t.v[2].x), r.W, first_column, last_column);
  sample_range(low(t.v[0].y, t.v[1].y, t.v[2].y), high(t.v[0].y, t.v[1].y, t.v[2].y), r.H, first_row, last_row);
  first_row = std::max(first_row, static_cast<int>(r.first_row));
  last_row = std::min(last_row, static_cast<int>(r.last_row) - 1);
  double e[3];
  for (int row = first_row; row <= last_row; ++row)
    for (int column = first_column; column <= last_column; ++column)
      if (covers(t, area, column + 0.5, row + 0.5, r.rule.coverage, e))
        put(r.buffer, int64_t{row} * r.W + column, depth_at(t, e, r.rule.perspective), id, r.rule.highest);
}

// The triangles that draw() left out because a corner is not in view.
template <class T>
void draw_crossing(const RasterImage<double>& r, const T* positions) {
  ClipCorner polygon[kMaxCorners], other[kMaxCorners];
  for (int64_t f = 0; f < r.F; ++f) {
    const int32_t* face = r.faces + 3 * f;
    bool whole = true;
    for (int k = 0; k < 3; ++k) whole = whole && r.points[int64_t{4} * face[k]] >= 0;
    if (whole) continue;
    for (int k = 0; k < 3; ++k) polygon[k] = load_clip(positions, face[k]);
    if (!crosses_view(polygon[0], polygon[1], polygon[2])) continue;
    const int count = clip(polygon, other);
    for (int k = 1; k + 1 < count; ++k) {
      const Triangle<double> t = {
          {on_screen(polygon[0], r.H, r.W), on_screen(polygon[k], r.H, r.W), on_screen(polygon[k + 1], r.H, r.W)}};
      draw_one(r, t, static_cast<int32_t>(f));
    }
  }
}

template <class T>
void resolve_rows(const RasterizeClipParams<T>& p, int64_t b, int64_t first_row, int64_t last_row, int32_t first_face) {
  const T* positions = p.positions + 4 * p.V * b;
  for (int64_t row = first_row; row < last_row; ++row) {
    for (int64_t column = 0; column < p.W; ++column) {
      const int64_t at = (p.H * b + row) * p.W + column;
      T weights[2] = {0, 0}, depth = 0, step[4] = {0, 0, 0, 0};
      if (p.face_index[at] >= 0) {
        p.face_index[at] += first_face;
        p.nearest[at] -= kDepthOffset;
        const int32_t* face = p.faces + int64_t{3} * p.face_index[at];
        ClipCorner corner[3];
        for (int k = 0; k < 3; ++k) corner[k] = load_clip(positions, face[k]);
        resolve_clip(corner, row, column, p.H, p.W, p.nearest[at], weights, depth, step);
      }
      p.barycentrics[2 * at] = weights[0];
      p.barycentrics[2 * at + 1] = weights[1];
      p.depth[at] = depth;
      if (p.derivatives != nullptr)
        for (int k = 0; k < 4; ++k) p.derivatives[4 * at + k] = step[k];
    }
  }
}

}  // namespace

template <class T>
void rasterize_clip_cpu(const RasterizeClipParams<T>& p) {
  const int64_t stripes = stripes_of(p.B, p.H, p.threads), pixels = p.H * p.W;
  expect_large_pages(p.face_index, p.B * pixels);
  expect_large_pages(p.barycentrics, 2 * p.B * pixels);
  expect_large_pages(p.nearest, p.B * pixels);
  parallel_for(p.B * stripes, p.threads, [&](int64_t job) {
    const int64_t b = job / stripes, stripe = job % stripes;
    const int32_t first = p.ranges == nullptr ? 0 : p.ranges[2 * b];
    const int64_t count = p.ranges == nullptr ? p.F : p.ranges[2 * b + 1];
    const auto carve = [&](char* block) {
      Carve c(block);
      double* points = c.take<double>(4 * p.V);
      return std::make_pair(points, c.used());
    };
    double* points = carve(Scratch::get(carve(nullptr).second)).first;
    const T* positions = p.positions + 4 * p.V * b;
    const bool all = make_clip_points(p, positions, points);
    // The outputs are the depth buffer.
    const DepthBuffer<double> buffer{p.nearest + pixels * b, p.face_index + pixels * b,
                                     p.behind == nullptr ? nullptr : p.behind + pixels * b};
    const RasterImage<double> image{points,
                                    p.faces + int64_t{3} * first,
                                    count,
                                    p.H,
                                    p.W,
                                    p.H * stripe / stripes,
                                    p.H * (stripe + 1) / stripes,
                                    kClipRule,
                                    buffer};
    draw(image);
    if (!all) draw_crossing(image, positions);
    resolve_rows(p, b, image.first_row, image.last_row, first);
  });
}

template <class T>
void rasterize_clip_grad_cpu(const RasterizeClipGradParams<T>& p) {
  // One image is one chunk, its pixels in order: the sums do not depend on threads or on how a batch was split.
  const int64_t pixels = p.H * p.W;
  expect_large_pages(p.grad_positions, 4 * p.B * p.V);
  parallel_for(p.B, p.threads, [&](int64_t b) {
    const auto carve = [&](char* block) {
      Carve c(block);
      double* sums = c.take<double>(3 * p.V);
      return std::make_pair(sums, c.used());
    };
    double* sums = carve(Scratch::get(carve(nullptr).second)).first;
    std::fill_n(sums, 3 * p.V, 0.0);
    const T* positions = p.positions + 4 * p.V * b;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int64_t at = pixels * b + pixel;
      const int32_t id = p.face_index[at];
      if (id < 0) continue;
      const int32_t* face = p.faces + int64_t{3} * id;
      ClipCorner corner[3];
      for (int k = 0; k < 3; ++k) corner[k] = load_clip(positions, face[k]);
      double grad_b[2] = {0, 0}, grad_step[4] = {0, 0, 0, 0};
      if (p.grad_barycentrics != nullptr)
        for (int k = 0; k < 2; ++k) grad_b[k] = p.grad_barycentrics[2 * at + k];
      if (p.grad_derivatives != nullptr)
        for (int k = 0; k < 4; ++k) grad_step[k] = p.grad_derivatives[4 * at + k];
      Vec3<double> grad[3];
      clip_grad(corner, pixel / p.W, pixel % p.W, p.H, p.W, grad_b[0], grad_b[1], grad_step, grad);
      for (int k = 0; k < 3; ++k) {
        double* sum = sums + int64_t{3} * face[k];
        sum[0] += grad[k].x;
        sum[1] += grad[k].y;
        sum[2] += grad[k].z;
      }
    }
    T* out = p.grad_positions + 4 * p.V * b;
    for (int64_t v = 0; v < p.V; ++v) {
      out[4 * v] = static_cast<T>(sums[3 * v]);
      out[4 * v + 1] = static_cast<T>(sums[3 * v + 1]);
      out[4 * v + 2] = 0;
      out[4 * v + 3] = static_cast<T>(sums[3 * v + 2]);
    }
  });
}

template void rasterize_clip_cpu(const RasterizeClipParams<float>&);
template void rasterize_clip_cpu(const RasterizeClipParams<double>&);
template void rasterize_clip_grad_cpu(const RasterizeClipGradParams<float>&);
template void rasterize_clip_grad_cpu(const RasterizeClipGradParams<double>&);

}  // namespace focus
