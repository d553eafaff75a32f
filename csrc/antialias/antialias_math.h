// One pair of pixels and the silhouette between them, shared by the CPU and the CUDA kernels.
//
// A surface is followed from a pixel towards its neighbour along the line through both centres, from face to face over
// the edges that cross the line. Which edges do is decided by comparisons alone, and faces that look the same way lie
// one behind the other on the line, so that the way is exact however small the faces are. An edge where the surface
// ends (no face behind it, or one that looks the other way) is a silhouette.
#pragma once
#include "antialias/antialias.h"
#include "core/hd.h"
#include "rasterize/rasterize_math.h"

namespace focus {

// A pair of axis 0 runs along u = x on the line w = y; of axis 1 along u = y on w = x.
template <class T>
struct Flat {
  T u, w;
};

template <class T>
FOCUS_HD Flat<T> flat_at(const T* positions, int64_t v, int axis) {
  const T* p = positions + 3 * v;
  return {p[axis], p[1 - axis]};
}

// The two ends of an edge in the order of w, whichever face it is taken from, and their vertices.
template <class T>
struct Crossed {
  Flat<T> a, b;
  int32_t a_vertex, b_vertex;
  FOCUS_HD_MEMBER T slope() const { return (b.u - a.u) / (b.w - a.w); }
  FOCUS_HD_MEMBER T share(T line) const { return (line - a.w) / (b.w - a.w); }
  FOCUS_HD_MEMBER T at(T line) const { return a.u + share(line) * (b.u - a.u); }
  // Steeper edges than those of slope 1 belong to the other axis.
  FOCUS_HD_MEMBER bool of(int axis) const {
    const T du = std::fabs(b.u - a.u), dw = std::fabs(b.w - a.w);
    return axis == 0 ? du <= dw : du < dw;
  }
};

// The edge opposite `corner`.
template <class T>
FOCUS_HD Crossed<T> crossed_at(const T* positions, const int32_t* faces, int32_t corner, int axis) {
  const int k = corner % 3;
  const int32_t *face = faces + (corner - k), from = face[(k + 1) % 3], to = face[(k + 2) % 3];
  const Flat<T> a = flat_at(positions, from, axis), b = flat_at(positions, to, axis);
  if (b.w < a.w) return {b, a, to, from};
  return {a, b, from, to};
}

// 1 or -1: which way a face looks; 0 where it is not drawn.
template <class T>
FOCUS_HD int facing(const T* positions, const int32_t* face) {
  Triangle<T> t;
  for (int k = 0; k < 3; ++k) {
    const T* v = positions + int64_t{3} * face[k];
    if (!drawable(v[0], v[1], v[2])) return 0;
    t.v[k] = {v[0], v[1], v[2]};
  }
  const T area = signed_area(t);
  return area > 0 ? 1 : area < 0 ? -1 : 0;
}

// facing() of the faces of an image, by number.
template <class T>
struct Sides {
  const T* positions;
  const int32_t* faces;
  FOCUS_HD_MEMBER int operator()(int32_t f) const { return facing(positions, faces + int64_t{3} * f); }
};

enum class Walk { kLost, kArrived, kFound };

// From face `f`, seen at one centre of a pair, towards the other one, which shows face `other`: up to the end of the
// surface (its `corner` then), to the other centre, or to its face. `way` is the sign of u along the walk; side_of(f)
// gives facing() of a face.
template <class T, class SideOf>
FOCUS_HD Walk walk(const T* positions, const SideOf& side_of, const AntialiasMesh& m, const int32_t* opposite,
                   int32_t f, int32_t other, int axis, T line, T target, int way, int32_t& corner) {
  if (f < 0) return Walk::kLost;
  const int side = side_of(f);
  if (side == 0) return Walk::kLost;
  // The edge by which the walk leaves a face runs up or down, the same for all that look the same way.
  const bool down = (axis == 0 ? side : -side) == way;
  for (int64_t steps = 0; steps < m.F; ++steps) {
    const int32_t* face = m.faces + int64_t{3} * f;
    const Flat<T> v[3] = {flat_at(positions, face[0], axis), flat_at(positions, face[1], axis),
                          flat_at(positions, face[2], axis)};
    const bool above[3] = {v[0].w <= line, v[1].w <= line, v[2].w <= line};
    int k = -1;
    Flat<T> from = v[0], to = v[0];
    for (int i = 0; i < 3; ++i) {  // at most one of them
      if (above[(i + 1) % 3] != down || above[(i + 2) % 3] == down) continue;
      k = i;
      from = v[(i + 1) % 3];
      to = v[(i + 2) % 3];
    }
    if (k < 0) return Walk::kLost;
    const T u = (down ? Crossed<T>{from, to, 0, 0} : Crossed<T>{to, from, 0, 0}).at(line);
    if (!(static_cast<T>(way) * (u - target) < 0)) return Walk::kLost;
    corner = 3 * f + k;
    const int32_t next = opposite[corner];
    if (next < 0) return Walk::kFound;
    f = next / 3;
    if (side_of(f) != side) return Walk::kFound;
    if (f == other) return Walk::kArrived;
  }
  return Walk::kLost;
}

// A fine mesh often folds at its outline: behind the edge where the surface seen at `near` first looks away, it comes
// forward again and ends a little farther along. So go on over the line, back and forth, for some faces, within the
// pixel and up to the other centre: the end, or the fold, that lies farthest along, unless it is deeper than `depth`.
constexpr int kFolded = 32;

template <class T, class SideOf>
FOCUS_HD int32_t outline(const T* positions, const SideOf& side_of, const AntialiasMesh& m, const int32_t* opposite,
                         int32_t corner, int axis, T line, T near, int way, T depth) {
  const int own = side_of(corner / 3);
  T farthest = crossed_at(positions, m.faces, corner, axis).at(line);
  int32_t across = opposite[corner];
  for (int steps = 0; steps < kFolded && across >= 0; ++steps) {
    const int k = across % 3, side = side_of(across / 3);
    if (side == 0) break;
    const int32_t first = across - k, *face = m.faces + first;
    const bool above = positions[int64_t{3} * face[k] + 1 - axis] <= line;
    const bool next_above = positions[int64_t{3} * face[(k + 2) % 3] + 1 - axis] <= line;
    const int32_t here = first + (k + (above != next_above ? 1 : 2)) % 3;  // crosses the line, as `across` does
    const Crossed<T> edge = crossed_at(positions, m.faces, here, axis);
    const T u = edge.at(line), along = static_cast<T>(way) * (u - near);
    if (!(along >= T(-0.5) && along < 1)) break;
    across = opposite[here];
    if (side != own || !(static_cast<T>(way) * (u - farthest) > 0)) continue;
    if (across >= 0 && side_of(across / 3) == side) continue;
    const T a = positions[int64_t{3} * edge.a_vertex + 2], b = positions[int64_t{3} * edge.b_vertex + 2];
    if (!(a + edge.share(line) * (b - a) <= depth)) continue;
    corner = here;
    farthest = u;
  }
  return corner;
}

// A surface that is seen at a centre does not end before it but by rounding; farther, the picture is another one.
constexpr double kBehind = -0.0625;

// What lies between a pair, as `edges` has it. The nearer surface is asked first.
template <class T, class SideOf>
FOCUS_HD int32_t edge_between(const T* positions, const SideOf& side_of, const AntialiasMesh& m,
                              const int32_t* opposite, int32_t first, int32_t second, T first_depth, T second_depth,
                              int axis, int64_t row, int64_t column) {
  const bool first_shown = first >= 0 && first < m.F, second_shown = second >= 0 && second < m.F;
  if (!first_shown) first = -1, first_depth = static_cast<T>(INFINITY);
  if (!second_shown) second = -1, second_depth = static_cast<T>(INFINITY);
  if (first == second) return 0;
  const T line = static_cast<T>(axis == 0 ? row : column) + T(0.5);
  const T centre = static_cast<T>(axis == 0 ? column : row) + T(0.5);
  bool of_second = !first_shown || (second_shown && second_depth < first_depth);
  for (int tries = 0; tries < 2; ++tries, of_second = !of_second) {
    int32_t corner = 0;
    const Walk end = of_second
                         ? walk(positions, side_of, m, opposite, second, first, axis, line, centre, -1, corner)
                         : walk(positions, side_of, m, opposite, first, second, axis, line, centre + 1, 1, corner);
    if (end == Walk::kArrived) return 0;
    if (end == Walk::kLost) continue;
    const T depth = of_second ? first_depth : second_depth, near = of_second ? centre + 1 : centre;
    corner = outline(positions, side_of, m, opposite, corner, axis, line, near, of_second ? -1 : 1, depth);
    const Crossed<T> edge = crossed_at(positions, m.faces, corner, axis);
    const T t = of_second ? (centre + 1) - edge.at(line) : edge.at(line) - centre;
    return !edge.of(axis) || !(t >= T(kBehind)) ? 0 : of_second ? -1 - corner : 1 + corner;
  }
  return 0;
}

// A straight edge with its slope covers, of the far pixel's square, `far`, and leaves bare, of the near one's, `near`.
// These are quadratic where it cuts through both squares and linear else; far - near = t - 1/2, with t the way from the
// near centre to the edge. rate = d far / dt, and d near / dt = rate - 1.
template <class T>
struct Cover {
  T near, far, rate;
  bool second;  // the near pixel is the second one
  bool held;    // the edge is behind the near centre, by rounding: no gradient
  FOCUS_HD_MEMBER bool changes_near() const { return rate < 1; }
  FOCUS_HD_MEMBER bool changes_far() const { return rate > 0; }
};

template <class T>
FOCUS_HD Cover<T> cover(const Crossed<T>& edge, int32_t code, T line, T centre) {
  Cover<T> c;
  c.second = code < 0;
  T t = c.second ? (centre + 1) - edge.at(line) : edge.at(line) - centre;
  c.held = !(t >= 0);
  if (c.held) t = 0;
  const T v = t - T(0.5), h = T(0.5) * std::fabs(edge.slope());
  if (v <= -h) {
    c.near = -v, c.far = 0, c.rate = 0;
  } else if (v >= h) {
    c.near = 0, c.far = v, c.rate = 1;
  } else {
    c.near = (h - v) * (h - v) / (4 * h), c.far = (v + h) * (v + h) / (4 * h), c.rate = (v + h) / (2 * h);
  }
  return c;
}

FOCUS_HD int32_t corner_of(int32_t code) { return code < 0 ? -(code + 1) : code - 1; }

// The four pairs of a pixel, in the order in which they are added: left, right, upper, lower.
struct Beside {
  int64_t other;  // the pixel at the other side, counted in [0, H W)
  int64_t pair;   // where the pair lies in edges [2, H, W], -1 outside of the image
  int axis;
  bool is_second;  // this pixel is the pair's second
};

FOCUS_HD Beside beside(int k, int64_t row, int64_t column, int64_t H, int64_t W) {
  const int axis = k / 2;
  const bool is_second = k % 2 == 0;
  const int64_t pixel = row * W + column, step = axis == 0 ? 1 : W, other = is_second ? pixel - step : pixel + step;
  const bool inside = k == 0 ? column > 0 : k == 1 ? column + 1 < W : k == 2 ? row > 0 : row + 1 < H;
  return {other, inside ? axis * H * W + (is_second ? other : pixel) : -1, axis, is_second};
}

// How much of the pixel at the other side a pixel takes, and gives.
template <class T>
struct Exchange {
  T takes, gives;
  bool takes_some, gives_some;
};

template <class T>
FOCUS_HD Exchange<T> exchange(const T* positions, const int32_t* faces, int32_t code, const Beside& s, int64_t row,
                              int64_t column) {
  const int64_t line = s.axis == 0 ? row : column, first = (s.axis == 0 ? column : row) - (s.is_second ? 1 : 0);
  const Crossed<T> edge = crossed_at(positions, faces, corner_of(code), s.axis);
  const Cover<T> c = cover(edge, code, static_cast<T>(line) + T(0.5), static_cast<T>(first) + T(0.5));
  if (c.second == s.is_second) return {c.near, c.far, c.changes_near(), c.changes_far()};
  return {c.far, c.near, c.changes_far(), c.changes_near()};
}

// Calls body(i, j, pixel) for the pairs that an edge of this axis may pass between, line by line: j, i is their place
// along u and w, and `pixel` the first one. By kBehind, and by rounding, a pair may be the one before or after.
template <class T, class Body>
FOCUS_HD void for_lines(const AntialiasMesh& m, const Crossed<T>& edge, int axis, const Body& body) {
  const int64_t lines = axis == 0 ? m.H : m.W, length = axis == 0 ? m.W : m.H;
  const int64_t along = axis == 0 ? 1 : m.W, across = axis == 0 ? m.W : 1;
  const T start = std::ceil(edge.a.w - T(0.5));
  for (int64_t i = start > 0 ? static_cast<int64_t>(start) : 0; i < lines; ++i) {
    const T line = static_cast<T>(i) + T(0.5), u = edge.at(line);
    if (!(line < edge.b.w)) break;
    if (!(u > -1 && u < static_cast<T>(length) + 1)) continue;
    const int64_t first = static_cast<int64_t>(std::floor(u - T(0.5 - 2 * kBehind)));
    const int64_t last = static_cast<int64_t>(std::floor(u - T(0.5 + 2 * kBehind)));
    for (int64_t j = first > 0 ? first : 0; j <= last && j + 1 < length; ++j) body(i, j, i * across + j * along);
  }
}

// Adds to `grad` what one pair across a silhouette edge gives to an end of it. j, i: the pair's place along u and w.
template <class T>
FOCUS_HD void add_pair_grad(const AntialiasGradParams<T>& p, int64_t b, const Crossed<T>& edge, int32_t code, int axis,
                            int64_t i, int64_t j, bool to_b, Flat<T>& grad) {
  const int64_t pixels = p.mesh.H * p.mesh.W, along = axis == 0 ? 1 : p.mesh.W, across = axis == 0 ? p.mesh.W : 1;
  const T line = static_cast<T>(i) + T(0.5);
  const Cover<T> c = cover(edge, code, line, static_cast<T>(j) + T(0.5));
  if (c.held) return;
  const int64_t first = i * across + j * along;
  const int64_t near = c.second ? first + along : first, far = c.second ? first : first + along;
  T grad_near = 0, grad_far = 0;
  for (int64_t k = p.C * b; k < p.C * (b + 1); ++k) {
    const T *image = p.image + pixels * k, *grad_out = p.grad + pixels * k;
    if (c.changes_near()) grad_near += grad_out[near] * (image[far] - image[near]);
    if (c.changes_far()) grad_far += grad_out[far] * (image[near] - image[far]);
  }
  const T grad_t = grad_near * (c.rate - 1) + grad_far * c.rate, grad_u = c.second ? -grad_t : grad_t;
  // The slope's size bends both covers alike.
  const T grad_h = (grad_near + grad_far) * (c.rate - c.rate * c.rate), slope = edge.slope();
  const T grad_slope = T(0.5) * (slope < 0 ? -grad_h : grad_h) / (edge.b.w - edge.a.w), share = edge.share(line);
  const T grad_end = to_b ? grad_u * share + grad_slope : grad_u * (1 - share) - grad_slope;
  grad.u += grad_end;
  grad.w -= grad_end * slope;
}

// The same of all pairs across the edge opposite `corner`, to its end `v`, line by line.
template <class T>
FOCUS_HD void add_edge_grad(const AntialiasGradParams<T>& p, int64_t b, int32_t corner, int32_t v, Vec3<T>& grad) {
  const AntialiasMesh& m = p.mesh;
  const T* positions = p.positions + 3 * m.V * b;
  const int axis = crossed_at(positions, m.faces, corner, 0).of(0) ? 0 : 1;
  const Crossed<T> edge = crossed_at(positions, m.faces, corner, axis);
  const int32_t* edges = p.edges + m.H * m.W * (2 * b + axis);
  Flat<T> sum = {0, 0};
  for_lines(m, edge, axis, [&](int64_t i, int64_t j, int64_t pixel) {
    const int32_t code = edges[pixel];
    if (code == corner + 1 || code == -1 - corner) add_pair_grad(p, b, edge, code, axis, i, j, edge.b_vertex == v, sum);
  });
  grad.x += axis == 0 ? sum.u : sum.w;
  grad.y += axis == 0 ? sum.w : sum.u;
}

// Gradient of one vertex, from the silhouette edges around it in the order of its corners. seen[f] has bit k where the
// edge opposite corner k of face f is one.
template <class T, class Seen>
FOCUS_HD void vertex_grad(const AntialiasGradParams<T>& p, const Seen* seen, int64_t b, int64_t v, Vec3<T>& grad) {
  const int32_t end = p.offsets[v + 1];
  for (int32_t j = p.offsets[v]; j < end; ++j) {
    const int32_t f = p.corners[j] / 3, k = p.corners[j] - 3 * f;
    if (seen[f] == 0) continue;
    for (int i = 1; i < 3; ++i) {
      const int e = (k + i) % 3;
      if ((seen[f] >> e & 1) != 0) add_edge_grad(p, b, 3 * f + e, static_cast<int32_t>(v), grad);
    }
  }
}

}  // namespace focus
