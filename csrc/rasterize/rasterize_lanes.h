// Triangles and samples in vectors, as rasterize_math.h has them one by one. For files of core/simd.h only.
#pragma once
#include "core/simd.h"
#include "rasterize/rasterize_image.h"
#include "rasterize/rasterize_math.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

template <class V>
struct Corners {
  V x[3], y[3], z[3];
};

template <class V>
inline Corners<V> load_corners(const typename V::T* points, const int32_t* corner0, int stride) {
  Corners<V> c;
  for (int k = 0; k < 3; ++k) V::rows(points, corner0 + k, stride, c.x[k], c.y[k], c.z[k]);
  return c;
}

template <class T>
inline Triangle<T> load_triangle(const T* points, const int32_t* face) {
  Triangle<T> t;
  for (int k = 0; k < 3; ++k) {
    const T* row = points + int64_t{4} * face[k];
    t.v[k] = {row[0], row[1], row[2]};
  }
  return t;
}

// The corners of V::width faces; face 0's where there is none (-1).
template <class V>
inline void face_corners(const int32_t* faces, const int32_t* id, int32_t* corner) {
  for (int lane = 0; lane < V::width; ++lane) {
    const int32_t* face = faces + int64_t{3} * (id[lane] < 0 ? 0 : id[lane]);
    for (int k = 0; k < 3; ++k) corner[3 * lane + k] = face[k];
  }
}

// (a - p) x (b - p), and the lanes in which float32 does not decide its sign.
template <class V>
inline V edge_lanes(V ax, V ay, V bx, V by, V px, V py, typename V::Mask& unsure) {
  V s = (ax - px) * (by - py);
  V e = s - (ay - py) * (bx - px);
  unsure = e.abs() <= V::set(Edge<typename V::T>::kUnsure) * s.abs();
  return e;
}

// |weights| of the corners at the samples (column + lane + 1/2, row + 1/2) of the `covered` lanes, decided as edge()
// does. Covered, so all three have one sign; the sum with that sign is returned.
template <class V>
inline V covered_edges(const typename V::T* points, const int32_t* corner, const Corners<V>& c,
                       typename V::Mask covered, typename V::T column, typename V::T row, V e[3]) {
  using T = typename V::T;
  V px = V::set(column + T(0.5)) + V::iota(), py = V::set(row + T(0.5));
  for (int i = 0; i < 3; ++i) {
    int k = (i + 1) % 3, l = (i + 2) % 3;
    typename V::Mask unsure;
    e[i] = edge_lanes(c.x[k], c.y[k], c.x[l], c.y[l], px, py, unsure);
    if (unsigned rest = (unsure & covered).bits()) {
      T lanes[V::width];
      e[i].store(lanes);
      for (; rest != 0; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        const T* from = points + int64_t{4} * corner[3 * lane + k];
        const T* to = points + int64_t{4} * corner[3 * lane + l];
        lanes[lane] = edge(from[0], from[1], to[0], to[1], column + lane + T(0.5), row + T(0.5));
      }
      e[i] = V::load(lanes);
    }
  }
  V sum = (e[0] + e[1]) + e[2];
  for (int i = 0; i < 3; ++i) e[i] = e[i].abs();
  return sum;
}

// The ids and depths of V::width pixels, -1 and 0 where there is none; returns the covered ones as bits.
template <class V>
inline unsigned read_pixels(const DepthBuffer<float>& b, int64_t pixel, bool highest, int32_t* id, float* depth) {
  const uint64_t* keys = b.keys + pixel;
  uint64_t all = ~uint64_t{0};
  for (int lane = 0; lane < V::width; ++lane) all &= keys[lane];
  if (all == ~uint64_t{0}) {
    std::memset(id, 0xFF, sizeof(int32_t) * V::width);
    std::memset(depth, 0, sizeof(float) * V::width);
    return 0;
  }
  unsigned covered = 0;
  for (int lane = 0; lane < V::width; ++lane) {
    const bool some = keys[lane] != ~uint64_t{0};
    const uint32_t bits = some ? static_cast<uint32_t>(keys[lane] >> 32) : 0, low = static_cast<uint32_t>(keys[lane]);
    std::memcpy(depth + lane, &bits, sizeof bits);
    id[lane] = some ? static_cast<int32_t>(highest ? ~low : low) : -1;
    covered |= static_cast<unsigned>(some) << lane;
  }
  return covered;
}
template <class V>
inline unsigned read_pixels(const DepthBuffer<double>& b, int64_t pixel, bool, int32_t* id, double* depth) {
  *id = b.id[pixel];
  *depth = *id >= 0 ? b.depth[pixel] : 0;
  return *id >= 0;
}

}  // namespace
}  // namespace FOCUS_ISA
}  // namespace focus
