// Triangles -> the nearest face of every pixel, shared by rasterize and render_sh. Included by .cu files only.
//
// A thread per triangle: most triangles of a face mesh cover zero to two pixel centres, so sorting them into tiles
// would cost more than drawing them. Triangles with large boxes go to a list that a second grid draws, a block each.
// Winners are found by integer minima, whose order does not matter: the result does not depend on how threads are
// scheduled.
#pragma once
#include <type_traits>

#include "core/cuda.cuh"
#include "rasterize/rasterize_math.h"

namespace focus {
namespace {

constexpr int64_t kInlineSamples = 64;  // boxes with more are drawn by a block
constexpr int kTile = 16;               // of a block, in pixels: kTile x kTile threads
constexpr unsigned kSpillBlocks = 1024;
static_assert(kTile * kTile == kThreads, "a thread per pixel of the tile");

// Of one image; positions [V, 3].
template <class T>
__device__ __forceinline__ Triangle<T> load_triangle(const T* positions, const int32_t* face) {
  Triangle<T> t;
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    const T* row = positions + int64_t{3} * face[k];
    t.v[k] = {row[0], row[1], row[2]};
  }
  return t;
}

template <class T>
__device__ __forceinline__ bool all_drawable(const Triangle<T>& t) {
  bool ok = true;
  for (int k = 0; k < 3; ++k) ok = ok && drawable(t.v[k].x, t.v[k].y, t.v[k].z);
  return ok;
}

// The pixels whose centres lie in the triangle's bounding box.
struct Box {
  int first_column, last_column, first_row, last_row;

