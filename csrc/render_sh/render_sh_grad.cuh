// The kernels of render_sh's backward: colours again, the sums of visible faces, vertices, then their normals.
// Included by render_sh_cuda.cu only.
#pragma once
#include "core/reduce.cuh"
#include "rasterize/rasterize_gather.cuh"
#include "render_sh/render_sh.h"
#include "render_sh/render_sh_math.h"
#include "vertex_normals/vertex_normals_gather.cuh"

namespace focus {
namespace {

static_assert(kRenderPart == kThreads, "a block sums one part");

// Colours and sums of normals, for the vertices of visible faces only: nothing reads the others.
template <class T>
__global__ void __launch_bounds__(kThreads) seen_vertices_kernel(RenderShGradParams<T> p) {
  const Scene<T>& s = p.scene;
  const int64_t v = thread();
  if (v >= s.V) return;
  const int32_t begin = s.offsets[v], end = s.offsets[v + 1];
  for (int64_t b = blockIdx.y; b < s.B; b += gridDim.y) {
    bool seen = false;
    for (int32_t j = begin; j < end && !seen; ++j) seen = p.first[s.F * b + s.corners[j] / 3] != kUnseen;
    if (!seen) continue;
    const int64_t at = s.V * b + v;
    Four<T> sum, color{};
    gather_normals({s.faces, s.offsets, s.corners}, s.vertices + 3 * s.V * b, v, !s.focus, sum.v);
    color_vertex(sum.v, s.R + 9 * b, s.albedo + 3 * at, s.sh_coeffs + 27 * b, s.focus, color.v);
    store4(p.grad_sums, at, sum);
    store4(p.colors, at, color);
  }
}

template <class S>
struct ShadedPixels {
  using T = S;
  static constexpr int kSums = 18;  // red, green, blue, x, y, depth of the three corners
  struct Face {
    Triangle<T> t;
    Four<T> color[3];
  };
  RenderShGradParams<T> p;

