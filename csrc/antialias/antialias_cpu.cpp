// antialias on the CPU: silhouettes are looked for within an image, and rows of pixels blended in parallel; the
// gradient of the positions is taken within an image, vertex by vertex.
#include <algorithm>
#include <cstring>

#include "antialias/antialias.h"
#include "antialias/antialias_math.h"
#include "antialias/antialias_sides.h"
#include "core/cpu.h"
#include "core/pages.h"
#include "core/parallel.h"
#include "core/scratch.h"
#include "rasterize/rasterize_image.h"

namespace focus {
namespace baseline {
extern const SideKernels side_table;
}
#ifdef FOCUS_X86_SIMD
namespace avx2 {
extern const SideKernels side_table;
}
namespace avx512 {
extern const SideKernels side_table;
}
#endif

const SideKernels& side_kernels() {
#ifdef FOCUS_X86_SIMD
  if (isa() == Isa::avx512) return avx512::side_table;
  if (isa() == Isa::avx2) return avx2::side_table;
#endif
  return baseline::side_table;
}

namespace {

// With more faces for each pixel than this it is quicker to look at every pair than at every face.
constexpr int64_t kFacesPerPixel = 16;

// Codes are looked through in blocks: almost all are zero.
constexpr int64_t kBlock = 16;

inline bool any(const int32_t* codes, int64_t first, int64_t last) {
  int32_t some = 0;
  if (last - first == kBlock)
    for (int64_t i = 0; i < kBlock; ++i) some |= codes[first + i];
  else
    for (int64_t i = first; i < last; ++i) some |= codes[i];
  return some != 0;
}

// Calls body(i) for the codes [0, n) that are not zero.
template <class Body>
inline void for_codes(const int32_t* codes, int64_t n, const Body& body) {
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t last = std::min(first + kBlock, n);
    if (!any(codes, first, last)) continue;
    for (int64_t i = first; i < last; ++i)
      if (codes[i] != 0) body(i);
  }
}

// Marks, in edges [2, H, W], the pairs that the edge opposite `corner` may pass between, and their neighbours.
template <class T>
void mark_pairs(const T* positions, const AntialiasMesh& m, int32_t corner, int32_t* edges) {
  const int axis = crossed_at(positions, m.faces, corner, 0).of(0) ? 0 : 1;
  const Crossed<T> edge = crossed_at(positions, m.faces, corner, axis);
  for_lines(m, edge, axis, [&](int64_t, int64_t, int64_t pixel) { edges[m.H * m.W * axis + pixel] = 1; });
}

// Of the marked pairs, what lies between them; nothing between the others.
template <class T, class SideOf>
void find_row(const AntialiasParams<T>& p, const SideOf& side_of, int64_t b, int64_t row) {
  const AntialiasMesh& m = p.mesh;
  const int64_t pixels = m.H * m.W, at = pixels * b + row * m.W;
  const T* positions = p.positions + 3 * m.V * b;
  for (int axis = 0; axis < 2; ++axis) {
    int32_t* edges = p.edges + pixels * (2 * b + axis) + row * m.W;
    const int64_t step = axis == 0 ? 1 : m.W, count = axis == 0 ? m.W - 1 : row + 1 < m.H ? m.W : 0;
    for_codes(edges, count, [&](int64_t column) {
      const int32_t *ids = p.face_index + at + column, first = ids[0], second = ids[step];
      const T* depth = p.depth + at + column;
      edges[column] = first == second ? 0
                                      : edge_between(positions, side_of, m, p.opposite, first, second, depth[0],
                                                     depth[step], axis, row, column);
    });
    for (int64_t column = count; column < m.W; ++column) edges[column] = 0;
  }
}

// Most pairs of a fine mesh have two faces and no silhouette between them. To follow the surface between each costs
// several times what it takes to look at every face once: silhouettes are few, so mark the pairs that they may be in.
template <class T>
void find_edges(const AntialiasParams<T>& p, int64_t b) {
  const AntialiasMesh& m = p.mesh;
  const int64_t pairs = 2 * m.H * m.W;
  int32_t* edges = p.edges + pairs * b;
  const bool all = m.F / kFacesPerPixel > m.H * m.W;
  std::memset(edges, all ? 1 : 0, sizeof(int32_t) * static_cast<size_t>(pairs));
  const T* positions = p.positions + 3 * m.V * b;
  if (all) {
    for (int64_t row = 0; row < m.H; ++row) find_row(p, Sides<T>{positions, m.faces}, b, row);
    return;
  }
  T* points = nullptr;
  int8_t* side = nullptr;
  auto carve = [&](char* block) {
    Carve c(block);
    points = c.take<T>(4 * m.V);
    side = c.take<int8_t>(m.F);
    return c.used();
  };
  carve(Scratch::get(carve(nullptr)));
  make_points(positions, m.V, points);
  find_sides(points, m.faces, m.F, side);
  // Two faces share an edge: it is the same seen from either.
  for (int64_t f = 0, corner = 0; f < m.F; ++f) {
    const int8_t own = side[f];
    for (int k = 0; k < 3; ++k, ++corner) {
      const int32_t across = p.opposite[corner];
      if (across < 0 ? own == 0 : across < corner || side[across / 3] == own) continue;
      mark_pairs(positions, m, static_cast<int32_t>(corner), edges);
    }
  }
  for (int64_t row = 0; row < m.H; ++row) find_row(p, [&](int32_t f) { return int{side[f]}; }, b, row);
}

// Calls body(side, exchange) for each side of a pixel that has a silhouette.
template <class T, class Body>
inline void for_sides(const T* positions, const AntialiasMesh& m, const int32_t* edges, int64_t row, int64_t column,
                      const Body& body) {
  for (int k = 0; k < 4; ++k) {
    const Beside side = beside(k, row, column, m.H, m.W);
    if (side.pair >= 0 && edges[side.pair] != 0)
      body(side, exchange(positions, m.faces, edges[side.pair], side, row, column));
  }
}

// Calls body(column) for each pixel of a row that touches a silhouette. `edges` [2, H, W] are those of the image.
template <class Body>
inline void for_touched(const AntialiasMesh& m, const int32_t* edges, int64_t row, const Body& body) {
  const int32_t *right = edges + row * m.W, *lower = right + m.H * m.W;
  const int32_t* upper = row > 0 ? lower - m.W : lower;
  for (int64_t first = 0; first < m.W; first += kBlock) {
    const int64_t last = std::min(first + kBlock, m.W);
    int32_t left = first > 0 ? right[first - 1] : 0;
    if (left == 0 && !any(right, first, last) && !any(lower, first, last) && !any(upper, first, last)) continue;
    for (int64_t column = first; column < last; ++column) {
      if ((left | right[column] | lower[column] | upper[column]) != 0) body(column);
      left = right[column];
    }
  }
}

}  // namespace

