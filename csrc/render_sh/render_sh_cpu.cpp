// render_sh on the CPU: an image is a chunk. Where images are fewer than threads, its pixels are cut into stripes.
#include <algorithm>
#include <memory>

#include "core/cpu.h"
#include "core/parallel.h"
#include "rasterize/rasterize_image.h"
#include "render_sh/render_sh_image.h"
#include "render_sh/render_sh_math.h"
#include "vertex_normals/vertex_normals_image.h"

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
  stage.colors = colors;
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

// Adds the gradients of image b's pixels, in order, to `corner` [V, 8]: colour (3), position (3), unused.
template <class T>
void add_pixels(const RenderShGradParams<T>& p, int64_t b, const T* colors, T* corner) {
  const Scene<T>& s = p.scene;
  const int64_t pixels = s.H * s.W;
  const T* positions = p.positions + 3 * s.V * b;
  for (int64_t row = 0; row < s.H; ++row) {
    for (int64_t column = 0; column < s.W; ++column) {
      const int64_t pixel = row * s.W + column, at = pixels * b + pixel;
      const int32_t id = p.face_index[at];
      if (id < 0) continue;
      const int32_t* face = s.faces + int64_t{3} * id;
      Triangle<T> t;
      const T* color[3];
      for (int k = 0; k < 3; ++k) {
        const T* v = positions + int64_t{3} * face[k];
        t.v[k] = {v[0], v[1], v[2]};
        color[k] = colors + int64_t{4} * face[k];
      }
      PixelGrad<T> g;
      pixel_grad(t, color, column + T(0.5), row + T(0.5), p.perspective,
                 p.grad_image != nullptr ? p.grad_image + 3 * pixels * b + pixel : nullptr, pixels,
                 p.grad_barycentrics != nullptr ? p.grad_barycentrics + 3 * at : nullptr,
                 p.grad_depth != nullptr ? p.grad_depth + at : nullptr, g);
      for (int k = 0; k < 3; ++k) {
        T* sum = corner + int64_t{8} * face[k];
        const T own[6] = {g.color[k][0],   g.color[k][1],   g.color[k][2],
                          g.position[k].x, g.position[k].y, g.position[k].z};
        for (int j = 0; j < 6; ++j) sum[j] += own[j];
      }
    }
  }
}

template <class T>
void image_grad(const RenderShGradParams<T>& p, int64_t b) {
  const Scene<T>& s = p.scene;
  T *sums = nullptr, *colors = nullptr, *corner = nullptr;
  auto carve = [&](char* block) {
    Carve c(block);
    sums = c.take<T>(4 * s.V);
    colors = c.take<T>(4 * s.V);
    corner = c.take<T>(8 * s.V);
    return c.used();
  };
  carve(Scratch::get(carve(nullptr)));
  VertexStage<T> stage = vertex_stage(s, b);
  stage.sums = sums;
  stage.colors = colors;
  run(stage);
  std::fill(corner, corner + 8 * s.V, T(0));
  add_pixels(p, b, colors, corner);

  T total[kRenderSums] = {0};
  for (int64_t begin = 0; begin < s.V; begin += kRenderPart) {
    T part[kRenderSums] = {0};
    for (int64_t v = begin; v < std::min(begin + kRenderPart, s.V); ++v) {
      const int64_t at = 3 * (s.V * b + v);
      const T* own = corner + 8 * v;
      T* grad_v = p.grad_vertices + at;
      T grad_position[3] = {own[3], own[4], own[5]};
      const T* position = p.positions + at;
      if (p.grad_positions != nullptr && has_gradient(position, s.orthographic))
        for (int k = 0; k < 3; ++k) grad_position[k] += p.grad_positions[at + k];
      for (int k = 0; k < 3; ++k) grad_v[k] = 0;
      if (grad_position[0] != 0 || grad_position[1] != 0 || grad_position[2] != 0)
        project_vertex_grad(stage.K, stage.R, stage.t, s.orthographic, stage.vertices + 3 * v, position, grad_position,
                            grad_v, part + 27);
      // From here on `sums` holds the gradient of the sums.
      T grad_sum[4] = {0, 0, 0, 0};
      T* grad_albedo = p.grad_albedo + at;
      if (own[0] != 0 || own[1] != 0 || own[2] != 0)
        color_vertex_grad(sums + 4 * v, stage.R, stage.albedo + 3 * v, stage.sh, s.focus, own, grad_albedo, grad_sum,
                          part, part + 33);
      else
        grad_albedo[0] = grad_albedo[1] = grad_albedo[2] = 0;
      for (int k = 0; k < 4; ++k) sums[4 * v + k] = grad_sum[k];
    }
    for (int k = 0; k < kRenderSums; ++k) total[k] += part[k];
  }
  add_normals_grad(stage.vertices, 3, s.faces, s.F, sums, p.grad_vertices + 3 * s.V * b, 3);
  for (int k = 0; k < 27; ++k) p.grad_sh_coeffs[27 * b + k] = total[k];
  for (int k = 0; k < 9; ++k) p.grad_K[9 * b + k] = k < 6 ? total[27 + k] : T(0);
  for (int k = 0; k < 9; ++k) p.grad_R[9 * b + k] = total[33 + k];
  for (int k = 0; k < 3; ++k) p.grad_t[3 * b + k] = total[42 + k];
}

}  // namespace

template <class T>
void render_sh_grad_cpu(const RenderShGradParams<T>& p) {
  // One image is one chunk: the sums do not depend on threads or on how a batch was split.
  parallel_for(p.scene.B, p.scene.threads, [&](int64_t b) { image_grad(p, b); });
}

template void render_sh_cpu(const RenderShParams<float>&);
template void render_sh_cpu(const RenderShParams<double>&);
template void render_sh_grad_cpu(const RenderShGradParams<float>&);
template void render_sh_grad_cpu(const RenderShGradParams<double>&);

}  // namespace focus