  __device__ Face load(int64_t b, int32_t id) const {
    const Scene<T>& s = p.scene;
    const int32_t* corner = s.faces + int64_t{3} * id;
    Face face;
    face.t = load_triangle(p.positions + 3 * s.V * b, corner);
    for (int k = 0; k < 3; ++k) face.color[k] = load4(p.colors, s.V * b + corner[k]);
    return face;
  }
  __device__ void add(const Face& face, int64_t b, int64_t row, int64_t column, T (&sums)[kSums]) const {
    const Scene<T>& s = p.scene;
    const int64_t pixels = s.H * s.W, pixel = row * s.W + column, at = pixels * b + pixel;
    const T* const color[3] = {face.color[0].v, face.color[1].v, face.color[2].v};
    PixelGrad<T> g;
    pixel_grad(face.t, color, static_cast<T>(column) + T(0.5), static_cast<T>(row) + T(0.5), p.perspective,
               p.grad_image != nullptr ? p.grad_image + 3 * pixels * b + pixel : nullptr, pixels,
               p.grad_barycentrics != nullptr ? p.grad_barycentrics + 3 * at : nullptr,
               p.grad_depth != nullptr ? p.grad_depth + at : nullptr, g);
    for (int k = 0; k < 3; ++k) {
      for (int c = 0; c < 3; ++c) sums[6 * k + c] += g.color[k][c];
      sums[6 * k + 3] += g.position[k].x;
      sums[6 * k + 4] += g.position[k].y;
      sums[6 * k + 5] += g.position[k].z;
    }
  }
};

// Gathers the gradient of vertex v's colour and position and takes it through shading and camera. Adds to `part`,
// writes grad_albedo, the camera's share of grad_vertices, and the gradient of the sum of normals. Returns whether
// there is any.
template <class T>
__device__ __forceinline__ bool vertex_grad(const RenderShGradParams<T>& p, const SeenFaces<T>& seen, int64_t b,
                                            int64_t v, T (&part)[kRenderSums]) {
  const Scene<T>& s = p.scene;
  const int64_t at = s.V * b + v;
  T own[6] = {0}, grad_v[3] = {0}, grad_albedo[3] = {0};
  Four<T> grad_sum{};
  gather_corners<6>(seen, s.offsets, s.corners, b, v, own);
  const T position[3] = {p.positions[3 * at], p.positions[3 * at + 1], p.positions[3 * at + 2]};
  T grad_position[3] = {own[3], own[4], own[5]};
  if (p.grad_positions != nullptr && has_gradient(position, s.orthographic))
    for (int k = 0; k < 3; ++k) grad_position[k] += p.grad_positions[3 * at + k];
  const bool moved = grad_position[0] != 0 || grad_position[1] != 0 || grad_position[2] != 0;
  const bool lit = own[0] != 0 || own[1] != 0 || own[2] != 0;
  if (moved)
    project_vertex_grad(s.K + 9 * b, s.R + 9 * b, s.t + 3 * b, s.orthographic, s.vertices + 3 * at, position,
                        grad_position, grad_v, part + 27);
  if (lit) {
    const Four<T> sum = load4(p.grad_sums, at);
    color_vertex_grad(sum.v, s.R + 9 * b, s.albedo + 3 * at, s.sh_coeffs + 27 * b, s.focus, own, grad_albedo,
                      grad_sum.v, part, part + 33);
  }
  store4(p.grad_sums, at, grad_sum);
  for (int k = 0; k < 3; ++k) {
    p.grad_vertices[3 * at + k] = grad_v[k];
    p.grad_albedo[3 * at + k] = grad_albedo[k];
  }
  return moved || lit;
}

template <class T>
__global__ void __launch_bounds__(kThreads) vertices_grad_kernel(RenderShGradParams<T> p, SeenFaces<T> seen) {
  FOCUS_SHARED(T, rows, [kWarps][kRenderSums]);
  const int64_t v = thread();
  for (int64_t b = blockIdx.y; b < p.scene.B; b += gridDim.y) {
    T part[kRenderSums] = {0};
    const bool some = v < p.scene.V && vertex_grad(p, seen, b, v, part);
    block_sums<kRenderSums>(part, some, rows, p.partial + kRenderSums * (gridDim.x * b + blockIdx.x), 1);
  }
}

// The share of grad_vertices that goes through the normals.
template <class T>
__global__ void __launch_bounds__(kThreads) normals_grad_kernel(RenderShGradParams<T> p) {
  const Scene<T>& s = p.scene;
  const int64_t v = thread();
  if (v >= s.V) return;
  for (int64_t b = blockIdx.y; b < s.B; b += gridDim.y) {
    const int64_t first = s.V * b;
    T* out = p.grad_vertices + 3 * (first + v);
    T grad[3] = {out[0], out[1], out[2]};
    gather_normals_grad({s.faces, s.offsets, s.corners}, s.vertices + 3 * first, p.grad_sums + 4 * first, v, !s.focus,
                        grad);
    for (int k = 0; k < 3; ++k) out[k] = grad[k];
  }
}

constexpr int kOutputs = 48;  // 27 of the light, 9 of K, 9 of R, 3 of t

// A warp per output: adds the parts up. The last row of K is not read, so its gradient is zero.
template <class T>
__global__ void __launch_bounds__(kThreads) parts_kernel(RenderShGradParams<T> p, int64_t parts) {
  const int k = static_cast<int>(thread() / 32);
  if (k >= kOutputs) return;
  const bool fixed = k >= 33 && k < 36;
  const int column = k < 33 ? k : k - 3;
  for (int64_t b = blockIdx.y; b < p.scene.B; b += gridDim.y) {
    const T sum = fixed ? T(0) : sum_parts(p.partial + kRenderSums * parts * b, parts, kRenderSums, column);
    if (threadIdx.x % 32 != 0) continue;
    if (k < 27)
      p.grad_sh_coeffs[27 * b + k] = sum;
    else if (k < 36)
      p.grad_K[9 * b + k - 27] = sum;
    else if (k < 45)
      p.grad_R[9 * b + k - 36] = sum;
    else
      p.grad_t[3 * b + k - 45] = sum;
  }
}

}  // namespace
}  // namespace focus
