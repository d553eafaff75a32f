// render_sh on the CPU: an image is a chunk. Where images are fewer than threads, its pixels are cut into stripes.
#include <algorithm>
#include <memory>

#include "core/cpu.h"
#include "core/pages.h"
#include "core/parallel.h"
#include "rasterize/rasterize_image.h"
#include "render_sh/render_sh_image.h"

namespace focus {

namespace baseline {
extern const VertexKernels vertex_table;
}
#ifdef FOCUS_X86_SIMD
namespace avx2 {
extern const VertexKernels vertex_table;
}
namespace avx512 {
extern const VertexKernels vertex_table;
}
#endif

const VertexKernels& vertex_kernels() {
#ifdef FOCUS_X86_SIMD
  if (isa() == Isa::avx512) return avx512::vertex_table;
  if (isa() == Isa::avx2) return avx2::vertex_table;
#endif
  return baseline::vertex_table;
}

namespace {

template <class T>
void run_vertices(const RenderShParams<T>& p, int64_t b, T* points, T* sums, T* colors) {
  VertexStage<T> stage = vertex_stage(p.scene, b);
  stage.positions = p.positions + 3 * p.scene.V * b;
  stage.points = points;
  stage.sums = sums;
  stage.colors = stage.table = colors;
  run(stage);
}

template <class T>
void run_pixels(const RenderShParams<T>& p, int64_t b, int64_t first_row, int64_t last_row, const T* points,
                const T* colors, const DepthBuffer<T>& buffer) {
  const Scene<T>& s = p.scene;
  const int64_t at = s.H * s.W * b;
  RasterImage<T> image{points, s.faces, s.F, s.H, s.W, first_row, last_row, p.rule, buffer};
  draw(image);
  resolve(image, {p.face_index + at, p.barycentrics + 3 * at, p.depth + at, colors, p.image + 3 * at, p.mask + at});
}

}  // namespace

template <class T>
void render_sh_cpu(const RenderShParams<T>& p) {
  const Scene<T>& s = p.scene;
  const int64_t stripes = stripes_of(s.B, s.H, s.threads), pixels = s.H * s.W;
  for (T* out : {p.mask, p.depth}) expect_large_pages(out, s.B * pixels);
  for (T* out : {p.image, p.barycentrics}) expect_large_pages(out, 3 * s.B * pixels);
  expect_large_pages(p.face_index, s.B * pixels);
  expect_large_pages(p.positions, 3 * s.B * s.V);
  if (stripes == 1) {
    parallel_for(s.B, s.threads, [&](int64_t b) {
      T *points = nullptr, *sums = nullptr, *colors = nullptr;
      DepthBuffer<T> buffer{};
      auto carve = [&](char* block) {
        Carve c(block);
        points = c.take<T>(4 * s.V);
        sums = c.take<T>(4 * s.V);
        colors = c.take<T>(4 * s.V);
        take(c, pixels, buffer);
        return c.used();
      };
      carve(Scratch::get(carve(nullptr)));
      run_vertices(p, b, points, sums, colors);
      run_pixels(p, b, 0, s.H, points, colors, buffer);
    });
    return;
  }
  // Fewer images than threads: the vertices of an image in one thread, then its stripes in many.
  std::unique_ptr<T[]> vertices(new T[8 * s.V * s.B]);
  parallel_for(s.B, s.threads, [&](int64_t b) {
    T* sums = reinterpret_cast<T*>(Scratch::get(sizeof(T) * 4 * s.V));
    run_vertices(p, b, vertices.get() + 8 * s.V * b, sums, vertices.get() + 8 * s.V * b + 4 * s.V);
  });
  parallel_for(s.B * stripes, s.threads, [&](int64_t job) {
    const int64_t b = job / stripes, stripe = job % stripes;
    DepthBuffer<T> buffer{};
    auto carve = [&](char* block) {
      Carve c(block);
      take(c, pixels, buffer);
      return c.used();
    };
    carve(Scratch::get(carve(nullptr)));
    const T* points = vertices.get() + 8 * s.V * b;
    run_pixels(p, b, s.H * stripe / stripes, s.H * (stripe + 1) / stripes, points, points + 4 * s.V, buffer);
  });
}

namespace {

template <class T>
void image_grad(const RenderShGradParams<T>& p, int64_t b) {
  const Scene<T>& s = p.scene;
  const int64_t pixels = s.H * s.W;
  T totals[kRenderSums];
  GradStage<T> g{};
  g.vertices = vertex_stage(s, b);
  auto carve = [&](char* block) {
    Carve c(block);
    g.vertices.points = c.take<T>(4 * s.V);
    g.vertices.table = c.take<T>(4 * s.V);
    g.vertices.sums = c.take<T>(4 * s.V);
    g.vertices.colors = c.take<T>(4 * s.V);
    g.corner = c.take<T>(8 * s.V);
    return c.used();
  };
  carve(Scratch::get(carve(nullptr)));
  auto image = [&](const T* grad, int64_t channels) { return grad == nullptr ? grad : grad + channels * pixels * b; };
  g.grad_image = image(p.grad_image, 3);
  g.grad_barycentrics = image(p.grad_barycentrics, 3);
  g.grad_depth = image(p.grad_depth, 1);
  g.grad_positions = p.grad_positions == nullptr ? nullptr : p.grad_positions + 3 * s.V * b;
  g.positions = p.positions + 3 * s.V * b;
  g.face_index = p.face_index + pixels * b;
  g.H = s.H;
  g.W = s.W;
  g.perspective = p.perspective;
  g.grad_vertices = p.grad_vertices + 3 * s.V * b;
  g.grad_albedo = p.grad_albedo + 3 * s.V * b;
  g.totals = totals;
  run(g.vertices);
  run(g);
  for (int k = 0; k < 27; ++k) p.grad_sh_coeffs[27 * b + k] = totals[k];
  for (int k = 0; k < 9; ++k) p.grad_K[9 * b + k] = k < 6 ? totals[27 + k] : T(0);
  for (int k = 0; k < 9; ++k) p.grad_R[9 * b + k] = totals[33 + k];
  for (int k = 0; k < 3; ++k) p.grad_t[3 * b + k] = totals[42 + k];
}

}  // namespace

template <class T>
void render_sh_grad_cpu(const RenderShGradParams<T>& p) {
  for (T* out : {p.grad_vertices, p.grad_albedo}) expect_large_pages(out, 3 * p.scene.B * p.scene.V);
  // One image is one chunk: the sums do not depend on threads or on how a batch was split.
  parallel_for(p.scene.B, p.scene.threads, [&](int64_t b) { image_grad(p, b); });
}

template void render_sh_cpu(const RenderShParams<float>&);
template void render_sh_cpu(const RenderShParams<double>&);
template void render_sh_grad_cpu(const RenderShGradParams<float>&);
template void render_sh_grad_cpu(const RenderShGradParams<double>&);

}  // namespace focus
