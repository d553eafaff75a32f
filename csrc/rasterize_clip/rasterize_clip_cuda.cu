// rasterize_clip on the GPU. What is wholly in view is drawn as rasterize draws it (rasterize_draw.cuh), in double; the
// triangles that cross the border of the view go to a list, and a block clips and draws each. Gradients are summed as
// rasterize sums them (rasterize_gather.cuh).
#include "rasterize/rasterize_draw.cuh"
#include "rasterize/rasterize_gather.cuh"
#include "rasterize_clip/rasterize_clip_math.h"

namespace focus {
namespace {

// Whether image b draws face f.
__device__ __forceinline__ bool in_range(const int32_t* ranges, int64_t b, int64_t f) {
  if (ranges == nullptr) return true;
  const int64_t k = f - ranges[2 * b];
  return k >= 0 && k < ranges[2 * b + 1];
}

// The passes of rasterize, kept to what lies behind a layer and to the faces of the image.
struct NearestBehind : Nearest<double> {
  __device__ static bool has(const RasterizeParams<double>& p, int64_t b, int64_t f) {
    return in_range(p.ranges, b, f);
  }
  __device__ static void put(const RasterizeParams<double>& p, int64_t at, double depth, int32_t id) {
    if (p.behind == nullptr || depth > p.behind[at]) Nearest<double>::put(p, at, depth, id);
  }
};

struct WinnerBehind : Winner {
  __device__ static bool has(const RasterizeParams<double>& p, int64_t b, int64_t f) {
    return in_range(p.ranges, b, f);
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) points_kernel(RasterizeClipParams<T> p) {
  const int64_t v = thread();
  if (v >= p.V) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    const Vec3<double> at = point_of(load_clip(p.positions + 4 * p.V * b, v), p.H, p.W);
    double* out = p.points + 3 * (p.V * b + v);
    out[0] = at.x;
    out[1] = at.y;
    out[2] = at.z;
  }
}

template <class T>
__device__ __forceinline__ void load_corners(const T* positions, const int32_t* face, ClipCorner* corner) {
#pragma unroll
  for (int k = 0; k < 3; ++k) corner[k] = load_clip(positions, face[k]);
}

template <class T>
__global__ void __launch_bounds__(kThreads) find_crossing_kernel(RasterizeClipParams<T> p) {
  const int64_t f = thread();
  if (f >= p.F) return;
  const int64_t last = p.B * p.F + 1;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    if (!in_range(p.ranges, b, f)) continue;
    ClipCorner corner[3];
    load_corners(p.positions + 4 * p.V * b, p.faces + 3 * f, corner);
    if (!crosses_view(corner[0], corner[1], corner[2])) continue;
    const unsigned long long slot = atomicAdd(reinterpret_cast<unsigned long long*>(p.spill + last), 1ULL);
    p.spill[last - 1 - static_cast<int64_t>(slot)] = p.F * b + f;
  }
}

template <class Pass_, class T_>
struct Crossing {
  using Pass = Pass_;
  using T = T_;
};

// The listed triangles, a block each: its first thread clips, all draw.
template <class Job>
__global__ void __launch_bounds__(kThreads, 2)
    draw_crossing_kernel(RasterizeClipParams<typename Job::T> p, RasterizeParams<double> d) {
  FOCUS_SHARED(ClipCorner, polygon, [kMaxCorners]);
  FOCUS_SHARED(ClipCorner, other, [kMaxCorners]);
  FOCUS_SHARED(int, corner_count, );
  const int64_t last = p.B * p.F + 1, count = p.spill[last];
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const int64_t job = p.spill[last - 1 - i], b = job / p.F, f = job - b * p.F;
    if (threadIdx.x == 0) {
      load_corners(p.positions + 4 * p.V * b, p.faces + 3 * f, polygon);
      corner_count = clip(polygon, other);
    }
    __syncthreads();
    const int n = corner_count;
    for (int k = 1; k + 1 < n; ++k) {
      const Triangle<double> t = {
          {on_screen(polygon[0], p.H, p.W), on_screen(polygon[k], p.H, p.W), on_screen(polygon[k + 1], p.H, p.W)}};
      const double area = signed_area(t);
      if (area == 0) continue;
      const Box box = sample_box(t, p.H, p.W);
      for (int64_t row = box.first_row + threadIdx.x / kTile; row <= box.last_row; row += kTile)
        for (int64_t column = box.first_column + threadIdx.x % kTile; column <= box.last_column; column += kTile)
          draw_sample<typename Job::Pass>(d, t, area, b, static_cast<int32_t>(f), row, column);
    }
    __syncthreads();
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) resolve_clip_kernel(RasterizeClipParams<T> p) {
  const int64_t pixel = thread();
  if (pixel >= p.H * p.W) return;
  int64_t row, column;
  split(pixel, p.W, row, column);
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    const int64_t at = p.H * p.W * b + pixel;
    const int32_t id = p.face_index[at];
    T weights[2] = {0, 0}, depth = 0, step[4] = {0, 0, 0, 0};
    double nearest = __longlong_as_double(0x7FF0000000000000LL);  // infinity
    if (id >= 0) {
      nearest = p.nearest[at] - kDepthOffset;
      ClipCorner corner[3];
      load_corners(p.positions + 4 * p.V * b, p.faces + int64_t{3} * id, corner);
      resolve_clip(corner, row, column, p.H, p.W, nearest, weights, depth, step);
    }
    p.nearest[at] = nearest;
    p.depth[at] = depth;
    for (int k = 0; k < 2; ++k) p.barycentrics[2 * at + k] = weights[k];
    if (p.derivatives != nullptr)
      for (int k = 0; k < 4; ++k) p.derivatives[4 * at + k] = step[k];
  }
}

