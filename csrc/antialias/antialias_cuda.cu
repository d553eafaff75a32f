// antialias on the GPU: a thread per pixel looks for the silhouettes to its right and below, then gathers from its four
// sides. The gradient of the positions is gathered by vertex, from the pairs across the silhouette edges around it.
#include "antialias/antialias.h"
#include "antialias/antialias_math.h"
#include "core/cuda.cuh"

namespace focus {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 4 : 3) find_edges_kernel(AntialiasParams<T> p) {
  const AntialiasMesh& m = p.mesh;
  const int64_t pixels = m.H * m.W, pixel = thread();
  if (pixel >= pixels) return;
  int64_t row, column;
  split(pixel, m.W, row, column);
  for (int64_t b = blockIdx.y; b < m.B; b += gridDim.y) {
    const int32_t* ids = p.face_index + pixels * b + pixel;
    const T *depth = p.depth + pixels * b + pixel, *positions = p.positions + 3 * m.V * b;
    for (int axis = 0; axis < 2; ++axis) {
      const int64_t step = axis == 0 ? 1 : m.W;
      int32_t code = 0;
      if ((axis == 0 ? column + 1 < m.W : row + 1 < m.H) && ids[0] != ids[step])
        code = edge_between(positions, Sides<T>{positions, m.faces}, m, p.opposite, ids[0], ids[step], depth[0],
                            depth[step], axis, row, column);
      p.edges[pixels * (2 * b + axis) + pixel] = code;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 4 : 2) blend_edges_kernel(AntialiasParams<T> p) {
  const AntialiasMesh& m = p.mesh;
  const int64_t pixels = m.H * m.W, pixel = thread();
  if (pixel >= pixels) return;
  int64_t row, column;
  split(pixel, m.W, row, column);
  for (int64_t b = blockIdx.y; b < m.B; b += gridDim.y) {
    const T* image = p.image + p.C * pixels * b;
    T* out = p.out + p.C * pixels * b;
#pragma unroll 4
    for (int64_t c = 0; c < p.C; ++c) out[pixels * c + pixel] = image[pixels * c + pixel];
#pragma unroll 1
    for (int k = 0; k < 4; ++k) {
      const Beside side = beside(k, row, column, m.H, m.W);
      const int32_t code = side.pair >= 0 ? p.edges[2 * pixels * b + side.pair] : 0;
      if (code == 0) continue;
      const Exchange<T> e = exchange(p.positions + 3 * m.V * b, m.faces, code, side, row, column);
      if (!e.takes_some) continue;
#pragma unroll 4
      for (int64_t c = 0; c < p.C; ++c)
        out[pixels * c + pixel] += e.takes * (image[pixels * c + side.other] - image[pixels * c + pixel]);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 4 : 2) image_grad_kernel(AntialiasGradParams<T> p) {
  const AntialiasMesh& m = p.mesh;
  const int64_t pixels = m.H * m.W, pixel = thread();
  if (pixel >= pixels) return;
  int64_t row, column;
  split(pixel, m.W, row, column);
  for (int64_t b = blockIdx.y; b < m.B; b += gridDim.y) {
    const T* grad = p.grad + p.C * pixels * b;
    T* grad_image = p.grad_image + p.C * pixels * b;
#pragma unroll 4
    for (int64_t c = 0; c < p.C; ++c) grad_image[pixels * c + pixel] = grad[pixels * c + pixel];
#pragma unroll 1
    for (int k = 0; k < 4; ++k) {
      const Beside side = beside(k, row, column, m.H, m.W);
      const int32_t code = side.pair >= 0 ? p.edges[2 * pixels * b + side.pair] : 0;
      if (code == 0) continue;
      const Exchange<T> e = exchange(p.positions + 3 * m.V * b, m.faces, code, side, row, column);
#pragma unroll 4
      for (int64_t c = 0; c < p.C; ++c) {
        T* at = grad_image + pixels * c + pixel;
        if (e.takes_some) *at -= e.takes * grad[pixels * c + pixel];
        if (e.gives_some) *at += e.gives * grad[pixels * c + side.other];
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) seen_edges_kernel(AntialiasGradParams<T> p) {
  const AntialiasMesh& m = p.mesh;
  const int64_t pairs = 2 * m.H * m.W, pair = thread();
  if (pair >= pairs) return;
  for (int64_t b = blockIdx.y; b < m.B; b += gridDim.y) {
    const int32_t code = p.edges[pairs * b + pair];
    if (code == 0) continue;
    const int32_t corner = corner_of(code);
    atomicOr(p.seen + m.F * b + corner / 3, 1u << corner % 3);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 2 : 1) silhouette_grad_kernel(AntialiasGradParams<T> p) {
  const AntialiasMesh& m = p.mesh;
  const int64_t v = thread();
  if (v >= m.V) return;
  for (int64_t b = blockIdx.y; b < m.B; b += gridDim.y) {
    Vec3<T> grad = {0, 0, 0};
    vertex_grad(p, p.seen + m.F * b, b, v, grad);
    T* at = p.grad_positions + 3 * (m.V * b + v);
    at[0] = grad.x;
    at[1] = grad.y;
    at[2] = grad.z;
  }
}

}  // namespace

template <class T>
void antialias_cuda(const AntialiasParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  const dim3 pixels = grid(p.mesh.H * p.mesh.W, p.mesh.B);
  FOCUS_KERNEL(find_edges_kernel<T>, pixels, kThreads, 0, stream, p);
  FOCUS_KERNEL(blend_edges_kernel<T>, pixels, kThreads, 0, stream, p);
}

template <class T>
void antialias_grad_cuda(const AntialiasGradParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  const AntialiasMesh& m = p.mesh;
  if (p.grad_image != nullptr) FOCUS_KERNEL(image_grad_kernel<T>, grid(m.H * m.W, m.B), kThreads, 0, stream, p);
  if (p.grad_positions != nullptr) {
    fill_bytes(p.seen, 0, m.B * m.F, stream);
    FOCUS_KERNEL(seen_edges_kernel<T>, grid(2 * m.H * m.W, m.B), kThreads, 0, stream, p);
    FOCUS_KERNEL(silhouette_grad_kernel<T>, grid(m.V, m.B), kThreads, 0, stream, p);
  }
}

template void antialias_cuda(const AntialiasParams<float>&, int, cudaStream_t);
template void antialias_cuda(const AntialiasParams<double>&, int, cudaStream_t);
template void antialias_grad_cuda(const AntialiasGradParams<float>&, int, cudaStream_t);
template void antialias_grad_cuda(const AntialiasGradParams<double>&, int, cudaStream_t);

}  // namespace focus
