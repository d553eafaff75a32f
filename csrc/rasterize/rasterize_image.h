// One image on the CPU, in two passes that rasterize and render_sh share: draw() fills a depth buffer, resolve() turns
// it into outputs. Each has a copy per instruction set (rasterize_simd.cpp); all give the same bits.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "core/scratch.h"
#include "rasterize/rasterize.h"
#include "rasterize/rasterize_math.h"

namespace focus {

// Depth buffer. float32 packs the bits of the (positive) depth over the face id, so that one minimum decides both.
template <class T>
struct DepthBuffer;

template <>
struct DepthBuffer<float> {
  uint64_t* keys;  // [H * W]
};

template <>
struct DepthBuffer<double> {
  double* depth;                   // [H * W]
  int32_t* id;                     // [H * W]
  const double* behind = nullptr;  // [H * W] or null: only what is farther than this is put
};

inline void take(Carve& c, int64_t pixels, DepthBuffer<float>& b) { b.keys = c.take<uint64_t>(pixels); }
inline void take(Carve& c, int64_t pixels, DepthBuffer<double>& b) {
  b.depth = c.take<double>(pixels);
  b.id = c.take<int32_t>(pixels);
}

static inline void put(const DepthBuffer<float>& b, int64_t pixel, float depth, int32_t id, bool highest) {
  uint32_t bits;
  std::memcpy(&bits, &depth, sizeof bits);
  uint64_t key = uint64_t{bits} << 32 | static_cast<uint32_t>(highest ? ~id : id);
  if (key < b.keys[pixel]) b.keys[pixel] = key;
}
static inline void put(const DepthBuffer<double>& b, int64_t pixel, double depth, int32_t id, bool highest) {
  if (b.behind != nullptr && !(depth > b.behind[pixel])) return;
  double old = b.depth[pixel];
  if (depth < old || (depth == old && (b.id[pixel] < 0 || (highest ? id > b.id[pixel] : id < b.id[pixel])))) {
    b.depth[pixel] = depth;
    b.id[pixel] = id;
  }
}

// Into how many stripes to cut each image, so that few images keep many threads busy.
inline int64_t stripes_of(int64_t B, int64_t H, int threads) {
  return B == 0 || B >= threads ? 1 : std::max<int64_t>(1, std::min<int64_t>((threads + B - 1) / B, H / 16));
}

// positions [V, 3] -> points [V, 4], NaN where a vertex cannot be drawn: then no comparison with its triangles is true.
template <class T>
static inline void make_points(const T* positions, int64_t V, T* points) {
  for (int64_t v = 0; v < V; ++v) {
    T x = positions[3 * v], y = positions[3 * v + 1], z = positions[3 * v + 2];
    if (!drawable(x, y, z)) x = y = z = std::numeric_limits<T>::quiet_NaN();
    points[4 * v] = x;
    points[4 * v + 1] = y;
    points[4 * v + 2] = z;
    points[4 * v + 3] = 0;
  }
}

template <class T>
struct RasterImage {
  const T* points;       // [V, 4] x, y, depth, unused; NaN where the vertex cannot be drawn
  const int32_t* faces;  // [F, 3]
  int64_t F;
  int64_t H, W;
  int64_t first_row, last_row;  // the stripe [first_row, last_row) to draw and resolve
  RasterRule rule;
  DepthBuffer<T> buffer;
  AreaRule areas = {};
};

template <class T>
struct ResolvedImage {
  int32_t* face_index;  // [H, W]
  T* barycentrics;      // [H, W, 3]
  T* depth;             // [H, W]
  const T* colors;      // [V, 4] or null: then no image and no mask
  T* image;             // [3, H, W]
  T* mask;              // [H, W]
};

struct RasterKernels {
  void (*draw32)(const RasterImage<float>&);
  void (*draw64)(const RasterImage<double>&);
  void (*resolve32)(const RasterImage<float>&, const ResolvedImage<float>&);
  void (*resolve64)(const RasterImage<double>&, const ResolvedImage<double>&);
};

const RasterKernels& raster_kernels();  // for the instruction set in use

inline void draw(const RasterImage<float>& r) { raster_kernels().draw32(r); }
inline void draw(const RasterImage<double>& r) { raster_kernels().draw64(r); }
inline void resolve(const RasterImage<float>& r, const ResolvedImage<float>& o) { raster_kernels().resolve32(r, o); }
inline void resolve(const RasterImage<double>& r, const ResolvedImage<double>& o) { raster_kernels().resolve64(r, o); }

}  // namespace focus
