// render_sh on the GPU, forward: vertices, then triangles, then pixels. The backward is in render_sh_grad.cuh.
#include "interpolate/interpolate_math.h"
#include "rasterize/rasterize_draw.cuh"
#include "render_sh/render_sh_grad.cuh"

namespace focus {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) vertices_kernel(RenderShParams<T> p) {
  const Scene<T>& s = p.scene;
  const int64_t v = thread();
  if (v >= s.V) return;
  for (int64_t b = blockIdx.y; b < s.B; b += gridDim.y) {
    const int64_t at = s.V * b + v;
    T position[3], sum[4];
    project_vertex(s.K + 9 * b, s.R + 9 * b, s.t + 3 * b, s.orthographic, s.vertices + 3 * at, position);
    for (int k = 0; k < 3; ++k) p.positions[3 * at + k] = position[k];
    gather_normals({s.faces, s.offsets, s.corners}, s.vertices + 3 * s.V * b, v, !s.focus, sum);
    Four<T> color{};
    color_vertex(sum, s.R + 9 * b, s.albedo + 3 * at, s.sh_coeffs + 27 * b, s.focus, color.v);
    store4(p.colors, at, color);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    shade_pixels_kernel(RasterizeParams<T> r, const T* colors, T* image, T* mask) {
  const int64_t pixels = r.H * r.W, pixel = thread();
  if (pixel >= pixels) return;
  int64_t row, column;
  split(pixel, r.W, row, column);
  for (int64_t b = blockIdx.y; b < r.B; b += gridDim.y) {
    T w[3], rgb[3] = {0, 0, 0};
    const int32_t id = resolve_pixel(r, b, row, column, w);
    if (id >= 0) {
      const int32_t* face = r.faces + int64_t{3} * id;
      Four<T> c[3];
      for (int k = 0; k < 3; ++k) c[k] = load4(colors, r.V * b + face[k]);
      for (int k = 0; k < 3; ++k) rgb[k] = mix(w, c[0].v[k], c[1].v[k], c[2].v[k]);
    }
    for (int k = 0; k < 3; ++k) image[(3 * b + k) * pixels + pixel] = rgb[k];
    mask[b * pixels + pixel] = id >= 0 ? T(1) : T(0);
  }
}

}  // namespace

template <class T>
void render_sh_cuda(const RenderShParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  const Scene<T>& s = p.scene;
  const RasterizeParams<T> r{p.positions, s.faces, p.face_index, p.barycentrics, p.depth,   s.B,    s.V,
                             s.F,         s.H,     s.W,          p.rule,         s.threads, p.keys, p.spill};
  FOCUS_KERNEL(vertices_kernel<T>, grid(s.V, s.B), kThreads, 0, stream, p);
  draw(r, stream);
  FOCUS_KERNEL(shade_pixels_kernel<T>, grid(s.H * s.W, s.B), kThreads, 0, stream, r, p.colors, p.image, p.mask);
}

template <class T>
void render_sh_grad_cuda(const RenderShGradParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  const Scene<T>& s = p.scene;
  const SeenFaces<T> seen{p.positions, s.faces, p.face_index, p.first, p.sums, s.B, s.V, s.F, s.H, s.W};
  const dim3 vertices = grid(s.V, s.B);
  const int64_t parts = vertices.x;
  find_first_pixels(seen, "render_sh_grad", stream);
  FOCUS_KERNEL(seen_vertices_kernel<T>, vertices, kThreads, 0, stream, p);
  sum_faces(ShadedPixels<T>{p}, seen, stream);
  FOCUS_KERNEL(vertices_grad_kernel<T>, vertices, kThreads, 0, stream, p, seen);
  FOCUS_KERNEL(normals_grad_kernel<T>, vertices, kThreads, 0, stream, p);
  FOCUS_KERNEL(parts_kernel<T>, grid(kOutputs * 32, s.B), kThreads, 0, stream, p, parts);
}

template void render_sh_cuda(const RenderShParams<float>&, int, cudaStream_t);
template void render_sh_cuda(const RenderShParams<double>&, int, cudaStream_t);
template void render_sh_grad_cuda(const RenderShGradParams<float>&, int, cudaStream_t);
template void render_sh_grad_cuda(const RenderShGradParams<double>&, int, cudaStream_t);

}  // namespace focus
