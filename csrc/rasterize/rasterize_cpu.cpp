// rasterize on the CPU: images, cut into stripes when there are fewer images than threads, run in parallel.
#include "core/cpu.h"
#include "core/pages.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "rasterize/rasterize_image.h"
#include "rasterize/rasterize_math.h"

namespace focus {

namespace baseline {
extern const RasterKernels raster_table;
}
#ifdef FOCUS_X86_SIMD
namespace avx2 {
extern const RasterKernels raster_table;
}
namespace avx512 {
extern const RasterKernels raster_table;
}
#endif

const RasterKernels& raster_kernels() {
#ifdef FOCUS_X86_SIMD
  if (isa() == Isa::avx512) return avx512::raster_table;
  if (isa() == Isa::avx2) return avx2::raster_table;
#endif
  return baseline::raster_table;
}

template <class T>
void rasterize_cpu(const RasterizeParams<T>& p) {
  // Stripes repeat the culling, so they pay only where images are fewer than threads. Results do not depend on them.
  const int64_t stripes = stripes_of(p.B, p.H, p.threads), pixels = p.H * p.W;
  expect_large_pages(p.face_index, p.B * pixels);
  expect_large_pages(p.barycentrics, 3 * p.B * pixels);
  expect_large_pages(p.depth, p.B * pixels);
  parallel_for(p.B * stripes, p.threads, [&](int64_t job) {
    const int64_t b = job / stripes, stripe = job % stripes;
    RasterImage<T> image{nullptr, p.faces, p.F, p.H, p.W, p.H * stripe / stripes, p.H * (stripe + 1) / stripes,
                         p.rule,  {}};
    T* points = nullptr;
    auto carve = [&](char* block) {
      Carve c(block);
      points = c.take<T>(4 * p.V);
      take(c, pixels, image.buffer);
      return c.used();
    };
    carve(Scratch::get(carve(nullptr)));
    make_points(p.positions + 3 * p.V * b, p.V, points);
    image.points = points;
    draw(image);
    resolve(image, {p.face_index + pixels * b, p.barycentrics + 3 * pixels * b, p.depth + pixels * b, nullptr, nullptr,
                    nullptr});
  });
}

template <class T>
void rasterize_grad_cpu(const RasterizeGradParams<T>& p) {
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
      Triangle<T> t;
      for (int k = 0; k < 3; ++k) {
        const T* v = positions + int64_t{3} * face[k];
        t.v[k] = {v[0], v[1], v[2]};
      }
      T grad_b[3] = {0, 0, 0};
      if (p.grad_barycentrics != nullptr)
        for (int k = 0; k < 3; ++k) grad_b[k] = p.grad_barycentrics[3 * at + k];
      T grad_d = p.grad_depth != nullptr ? p.grad_depth[at] : T(0);
      Vec3<T> grad[3];
      sample_grad(t, pixel % p.W + T(0.5), pixel / p.W + T(0.5), p.perspective, grad_b, grad_d, grad);
      for (int k = 0; k < 3; ++k) {
        T* g = grad_positions + int64_t{3} * face[k];
        g[0] += grad[k].x;
        g[1] += grad[k].y;
        g[2] += grad[k].z;
      }
    }
  });
}

template void rasterize_cpu(const RasterizeParams<float>&);
template void rasterize_cpu(const RasterizeParams<double>&);
template void rasterize_grad_cpu(const RasterizeGradParams<float>&);
template void rasterize_grad_cpu(const RasterizeGradParams<double>&);

}  // namespace focus
