// Gradients of pixels -> gradients of the corners of their faces, shared by rasterize and render_sh. No float atomics.
// Included by .cu files only.
//
// Every visible face has one pixel of its own, the lowest at which it is seen. The thread of that pixel adds up the
// face's pixels in order, and leaves the sums there; vertices then gather them from the faces around them. A face whose
// box is large is added up by the whole block instead. So no sum depends on scheduling.
#pragma once
#include <stdexcept>
#include <string>

#include "core/reduce.cuh"
#include "rasterize/rasterize_draw.cuh"

namespace focus {
namespace {

constexpr uint32_t kUnseen = 0xFFFFFFFFu;

// What the pixels of one call have in common.
template <class T>
struct SeenFaces {
  const T* positions;         // [B, V, 3]
  const int32_t* faces;       // [F, 3]
  const int32_t* face_index;  // [B, H, W]
  uint32_t* first;            // [B, F] the lowest pixel of each face, kUnseen where there is none
  T* sums;                    // [B, Op::kSums, H, W], written at the first pixel of each face only
  int64_t B, V, F, H, W;
};

template <class T>
__global__ void __launch_bounds__(kThreads) first_pixels_kernel(SeenFaces<T> s) {
  const int64_t pixels = s.H * s.W, pixel = thread();
  if (pixel >= pixels) return;
  for (int64_t b = blockIdx.y; b < s.B; b += gridDim.y) {
    const int32_t* ids = s.face_index + pixels * b;
    const int32_t id = ids[pixel];
    if (id < 0) continue;
    // Of a large face only its upper left border asks for the minimum.
    if (pixel > 0 && ids[pixel - 1] == id) continue;
    if (pixel >= s.W && ids[pixel - s.W] == id) continue;
    atomicMin(s.first + s.F * b + id, static_cast<uint32_t>(pixel));
  }
}

template <class T>
void find_first_pixels(const SeenFaces<T>& s, const char* op, cudaStream_t stream) {
  if (s.H * s.W >= int64_t{kUnseen})
    throw std::invalid_argument(std::string(op) + "(): expected H * W to be below 2^32 - 1, got " +
                                std::to_string(s.H * s.W));
  fill_bytes(s.first, 0xFF, s.B * s.F, stream);
  FOCUS_KERNEL(first_pixels_kernel<T>, grid(s.H * s.W, s.B), kThreads, 0, stream, s);
}

// Op::load(b, id) gives what the pixels of a face share, its triangle `t` among it; Op::add(face, b, row, column, sums)
// adds the kSums numbers of one pixel: kSums / 3 for each corner.
template <class Op>
__global__ void __launch_bounds__(kThreads, sizeof(typename Op::T) == 4 ? 2 : 1)
    face_sums_kernel(Op op, SeenFaces<typename Op::T> s) {
  using T = typename Op::T;
  FOCUS_SHARED(T, rows, [kWarps][Op::kSums]);
  FOCUS_SHARED(int, queue, [kThreads]);
  FOCUS_SHARED(int, queued, );
  const int64_t pixels = s.H * s.W, pixel = thread();
  for (int64_t b = blockIdx.y; b < s.B; b += gridDim.y) {
    const int32_t* ids = s.face_index + pixels * b;
    T* out = s.sums + Op::kSums * pixels * b;
    if (threadIdx.x == 0) queued = 0;
    __syncthreads();
    const int32_t id = pixel < pixels ? ids[pixel] : -1;
    if (id >= 0 && s.first[s.F * b + id] == static_cast<uint32_t>(pixel)) {
      const typename Op::Face face = op.load(b, id);
      const Box box = sample_box(face.t, s.H, s.W);
      if (box.samples() > kInlineSamples) {
        queue[atomicAdd(&queued, 1)] = threadIdx.x;
      } else {
        T sums[Op::kSums] = {0};
        int64_t row, ignored;
        split(pixel, s.W, row, ignored);
        for (; row <= box.last_row; ++row)
          for (int64_t column = box.first_column; column <= box.last_column; ++column)
            if (ids[row * s.W + column] == id) op.add(face, b, row, column, sums);
#pragma unroll
        for (int k = 0; k < Op::kSums; ++k) out[k * pixels + pixel] = sums[k];
      }
    }
    __syncthreads();
    const int count = queued;
    for (int i = 0; i < count; ++i) {
      const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + queue[i];
      const int32_t large = ids[at];
      const typename Op::Face face = op.load(b, large);
      const Box box = sample_box(face.t, s.H, s.W);
      T sums[Op::kSums] = {0};
      int64_t row, ignored;
      split(at, s.W, row, ignored);
      for (row += threadIdx.x / kTile; row <= box.last_row; row += kTile)
        for (int64_t column = box.first_column + threadIdx.x % kTile; column <= box.last_column; column += kTile)
          if (ids[row * s.W + column] == large) op.add(face, b, row, column, sums);
      block_sums<Op::kSums>(sums, true, rows, out + at, pixels);
    }
    __syncthreads();
  }
}

template <class Op>
void sum_faces(const Op& op, const SeenFaces<typename Op::T>& s, cudaStream_t stream) {
  FOCUS_KERNEL(face_sums_kernel<Op>, grid(s.H * s.W, s.B), kThreads, 0, stream, op, s);
}

// Adds the numbers [kEach * corner, kEach * (corner + 1)) of the sums of the faces around vertex v, for image b.
// Returns whether any of them is seen.
template <int kEach, class T>
__device__ __forceinline__ bool gather_corners(const SeenFaces<T>& s, const int32_t* offsets, const int32_t* corners,
                                               int64_t b, int64_t v, T sum[kEach]) {
  const int64_t pixels = s.H * s.W;
  bool seen = false;
  const int32_t end = offsets[v + 1];
  for (int32_t j = offsets[v]; j < end; ++j) {
    const int32_t corner = corners[j], f = corner / 3;
    const uint32_t first = s.first[s.F * b + f];
    if (first == kUnseen) continue;
    seen = true;
    const T* at = s.sums + (3 * b * kEach + (corner - 3 * f) * kEach) * pixels + first;
#pragma unroll
    for (int k = 0; k < kEach; ++k) sum[k] += at[k * pixels];
  }
  return seen;
}

}  // namespace
}  // namespace focus