  __device__ bool empty() const { return first_column > last_column || first_row > last_row; }
  __device__ int64_t samples() const {
    return (int64_t{last_column} - first_column + 1) * (int64_t{last_row} - first_row + 1);
  }
};

template <class T>
__device__ __forceinline__ T low(T a, T b, T c) {
  return a < b ? (a < c ? a : c) : (b < c ? b : c);
}
template <class T>
__device__ __forceinline__ T high(T a, T b, T c) {
  return a > b ? (a > c ? a : c) : (b > c ? b : c);
}

template <class T>
__device__ __forceinline__ Box sample_box(const Triangle<T>& t, int64_t H, int64_t W) {
  const Vec3<T>&a = t.v[0], &b = t.v[1], &c = t.v[2];
  Box box;
  sample_range(low(a.x, b.x, c.x), high(a.x, b.x, c.x), W, box.first_column, box.last_column);
  sample_range(low(a.y, b.y, c.y), high(a.y, b.y, c.y), H, box.first_row, box.last_row);
  return box;
}

__device__ __forceinline__ uint64_t bits_of(float x) { return __float_as_uint(x); }
__device__ __forceinline__ uint64_t bits_of(double x) { return static_cast<uint64_t>(__double_as_longlong(x)); }

__device__ __forceinline__ void lower(uint64_t* key, uint64_t value) {
  static_assert(sizeof(unsigned long long) == sizeof(uint64_t), "");
  atomicMin(reinterpret_cast<unsigned long long*>(key), static_cast<unsigned long long>(value));
}

// First pass; has() says whether an image has a face. Depths are positive, so their bits order as they do. float32
// packs them over the face id, and one minimum decides both; no load before it, since a face mesh has hardly more
// samples than covered pixels.
template <class S>
struct Nearest {
  using T = S;
  using Params = RasterizeParams<T>;
  static constexpr bool kFirst = true;
  static constexpr int kBlocks = sizeof(T) == 4 ? kAnyBlocks : 2;  // of draw_kernel, in __launch_bounds__
  __device__ static bool has(const RasterizeParams<T>&, int64_t, int64_t) { return true; }
  __device__ static void put(const RasterizeParams<T>& p, int64_t at, T depth, int32_t id) {
    if constexpr (sizeof(T) == 4)
      lower(p.keys + at, bits_of(depth) << 32 | static_cast<uint32_t>(p.rule.highest ? ~id : id));
    else
      lower(p.keys + at, bits_of(depth));
  }
};

// Second pass of float64: among the samples of the nearest depth, the lowest (highest) face. All bits set is the
// background, -1, and the largest of unsigned integers.
struct Winner {
  using T = double;
  using Params = RasterizeParams<T>;
  static constexpr bool kFirst = false;
  static constexpr int kBlocks = 2;
  __device__ static bool has(const RasterizeParams<T>&, int64_t, int64_t) { return true; }
  __device__ static void put(const RasterizeParams<T>& p, int64_t at, T depth, int32_t id) {
    if (bits_of(depth) != p.keys[at]) return;
    if (p.rule.highest)
      atomicMax(p.face_index + at, id);
    else
      atomicMin(reinterpret_cast<unsigned*>(p.face_index + at), static_cast<unsigned>(id));
  }
};

// With an AreaRule as rasterize_ndc has it.
template <class T>
struct AreaParams : RasterizeParams<T> {
  AreaRule areas;
};
template <class T>
__device__ __forceinline__ bool large_enough(const RasterizeParams<T>&, const Triangle<T>&, T) {
  return true;
}
template <class T>
__device__ __forceinline__ bool large_enough(const AreaParams<T>& p, const Triangle<T>& t, T area) {
  return exceeds(t, area, p.areas.least_area);
}
template <class T>
__device__ __forceinline__ T drawn_depth(const RasterizeParams<T>& p, const Triangle<T>& t, T, const T e[3]) {
  return depth_at(t, e, p.rule.perspective);
}
template <class T>
__device__ __forceinline__ T drawn_depth(const AreaParams<T>& p, const Triangle<T>& t, T area, const T e[3]) {
  const T depth = depth_at(t, e, p.rule.perspective);
  return p.areas.bias > 0 ? depth * bias_factor(t, area, p.areas.bias) : depth;
}

template <class Pass, class Params, class T>
__device__ __forceinline__ void draw_sample(const Params& p, const Triangle<T>& t, T area, int64_t b, int32_t id,
                                            int64_t row, int64_t column) {
  T e[3];
  if (covers(t, area, static_cast<T>(column) + T(0.5), static_cast<T>(row) + T(0.5), p.rule.coverage, e))
    Pass::put(p, (p.H * b + row) * p.W + column, drawn_depth(p, t, area, e), id);
}

template <class Pass>
__global__ void __launch_bounds__(kThreads, Pass::kBlocks) draw_kernel(typename Pass::Params p) {
  using T = typename Pass::T;
  const int64_t f = thread();
  if (f >= p.F) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    if (!Pass::has(p, b, f)) continue;
    const Triangle<T> t = load_triangle(p.positions + 3 * p.V * b, p.faces + 3 * f);
    const T area = signed_area(t);
    if (!faces_us(area, p.rule.cull) || !large_enough(p, t, area)) continue;
    const Box box = sample_box(t, p.H, p.W);
    if (box.empty() || !all_drawable(t)) continue;
    if (box.samples() > kInlineSamples) {
      if constexpr (Pass::kFirst) {
        const unsigned long long slot = atomicAdd(reinterpret_cast<unsigned long long*>(p.spill), 1ULL);
        p.spill[1 + slot] = p.F * b + f;
      }
      continue;
    }
    for (int row = box.first_row; row <= box.last_row; ++row)
      for (int column = box.first_column; column <= box.last_column; ++column)
        draw_sample<Pass>(p, t, area, b, static_cast<int32_t>(f), row, column);
  }
}

