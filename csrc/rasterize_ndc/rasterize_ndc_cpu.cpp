// rasterize_ndc on the CPU: vertices to pixels, then rasterize's draw(), then PyTorch3D's numbers for each pixel.
#include "core/cpu.h"
#include "core/pages.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "rasterize_ndc/rasterize_ndc_image.h"
#include "rasterize_ndc/rasterize_ndc_math.h"

namespace focus {

namespace baseline {
extern const NdcKernels ndc_table;
}
#ifdef FOCUS_X86_SIMD
namespace avx2 {
extern const NdcKernels ndc_table;
}
namespace avx512 {
extern const NdcKernels ndc_table;
}
#endif

namespace {

const NdcKernels& ndc_kernels() {
#ifdef FOCUS_X86_SIMD
  if (isa() == Isa::avx512) return avx512::ndc_table;
  if (isa() == Isa::avx2) return avx2::ndc_table;
#endif
  return baseline::ndc_table;
}

void resolve(const RasterImage<float>& r, const NdcRule& rule, const ResolvedNdc<float>& o) {
  ndc_kernels().resolve32(r, rule, o);
}
void resolve(const RasterImage<double>& r, const NdcRule& rule, const ResolvedNdc<double>& o) {
  ndc_kernels().resolve64(r, rule, o);
}

// positions [V, 3] -> points [V, 4] in pixels, NaN where a vertex cannot be drawn.
template <class T>
void make_ndc_points(const RasterizeNdcParams<T>& p, const T* positions, T* points) {
  for (int64_t v = 0; v < p.V; ++v) {
    Vec3<T> point = to_pixels(positions + 3 * v, p.H, p.W, p.rule.scale);
    if (!drawable(point.x, point.y, point.z)) point.x = point.y = point.z = std::numeric_limits<T>::quiet_NaN();
    points[4 * v] = point.x;
    points[4 * v + 1] = point.y;
    points[4 * v + 2] = point.z;
    points[4 * v + 3] = 0;
  }
}

}  // namespace

template <class T>
void rasterize_ndc_cpu(const RasterizeNdcParams<T>& p) {
  const int64_t stripes = stripes_of(p.B, p.H, p.threads), pixels = p.H * p.W;
  expect_large_pages(p.face_index, p.B * pixels);
  expect_large_pages(p.depth, p.B * pixels);
  expect_large_pages(p.barycentrics, 3 * p.B * pixels);
  expect_large_pages(p.distances, p.B * pixels);
  parallel_for(p.B * stripes, p.threads, [&](int64_t job) {
    const int64_t b = job / stripes, stripe = job % stripes;
    RasterImage<T> image{};
    image.faces = p.faces;
    image.F = p.F;
    image.H = p.H;
    image.W = p.W;
    image.first_row = p.H * stripe / stripes;
    image.last_row = p.H * (stripe + 1) / stripes;
    image.rule = raster_rule(p.rule, p.cull);
    image.areas = area_rule(p.rule);
    T* points = nullptr;
    auto carve = [&](char* block) {
      Carve c(block);
      points = c.take<T>(4 * p.V);
      take(c, pixels, image.buffer);
      return c.used();
    };
    carve(Scratch::get(carve(nullptr)));
    make_ndc_points(p, p.positions + 3 * p.V * b, points);
    image.points = points;
    draw(image);
    resolve(
        image, p.rule,
        {p.face_index + pixels * b, p.depth + pixels * b, p.barycentrics + 3 * pixels * b, p.distances + pixels * b});
  });
}

template <class T>
void rasterize_ndc_grad_cpu(const RasterizeNdcGradParams<T>& p) {
  // One image is one chunk, its pixels in order: the sums do not depend on threads or on how a batch was split.
  const int64_t pixels = p.H * p.W;
  expect_large_pages(p.grad_positions, 3 * p.B * p.V);
  parallel_for(p.B, p.threads, [&](int64_t b) {
    const T* positions = p.positions + 3 * p.V * b;
    T* grad_positions = p.grad_positions + 3 * p.V * b;
    for (int64_t i = 0; i < 3 * p.V; ++i) grad_positions[i] = 0;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int64_t at = pixels * b + pixel;
      const int32_t id = p.face_index[at];
      if (id < 0) continue;
      const int32_t* face = p.faces + int64_t{3} * id;
      const Triangle<T> t = triangle_in_pixels(positions, face, p.H, p.W, p.rule.scale);
      T grad_b[3] = {0, 0, 0};
      if (p.grad_barycentrics != nullptr)
        for (int k = 0; k < 3; ++k) grad_b[k] = p.grad_barycentrics[3 * at + k];
      const T grad_d = p.grad_depth != nullptr ? p.grad_depth[at] : T(0);
      const T grad_q = p.grad_distances != nullptr ? p.grad_distances[at] : T(0);
      Vec3<T> grad[3];
      ndc_sample_grad(t, pixel % p.W + T(0.5), pixel / p.W + T(0.5), p.rule, grad_d, grad_b, grad_q, grad);
      for (int k = 0; k < 3; ++k) {
        T* g = grad_positions + int64_t{3} * face[k];
        g[0] += grad[k].x;
        g[1] += grad[k].y;
        g[2] += grad[k].z;
      }
    }
  });
}

template void rasterize_ndc_cpu(const RasterizeNdcParams<float>&);
template void rasterize_ndc_cpu(const RasterizeNdcParams<double>&);
template void rasterize_ndc_grad_cpu(const RasterizeNdcGradParams<float>&);
template void rasterize_ndc_grad_cpu(const RasterizeNdcGradParams<double>&);

}  // namespace focus