template <class T>
void antialias_cpu(const AntialiasParams<T>& p) {
  const AntialiasMesh& m = p.mesh;
  const int64_t pixels = m.H * m.W;
  expect_large_pages(p.out, p.C * m.B * pixels);
  expect_large_pages(p.edges, 2 * m.B * pixels);
  parallel_for(m.B, p.threads, [&](int64_t b) { find_edges(p, b); });
  parallel_for(m.B * m.H, p.threads, [&](int64_t job) {
    const int64_t b = job / m.H, row = job % m.H;
    const T *positions = p.positions + 3 * m.V * b, *image = p.image + p.C * pixels * b;
    T* out = p.out + p.C * pixels * b;
    const int32_t* edges = p.edges + 2 * pixels * b;
    for (int64_t c = 0; c < p.C; ++c)
      std::memcpy(out + pixels * c + row * m.W, image + pixels * c + row * m.W, sizeof(T) * static_cast<size_t>(m.W));
    for_touched(m, edges, row, [&](int64_t column) {
      const int64_t pixel = row * m.W + column;
      for_sides(positions, m, edges, row, column, [&](const Beside& side, const Exchange<T>& e) {
        if (!e.takes_some) return;
        for (int64_t c = 0; c < p.C; ++c)
          out[pixels * c + pixel] += e.takes * (image[pixels * c + side.other] - image[pixels * c + pixel]);
      });
    });
  });
}

