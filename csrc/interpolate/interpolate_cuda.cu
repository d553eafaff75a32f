// interpolate on the GPU: a thread per pixel. The backward to the attributes is gathered by vertex, without float
// atomics, from the pixels in the boxes of the faces around it; those boxes come from integer maxima over the pixels.
#include "core/reduce.cuh"
#include "interpolate/interpolate.h"
#include "interpolate/interpolate_math.h"

namespace focus {
namespace {

constexpr int kChannels = 4;    // gathered at a time
constexpr int64_t kAlone = 64;  // pixels of a box that one thread scans by itself
constexpr int kNothing = 0x80;  // a byte; four of them are below any row or column, negated or not

template <class T>
__global__ void __launch_bounds__(kThreads) interpolate_kernel(InterpolateParams<T> p) {
  const int64_t pixels = p.H * p.W, pixel = thread();
  if (pixel >= pixels) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    const int64_t at = pixels * b + pixel;
    const int32_t id = p.face_index[at];
    T* out = p.out + p.C * pixels * b + pixel;
    if (!in_mesh(id, p.F)) {
      for (int64_t c = 0; c < p.C; ++c) out[c * pixels] = 0;
      continue;
    }
    const int32_t* face = p.faces + int64_t{3} * id;
    const T w[3] = {p.barycentrics[3 * at], p.barycentrics[3 * at + 1], p.barycentrics[3 * at + 2]};
    const T* attributes = p.attributes + p.V * p.C * b;
    const T *a0 = attributes + p.C * face[0], *a1 = attributes + p.C * face[1], *a2 = attributes + p.C * face[2];
    for (int64_t c = 0; c < p.C; ++c) out[c * pixels] = mix(w, a0[c], a1[c], a2[c]);
  }
}

// Gradient of the barycentrics, and the boxes: the maxima of -column, -row, column, row over each face's pixels.
template <class T>
__global__ void __launch_bounds__(kThreads) weights_grad_kernel(InterpolateGradParams<T> p) {
  const int64_t pixels = p.H * p.W, pixel = thread();
  if (pixel >= pixels) return;
  int64_t row, column;
  split(pixel, p.W, row, column);
  const int32_t corner[4] = {-static_cast<int32_t>(column), -static_cast<int32_t>(row), static_cast<int32_t>(column),
                             static_cast<int32_t>(row)};
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    const int64_t at = pixels * b + pixel;
    const int32_t id = p.face_index[at];
    T grad_w[3] = {0, 0, 0};
    if (in_mesh(id, p.F)) {
      const T* grad = p.grad + p.C * pixels * b + pixel;
      const T* attributes = p.attributes + p.V * p.C * b;
      for (int k = 0; k < 3; ++k) {
        const T* a = attributes + p.C * p.faces[int64_t{3} * id + k];
        for (int64_t c = 0; c < p.C; ++c) grad_w[k] += grad[c * pixels] * a[c];
      }
      // A maximum only grows, so a stale value that is large enough spares the atomic.
      int32_t* box = p.boxes + 4 * (p.F * b + id);
      for (int k = 0; k < 4; ++k)
        if (relaxed_load(box + k) < corner[k]) atomicMax(box + k, corner[k]);
    }
    for (int k = 0; k < 3; ++k) p.grad_barycentrics[3 * at + k] = grad_w[k];
  }
}

// One corner of a face and the pixels that may show it; no rows where it is unseen.
struct Corner {
  int32_t face, k;
  int32_t first_column, last_column, first_row, last_row;

  __device__ bool large() const {
    return (int64_t{last_column} - first_column + 1) * (int64_t{last_row} - first_row + 1) > kAlone;
  }
};

template <class T>
__device__ __forceinline__ Corner load_corner(const InterpolateGradParams<T>& p, int64_t b, int32_t j) {
  const int32_t corner = p.corners[j], f = corner / 3;
  const int32_t* box = p.boxes + 4 * (p.F * b + f);
  if (box[3] < 0) return {f, corner - 3 * f, 0, -1, 0, -1};
  return {f, corner - 3 * f, -box[0], box[2], -box[1], box[3]};
}

// Adds the pixels (column, row) = first + (x, y) + multiples of (nx, ny), in order, for channels [c, c + kChannels).
template <class T>
__device__ __forceinline__ void add_pixels(const InterpolateGradParams<T>& p, int64_t b, const Corner& corner,
                                           int64_t c, int x, int y, int nx, int ny, T (&sum)[kChannels]) {
  const int64_t pixels = p.H * p.W;
  const T* grad = p.grad + (p.C * b + c) * pixels;
  for (int64_t row = int64_t{corner.first_row} + y; row <= corner.last_row; row += ny)
    for (int64_t column = int64_t{corner.first_column} + x; column <= corner.last_column; column += nx) {
      const int64_t pixel = row * p.W + column, at = pixels * b + pixel;
      if (p.face_index[at] != corner.face) continue;
      const T w = p.barycentrics[3 * at + corner.k];
#pragma unroll
      for (int i = 0; i < kChannels; ++i)
        if (c + i < p.C) sum[i] += grad[i * pixels + pixel] * w;
    }
}

