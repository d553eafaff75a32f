// rasterize_ndc on the GPU: vertices to pixels, rasterize's draw, PyTorch3D's numbers for each pixel; the backward
// gathers as rasterize's does (rasterize_gather.cuh).
#include "rasterize/rasterize_draw.cuh"
#include "rasterize/rasterize_gather.cuh"
#include "rasterize_ndc/rasterize_ndc.h"
#include "rasterize_ndc/rasterize_ndc_math.h"

namespace focus {
namespace {

// rasterize's passes by PyTorch3D's rules.
template <class S>
struct NdcNearest : Nearest<S> {
  using Params = AreaParams<S>;
  static constexpr int kBlocks = sizeof(S) == 4 ? 3 : 2;
};
struct NdcWinner : Winner {
  using Params = AreaParams<double>;
};

template <class T>
__global__ void __launch_bounds__(kThreads) to_pixels_kernel(RasterizeNdcParams<T> p) {
  const int64_t v = thread();
  if (v >= p.B * p.V) return;
  const Vec3<T> point = to_pixels(p.positions + 3 * v, p.H, p.W, p.rule.scale);
  p.pixels[3 * v] = point.x;
  p.pixels[3 * v + 1] = point.y;
  p.pixels[3 * v + 2] = point.z;
}

template <class T>
__global__ void __launch_bounds__(kThreads) resolve_kernel(RasterizeNdcParams<T> p, AreaParams<T> drawn) {
  const int64_t pixel = thread();
  if (pixel >= p.H * p.W) return;
  int64_t row, column;
  split(pixel, p.W, row, column);
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    const int64_t at = p.H * p.W * b + pixel;
    T depth, weights[3] = {-1, -1, -1}, distance = -1;
    const int32_t id = winner(drawn, at, depth);
    if (id < 0) {
      depth = -1;
    } else {
      const Triangle<T> t = load_triangle(p.pixels + 3 * p.V * b, p.faces + int64_t{3} * id);
      T e[3];
      edges(t, static_cast<T>(column) + T(0.5), static_cast<T>(row) + T(0.5), e);
      for (int k = 0; k < 3; ++k) e[k] = std::fabs(e[k]);  // covered, so all three have one sign
      ndc_values(t, e, p.rule, depth, weights, distance);
    }
    p.face_index[at] = id;
    p.depth[at] = depth;
    for (int k = 0; k < 3; ++k) p.barycentrics[3 * at + k] = weights[k];
    p.distances[at] = distance;
  }
}

template <class S>
struct NdcPixels {
  using T = S;
  static constexpr int kSums = 9;  // x, y, depth of the three corners
  struct Face {
    Triangle<T> t;
  };
  RasterizeNdcGradParams<T> p;

  __device__ Face load(int64_t b, int32_t id) const {
    return {triangle_in_pixels(p.positions + 3 * p.V * b, p.faces + int64_t{3} * id, p.H, p.W, p.rule.scale)};
  }
  __device__ void add(const Face& face, int64_t b, int64_t row, int64_t column, T (&sums)[kSums]) const {
    const int64_t at = (p.H * b + row) * p.W + column;
    T grad_b[3] = {0, 0, 0};
    if (p.grad_barycentrics != nullptr)
      for (int k = 0; k < 3; ++k) grad_b[k] = p.grad_barycentrics[3 * at + k];
    const T grad_d = p.grad_depth != nullptr ? p.grad_depth[at] : T(0);
    const T grad_q = p.grad_distances != nullptr ? p.grad_distances[at] : T(0);
    Vec3<T> grad[3];
    ndc_sample_grad(face.t, static_cast<T>(column) + T(0.5), static_cast<T>(row) + T(0.5), p.rule, grad_d, grad_b,
                    grad_q, grad);
    for (int k = 0; k < 3; ++k) {
      sums[3 * k] += grad[k].x;
      sums[3 * k + 1] += grad[k].y;
      sums[3 * k + 2] += grad[k].z;
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) gather_positions_kernel(RasterizeNdcGradParams<T> p, SeenFaces<T> seen) {
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
void rasterize_ndc_cuda(const RasterizeNdcParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  AreaParams<T> drawn{};
  drawn.positions = p.pixels;
  drawn.faces = p.faces;
  drawn.face_index = p.face_index;
  drawn.B = p.B;
  drawn.V = p.V;
  drawn.F = p.F;
  drawn.H = p.H;
  drawn.W = p.W;
  drawn.rule = raster_rule(p.rule, p.cull);
  drawn.areas = area_rule(p.rule);
  drawn.keys = p.keys;
  drawn.spill = p.spill;
  FOCUS_KERNEL(to_pixels_kernel<T>, grid(p.B * p.V, 1), kThreads, 0, stream, p);
  draw<NdcNearest, NdcWinner>(drawn, stream);
  FOCUS_KERNEL(resolve_kernel<T>, grid(p.H * p.W, p.B), kThreads, 0, stream, p, drawn);
}

template <class T>
void rasterize_ndc_grad_cuda(const RasterizeNdcGradParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  const SeenFaces<T> seen{p.positions, p.faces, p.face_index, p.first, p.sums, p.B, p.V, p.F, p.H, p.W};
  find_first_pixels(seen, "rasterize_ndc_grad", stream);
  sum_faces(NdcPixels<T>{p}, seen, stream);
  FOCUS_KERNEL(gather_positions_kernel<T>, grid(p.V, p.B), kThreads, 0, stream, p, seen);
}

template void rasterize_ndc_cuda(const RasterizeNdcParams<float>&, int, cudaStream_t);
template void rasterize_ndc_cuda(const RasterizeNdcParams<double>&, int, cudaStream_t);
template void rasterize_ndc_grad_cuda(const RasterizeNdcGradParams<float>&, int, cudaStream_t);
template void rasterize_ndc_grad_cuda(const RasterizeNdcGradParams<double>&, int, cudaStream_t);

}  // namespace focus