namespace {

template <class T>
void image_grad_row(const AntialiasGradParams<T>& p, int64_t b, int64_t row) {
  const AntialiasMesh& m = p.mesh;
  const int64_t pixels = m.H * m.W;
  const T *positions = p.positions + 3 * m.V * b, *grad = p.grad + p.C * pixels * b;
  T* grad_image = p.grad_image + p.C * pixels * b;
  const int32_t* edges = p.edges + 2 * pixels * b;
  for (int64_t c = 0; c < p.C; ++c)
    std::memcpy(grad_image + pixels * c + row * m.W, grad + pixels * c + row * m.W,
                sizeof(T) * static_cast<size_t>(m.W));
  for_touched(m, edges, row, [&](int64_t column) {
    const int64_t pixel = row * m.W + column;
    for_sides(positions, m, edges, row, column, [&](const Beside& side, const Exchange<T>& e) {
      for (int64_t c = 0; c < p.C; ++c) {
        T* at = grad_image + pixels * c + pixel;
        if (e.takes_some) *at -= e.takes * grad[pixels * c + pixel];
        if (e.gives_some) *at += e.gives * grad[pixels * c + side.other];
      }
    });
  });
}

template <class T>
void positions_grad_of_image(const AntialiasGradParams<T>& p, int64_t b) {
  const AntialiasMesh& m = p.mesh;
  uint8_t *seen = nullptr, *touched = nullptr;
  auto carve = [&](char* block) {
    Carve c(block);
    seen = c.take<uint8_t>(m.F);
    touched = c.take<uint8_t>(m.V);
    return c.used();
  };
  carve(Scratch::get(carve(nullptr)));
  std::memset(seen, 0, static_cast<size_t>(m.F));
  std::memset(touched, 0, static_cast<size_t>(m.V));
  const int32_t* edges = p.edges + 2 * m.H * m.W * b;
  for_codes(edges, 2 * m.H * m.W, [&](int64_t i) {
    const int32_t corner = corner_of(edges[i]), k = corner % 3, *face = m.faces + (corner - k);
    seen[corner / 3] |= static_cast<uint8_t>(1 << k);
    touched[face[(k + 1) % 3]] = touched[face[(k + 2) % 3]] = 1;
  });
  T* grad_positions = p.grad_positions + 3 * m.V * b;
  for (int64_t v = 0; v < m.V; ++v) {
    Vec3<T> grad = {0, 0, 0};
    if (touched[v] != 0) vertex_grad(p, seen, b, v, grad);
    grad_positions[3 * v] = grad.x;
    grad_positions[3 * v + 1] = grad.y;
    grad_positions[3 * v + 2] = grad.z;
  }
}

}  // namespace

template <class T>
void antialias_grad_cpu(const AntialiasGradParams<T>& p) {
  const AntialiasMesh& m = p.mesh;
  if (p.grad_image != nullptr) {
    expect_large_pages(p.grad_image, p.C * m.B * m.H * m.W);
    parallel_for(m.B * m.H, p.threads, [&](int64_t job) { image_grad_row(p, job / m.H, job % m.H); });
  }
  if (p.grad_positions != nullptr) {
    expect_large_pages(p.grad_positions, 3 * m.B * m.V);
    parallel_for(m.B, p.threads, [&](int64_t b) { positions_grad_of_image(p, b); });
  }
}

template void antialias_cpu(const AntialiasParams<float>&);
template void antialias_cpu(const AntialiasParams<double>&);
template void antialias_grad_cpu(const AntialiasGradParams<float>&);
template void antialias_grad_cpu(const AntialiasGradParams<double>&);

}  // namespace focus