// A thread per vertex, corner after corner. A large box is scanned by the whole warp, for one lane after the other.
template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? 4 : 2) gather_small_kernel(InterpolateGradParams<T> p) {
  const int64_t v = thread();
  const int lane = threadIdx.x % 32;
  const int32_t begin = v < p.V ? p.offsets[v] : 0, end = v < p.V ? p.offsets[v + 1] : 0;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    for (int64_t c = int64_t{kChannels} * blockIdx.z; c < p.C; c += int64_t{kChannels} * gridDim.z) {
      T sum[kChannels] = {0};
      for (int32_t j = begin; __any_sync(kAllLanes, j < end); ++j) {
        Corner corner = {0, 0, 0, -1, 0, -1};
        if (j < end) corner = load_corner(p, b, j);
        const bool large = corner.large();
        if (!large) add_pixels(p, b, corner, c, 0, 0, 1, 1, sum);
        for (unsigned rest = __ballot_sync(kAllLanes, large); rest != 0; rest &= rest - 1) {
          const int owner = __ffs(static_cast<int>(rest)) - 1;
          const int32_t theirs = __shfl_sync(kAllLanes, j, owner);
          T part[kChannels] = {0};
          add_pixels(p, b, load_corner(p, b, theirs), c, lane % 8, lane / 8, 8, 4, part);
#pragma unroll
          for (int i = 0; i < kChannels; ++i) {
            const T total = warp_sum<1>(part + i);
            if (lane == owner) sum[i] += total;
          }
        }
      }
      if (v < p.V)
        for (int i = 0; i < kChannels && c + i < p.C; ++i) p.grad_attributes[(p.V * b + v) * p.C + c + i] = sum[i];
    }
  }
}

// A block per vertex, for images much larger than their meshes.
template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? kAnyBlocks : 5)
    gather_large_kernel(InterpolateGradParams<T> p) {
  FOCUS_SHARED(T, rows, [kWarps][kChannels]);
  FOCUS_SHARED(T, total, [kChannels]);
  const int64_t v = blockIdx.x;
  const int32_t begin = p.offsets[v], end = p.offsets[v + 1];
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    for (int64_t c = int64_t{kChannels} * blockIdx.z; c < p.C; c += int64_t{kChannels} * gridDim.z) {
      T sum[kChannels] = {0};
      for (int32_t j = begin; j < end; ++j)
        add_pixels(p, b, load_corner(p, b, j), c, threadIdx.x % 16, threadIdx.x / 16, 16, 16, sum);
      block_sums<kChannels>(sum, true, rows, total, 1);
      const int i = threadIdx.x;
      if (i < kChannels && c + i < p.C) p.grad_attributes[(p.V * b + v) * p.C + c + i] = total[i];
    }
  }
}

}  // namespace

template <class T>
void interpolate_cuda(const InterpolateParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  FOCUS_KERNEL(interpolate_kernel<T>, grid(p.H * p.W, p.B), kThreads, 0, stream, p);
}

template <class T>
void interpolate_grad_cuda(const InterpolateGradParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  fill_bytes(p.boxes, kNothing, p.B * p.F * 4, stream);
  FOCUS_KERNEL(weights_grad_kernel<T>, grid(p.H * p.W, p.B), kThreads, 0, stream, p);
  // Decided by shapes alone, so that equal shapes add in equal order.
  const bool large = p.H * p.W > kAlone * p.F;
  dim3 vertices = grid(p.V, p.B);
  if (large) vertices.x = static_cast<unsigned>(p.V);
  const int64_t chunks = (p.C + kChannels - 1) / kChannels;
  vertices.z = static_cast<unsigned>(chunks < 65535 ? chunks : 65535);
  if (large)
    FOCUS_KERNEL(gather_large_kernel<T>, vertices, kThreads, 0, stream, p);
  else
    FOCUS_KERNEL(gather_small_kernel<T>, vertices, kThreads, 0, stream, p);
}

template void interpolate_cuda(const InterpolateParams<float>&, int, cudaStream_t);
template void interpolate_cuda(const InterpolateParams<double>&, int, cudaStream_t);
template void interpolate_grad_cuda(const InterpolateGradParams<float>&, int, cudaStream_t);
template void interpolate_grad_cuda(const InterpolateGradParams<double>&, int, cudaStream_t);

}  // namespace focus