template <class Pass, class T>
void draw_clip_pass(const RasterizeClipParams<T>& p, const RasterizeParams<double>& d, cudaStream_t stream) {
  using Job = Crossing<Pass, T>;
  const int64_t most = p.B * p.F;
  const dim3 blocks(most < kSpillBlocks ? static_cast<unsigned>(most) : kSpillBlocks);
  draw_pass<Pass>(d, stream);
  FOCUS_KERNEL(draw_crossing_kernel<Job>, blocks, kThreads, 0, stream, p, d);
}

template <class S>
struct ClipPixels {
  using T = double;
  static constexpr int kSums = 9;  // x, y, w of the three corners
  struct Face {
    Triangle<double> t;  // for its box: the whole image where a corner is out of view
    ClipCorner corner[3];
  };
  RasterizeClipGradParams<S> p;

  __device__ Face load(int64_t b, int32_t id) const {
    Face face;
    load_corners(p.positions + 4 * p.V * b, p.faces + int64_t{3} * id, face.corner);
    const double H = static_cast<double>(p.H), W = static_cast<double>(p.W);
    bool whole = true;
    for (int k = 0; k < 3; ++k) whole = whole && in_view(face.corner[k]);
    for (int k = 0; k < 3; ++k)
      face.t.v[k] = whole ? on_screen(face.corner[k], p.H, p.W) : Vec3<double>{k == 1 ? W : 0, k == 2 ? H : 0, 0};
    return face;
  }
  __device__ void add(const Face& face, int64_t b, int64_t row, int64_t column, double (&sums)[kSums]) const {
    const int64_t at = (p.H * b + row) * p.W + column;
    double grad_b[2] = {0, 0}, grad_step[4] = {0, 0, 0, 0};
    if (p.grad_barycentrics != nullptr)
      for (int k = 0; k < 2; ++k) grad_b[k] = p.grad_barycentrics[2 * at + k];
    if (p.grad_derivatives != nullptr)
      for (int k = 0; k < 4; ++k) grad_step[k] = p.grad_derivatives[4 * at + k];
    Vec3<double> grad[3];
    clip_grad(face.corner, row, column, p.H, p.W, grad_b[0], grad_b[1], grad_step, grad);
    for (int k = 0; k < 3; ++k) {
      sums[3 * k] += grad[k].x;
      sums[3 * k + 1] += grad[k].y;
      sums[3 * k + 2] += grad[k].z;
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) gather_clip_kernel(RasterizeClipGradParams<T> p, SeenFaces<double> seen) {
  const int64_t v = thread();
  if (v >= p.V) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    double grad[3] = {0, 0, 0};
    gather_corners<3>(seen, p.offsets, p.corners, b, v, grad);
    T* out = p.grad_positions + 4 * (p.V * b + v);
    out[0] = static_cast<T>(grad[0]);
    out[1] = static_cast<T>(grad[1]);
    out[2] = 0;
    out[3] = static_cast<T>(grad[2]);
  }
}

}  // namespace

template <class T>
void rasterize_clip_cuda(const RasterizeClipParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  const int64_t pixels = p.B * p.H * p.W;
  if (pixels == 0) return;
  uint64_t* keys = reinterpret_cast<uint64_t*>(p.nearest);
  RasterizeParams<double> d{p.points, p.faces, p.face_index, nullptr,   nullptr, p.B,  p.V,
                            p.F,      p.H,     p.W,          kClipRule, 0,       keys, p.spill};
  d.behind = p.behind;
  d.ranges = p.ranges;
  fill_bytes(keys, 0xFF, pixels, stream);
  fill_bytes(p.spill, 0, 1, stream);
  fill_bytes(p.spill + p.B * p.F + 1, 0, 1, stream);
  fill_bytes(p.face_index, 0xFF, pixels, stream);
  FOCUS_KERNEL(points_kernel<T>, grid(p.V, p.B), kThreads, 0, stream, p);
  FOCUS_KERNEL(find_crossing_kernel<T>, grid(p.F, p.B), kThreads, 0, stream, p);
  draw_clip_pass<NearestBehind>(p, d, stream);
  draw_clip_pass<WinnerBehind>(p, d, stream);
  FOCUS_KERNEL(resolve_clip_kernel<T>, grid(p.H * p.W, p.B), kThreads, 0, stream, p);
}

template <class T>
void rasterize_clip_grad_cuda(const RasterizeClipGradParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  const SeenFaces<double> seen{nullptr, p.faces, p.face_index, p.first, p.sums, p.B, p.V, p.F, p.H, p.W};
  find_first_pixels(seen, "rasterize_clip_grad", stream);
  sum_faces(ClipPixels<T>{p}, seen, stream);
  FOCUS_KERNEL(gather_clip_kernel<T>, grid(p.V, p.B), kThreads, 0, stream, p, seen);
}

template void rasterize_clip_cuda(const RasterizeClipParams<float>&, int, cudaStream_t);
template void rasterize_clip_cuda(const RasterizeClipParams<double>&, int, cudaStream_t);
template void rasterize_clip_grad_cuda(const RasterizeClipGradParams<float>&, int, cudaStream_t);
template void rasterize_clip_grad_cuda(const RasterizeClipGradParams<double>&, int, cudaStream_t);

}  // namespace focus