// The listed triangles, a block each. The length of the list is read here, so the host need not know it.
template <class Pass>
__global__ void __launch_bounds__(kThreads, sizeof(typename Pass::T) == 4 ? kAnyBlocks : 2)
    draw_spilled_kernel(typename Pass::Params p) {
  using T = typename Pass::T;
  const int64_t count = p.spill[0];
  for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
    const int64_t job = p.spill[1 + i], b = job / p.F, f = job - b * p.F;
    const Triangle<T> t = load_triangle(p.positions + 3 * p.V * b, p.faces + 3 * f);
    const T area = signed_area(t);
    const Box box = sample_box(t, p.H, p.W);
    for (int64_t row = box.first_row + threadIdx.x / kTile; row <= box.last_row; row += kTile)
      for (int64_t column = box.first_column + threadIdx.x % kTile; column <= box.last_column; column += kTile)
        draw_sample<Pass>(p, t, area, b, static_cast<int32_t>(f), row, column);
  }
}

template <class Pass>
void draw_pass(const typename Pass::Params& p, cudaStream_t stream) {
  const int64_t most = p.B * p.F;
  const dim3 blocks(most < kSpillBlocks ? static_cast<unsigned>(most) : kSpillBlocks);
  FOCUS_KERNEL(draw_kernel<Pass>, grid(p.F, p.B), kThreads, 0, stream, p);
  FOCUS_KERNEL(draw_spilled_kernel<Pass>, blocks, kThreads, 0, stream, p);
}

// Fills p.keys, and p.face_index in float64.
template <template <class> class First = Nearest, class Second = Winner, class Params>
void draw(const Params& p, cudaStream_t stream) {
  using T = std::remove_const_t<std::remove_pointer_t<decltype(p.positions)>>;
  const int64_t pixels = p.B * p.H * p.W;
  if (pixels == 0) return;
  fill_bytes(p.keys, 0xFF, pixels, stream);
  fill_bytes(p.spill, 0, 1, stream);
  draw_pass<First<T>>(p, stream);
  if constexpr (sizeof(T) == 8) {
    fill_bytes(p.face_index, 0xFF, pixels, stream);
    draw_pass<Second>(p, stream);
  }
}

// The winner of a pixel and its depth; -1 and 0 at the background.
__device__ __forceinline__ int32_t winner(const RasterizeParams<float>& p, int64_t at, float& depth) {
  const uint64_t key = p.keys[at];
  depth = 0;
  if (key == ~uint64_t{0}) return -1;
  depth = __uint_as_float(static_cast<unsigned>(key >> 32));
  const int32_t id = static_cast<int32_t>(static_cast<uint32_t>(key));
  return p.rule.highest ? ~id : id;
}
__device__ __forceinline__ int32_t winner(const RasterizeParams<double>& p, int64_t at, double& depth) {
  const int32_t id = p.face_index[at];
  depth = id < 0 ? 0.0 : __longlong_as_double(static_cast<long long>(p.keys[at]));
  return id;
}

// Writes face_index, depth and barycentrics of one pixel; returns the face, and its weights in w.
template <class T>
__device__ __forceinline__ int32_t resolve_pixel(const RasterizeParams<T>& p, int64_t b, int64_t row, int64_t column,
                                                 T w[3]) {
  const int64_t at = (p.H * b + row) * p.W + column;
  T depth;
  const int32_t id = winner(p, at, depth);
  for (int k = 0; k < 3; ++k) w[k] = 0;
  if (id >= 0) {
    const Triangle<T> t = load_triangle(p.positions + 3 * p.V * b, p.faces + int64_t{3} * id);
    T e[3];
    edges(t, static_cast<T>(column) + T(0.5), static_cast<T>(row) + T(0.5), e);
    for (int k = 0; k < 3; ++k) e[k] = std::fabs(e[k]);  // covered, so all three have one sign
    barycentrics_at(t, e, p.rule.perspective, w);
  }
  p.face_index[at] = id;
  p.depth[at] = depth;
  for (int k = 0; k < 3; ++k) p.barycentrics[3 * at + k] = w[k];
  return id;
}

}  // namespace
}  // namespace focus
