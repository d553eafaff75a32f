// rasterize on the GPU: see rasterize_draw.cuh (forward) and rasterize_gather.cuh (backward) for how.
#include "rasterize/rasterize.h"
#include "rasterize/rasterize_draw.cuh"
#include "rasterize/rasterize_gather.cuh"

namespace focus {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) resolve_kernel(RasterizeParams<T> p) {
  const int64_t pixel = thread();
  if (pixel >= p.H * p.W) return;
  int64_t row, column;
  split(pixel, p.W, row, column);
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    T w[3];
    resolve_pixel(p, b, row, column, w);
  }
}

template <class S>
struct RasterPixels {
  using T = S;
  static constexpr int kSums = 9;  // x, y, depth of the three corners
  struct Face {
    Triangle<T> t;
  };
  RasterizeGradParams<T> p;

  __device__ Face load(int64_t b, int32_t id) const {
    return {load_triangle(p.positions + 3 * p.V * b, p.faces + int64_t{3} * id)};
  }
  __device__ void add(const Face& face, int64_t b, int64_t row, int64_t column, T (&sums)[kSums]) const {
    const int64_t at = (p.H * b + row) * p.W + column;
    T grad_b[3] = {0, 0, 0};
    if (p.grad_barycentrics != nullptr)
      for (int k = 0; k < 3; ++k) grad_b[k] = p.grad_barycentrics[3 * at + k];
    const T grad_d = p.grad_depth != nullptr ? p.grad_depth[at] : T(0);
    Vec3<T> grad[3];
    sample_grad(face.t, static_cast<T>(column) + T(0.5), static_cast<T>(row) + T(0.5), p.perspective, grad_b, grad_d,
                grad);
    for (int k = 0; k < 3; ++k) {
      sums[3 * k] += grad[k].x;
      sums[3 * k + 1] += grad[k].y;
      sums[3 * k + 2] += grad[k].z;
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) gather_positions_kernel(RasterizeGradParams<T> p, SeenFaces<T> seen) {
  const int64_t v = thread();
  if (v >= p.V) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    T grad[3] = {0, 0, 0};
    gather_corners<3>(seen, p.offsets, p.corners, b, v, grad);
    for (int k = 0; k < 3; ++k) p.grad_positions[3 * (p.V * b + v) + k] = grad[k];
  }
}

}  // namespace

template <class T>
void rasterize_cuda(const RasterizeParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  draw(p, stream);
  FOCUS_KERNEL(resolve_kernel<T>, grid(p.H * p.W, p.B), kThreads, 0, stream, p);
}

template <class T>
void rasterize_grad_cuda(const RasterizeGradParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  const SeenFaces<T> seen{p.positions, p.faces, p.face_index, p.first, p.sums, p.B, p.V, p.F, p.H, p.W};
  find_first_pixels(seen, "rasterize_grad", stream);
  sum_faces(RasterPixels<T>{p}, seen, stream);
  FOCUS_KERNEL(gather_positions_kernel<T>, grid(p.V, p.B), kThreads, 0, stream, p, seen);
}

template void rasterize_cuda(const RasterizeParams<float>&, int, cudaStream_t);
template void rasterize_cuda(const RasterizeParams<double>&, int, cudaStream_t);
template void rasterize_grad_cuda(const RasterizeGradParams<float>&, int, cudaStream_t);
template void rasterize_grad_cuda(const RasterizeGradParams<double>&, int, cudaStream_t);

}  // namespace focus
