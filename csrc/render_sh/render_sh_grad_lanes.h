// The backward of one image in vectors: pixels, then vertices, then faces. For files of core/simd.h only.
// Every sum is taken in an order that depends neither on the width of the vectors nor on the number of threads.
#pragma once
#include "rasterize/rasterize_lanes.h"
#include "render_sh/render_sh_lanes.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

// The gradients of V::width pixels, added to the corners of their faces pixel by pixel.
template <class V>
inline void pixel_grads(const GradStage<typename V::T>& g, int64_t row, int64_t column) {
  using T = typename V::T;
  const VertexStage<T>& s = g.vertices;
  const int64_t pixel = row * g.W + column, plane = g.H * g.W;
  int32_t all = -1;
  for (int lane = 0; lane < V::width; ++lane) all &= g.face_index[pixel + lane];
  if (all == -1) return;
  unsigned bits = 0;
  for (int lane = 0; lane < V::width; ++lane) bits |= static_cast<unsigned>(g.face_index[pixel + lane] >= 0) << lane;
  const typename V::Mask covered = V::from_bits(bits);
  int32_t corner[3 * V::width];
  face_corners<V>(s.faces, g.face_index + pixel, corner);
  Corners<V> c = load_corners<V>(s.points, corner, 3);
  V e[3], u[3], b[3], grad_b[3], grad_e[3], grad_z[3];
  V area = covered_edges(s.points, corner, c, covered, static_cast<T>(column), static_cast<T>(row), e);
  for (int i = 0; i < 3; ++i) u[i] = g.perspective ? e[i] / c.z[i] : e[i];
  V sum = (u[0] + u[1]) + u[2];
  for (int i = 0; i < 3; ++i) {
    b[i] = u[i] / sum;
    grad_b[i] = V::set(0);
  }
  V rgb[3] = {V::set(0), V::set(0), V::set(0)}, grad_depth = V::set(0);
  if (g.grad_image != nullptr) {
    Corners<V> a = load_corners<V>(s.colors, corner, 3);  // x, y, z are red, green, blue
    for (int k = 0; k < 3; ++k) rgb[k] = V::load(g.grad_image + k * plane + pixel);
    for (int i = 0; i < 3; ++i) grad_b[i] = (rgb[0] * a.x[i] + rgb[1] * a.y[i]) + rgb[2] * a.z[i];
  }
  if (g.grad_barycentrics != nullptr) {
    V3<V> own = load_rows3<V>(g.grad_barycentrics + 3 * pixel);
    grad_b[0] = grad_b[0] + own.x;
    grad_b[1] = grad_b[1] + own.y;
    grad_b[2] = grad_b[2] + own.z;
  }
  if (g.grad_depth != nullptr) grad_depth = V::load(g.grad_depth + pixel);
  if (g.perspective) {
    V depth = ((e[0] + e[1]) + e[2]) / sum;
    V mean = ((grad_b[0] * b[0] + grad_b[1] * b[1]) + grad_b[2] * b[2]) + grad_depth * depth;
    for (int i = 0; i < 3; ++i) {
      V grad_u = (grad_b[i] - mean) / sum;
      grad_e[i] = grad_u / c.z[i] + grad_depth / sum;
      grad_z[i] = V::set(0) - grad_u * u[i] / c.z[i];
    }
  } else {
    for (int i = 0; i < 3; ++i) grad_b[i] = grad_b[i] + grad_depth * c.z[i];
    V mean = (grad_b[0] * b[0] + grad_b[1] * b[1]) + grad_b[2] * b[2];
    for (int i = 0; i < 3; ++i) {
      grad_e[i] = (grad_b[i] - mean) / sum;
      grad_z[i] = grad_depth * b[i];
    }
  }
  V px = V::set(static_cast<T>(column) + T(0.5)) + V::iota(), py = V::set(static_cast<T>(row) + T(0.5));
  for (int i = 0; i < 3; ++i) {
    grad_e[i] = grad_e[i].flip_by(area);
    c.x[i] = c.x[i] - px;
    c.y[i] = c.y[i] - py;
  }
  T color[3][4 * V::width], position[3][4 * V::width];
  for (int i = 0; i < 3; ++i) {  // e[j] = x[k] y[l] - y[k] x[l] for (j, k, l) cyclic
    int k = (i + 1) % 3, l = (i + 2) % 3;
    V::to_rows(rgb[0] * b[i], rgb[1] * b[i], rgb[2] * b[i], V::set(0), color[i]);
    V::to_rows(grad_e[l] * c.y[k] - grad_e[k] * c.y[l], grad_e[k] * c.x[l] - grad_e[l] * c.x[k], grad_z[i], V::set(0),
               position[i]);
  }
  for (; bits != 0; bits &= bits - 1) {
    const int lane = __builtin_ctz(bits);
    for (int k = 0; k < 3; ++k) {
      T* to = g.corner + int64_t{8} * corner[3 * lane + k];
      add_row(to, color[k] + 4 * lane);
      add_row(to + 4, position[k] + 4 * lane);
    }
  }
}

// Sums over the vertices of an image, in sixteen interleaved columns whatever the width.
template <class T>
struct Columns {
  static constexpr int count = 16;
  T of[kRenderSums][count];
};

template <class V>
inline void add_column(Columns<typename V::T>& sums, int k, int64_t v, V value) {
  typename V::T* at = sums.of[k] + v % Columns<typename V::T>::count;
  (V::load(at) + value).store(at);
}

template <class V>
inline void add_outer(Columns<typename V::T>& sums, int first, int64_t v, const V3<V>& a, const V3<V>& b) {
  const V *x[3] = {&a.x, &a.y, &a.z}, *y[3] = {&b.x, &b.y, &b.z};
  for (int i = 0; i < 3; ++i)
    for (int k = 0; k < 3; ++k) add_column(sums, first + 3 * i + k, v, *x[i] * *y[k]);
}

// Position -> vertex and camera; the vertex's gradient so far goes to rows of four.
template <class V>
inline V3<V> position_grads(const GradStage<typename V::T>& g, int64_t v, Columns<typename V::T>& sums) {
  using T = typename V::T;
  const VertexStage<T>& s = g.vertices;
  V3<V> grad = load_rows4<V>(g.corner + 8 * v + 4, 2), zero{V::set(0), V::set(0), V::set(0)};
  V3<V> p = load_rows3<V>(g.positions + 3 * v);
  if (g.grad_positions != nullptr) {
    V largest = V::set(T(kMaxDepth)), smallest = V::set(T(kMinDepth));
    typename V::Mask usable = finite(p.x) & finite(p.y) & finite(p.z);
    if (!s.orthographic)
      usable =
          usable & (smallest <= p.z.abs()) & (p.z.abs() <= largest) & (p.x.abs() <= largest) & (p.y.abs() <= largest);
    V3<V> own = load_rows3<V>(g.grad_positions + 3 * v);
    grad = grad +
           V3<V>{V::select(usable, own.x, zero.x), V::select(usable, own.y, zero.y), V::select(usable, own.z, zero.z)};
  }
  typename V::Mask some = nonzero(grad);
  if (some.bits() == 0) return zero;
  V3<V> c = camera_lanes<V>(s, v), model = load_rows3<V>(s.vertices + 3 * v), grad_c{zero.x, zero.x, grad.z};
  const V ones = V::set(1), along[2] = {grad.x, grad.y}, at[2] = {p.x, p.y};
  for (int i = 0; i < 2; ++i) {
    const T* K = s.K + 3 * i;
    V t = s.orthographic ? along[i] : along[i] / V::select(some, c.z, ones);
    grad_c.x = grad_c.x + V::set(K[0]) * t;
    grad_c.y = grad_c.y + V::set(K[1]) * t;
    if (!s.orthographic) grad_c.z = grad_c.z + (V::set(K[2]) - at[i]) * t;
    add_column(sums, 27 + 3 * i, v, (c.x * t).keep(some));
    add_column(sums, 28 + 3 * i, v, (c.y * t).keep(some));
    add_column(sums, 29 + 3 * i, v, along[i].keep(some));
  }
  grad_c = keep(grad_c, some);
  add_outer(sums, 33, v, grad_c, keep(model, some));
  add_column(sums, 42, v, grad_c.x);
  add_column(sums, 43, v, grad_c.y);
  add_column(sums, 44, v, grad_c.z);
  return keep(rotate_back_lanes(s.R, grad_c), some);
}

// Colour -> albedo, light, rotation and the sum of face normals, whose gradient takes the place of the sum.
template <class V>
inline void color_grads(const GradStage<typename V::T>& g, int64_t v, Columns<typename V::T>& sums) {
  using T = typename V::T;
  const VertexStage<T>& s = g.vertices;
  const V zero = V::set(0);
  V3<V> grad = load_rows4<V>(g.corner + 8 * v, 2);
  const typename V::Mask some = nonzero(grad);  // the others get exactly zero, whatever their albedo is
  if (some.bits() == 0) {
    store3(zero, zero, zero, g.grad_albedo + 3 * v);
    V::to_rows(zero, zero, zero, zero, s.sums + 4 * v);
    return;
  }
  Normal<V> normal = normal_lanes<V>(s.sums + 4 * v, s.focus);
  V3<V> turned = rotate_lanes(s.R, normal.n), m = turned, albedo = load_rows3<V>(s.albedo + 3 * v);
  FocusNormal<V> f{};
  if (s.focus) {
    f = focus_lanes(turned);
    m = f.m;
  }
  V y[9], grad_y[9];
  basis_lanes(m, y);
  for (V& sum : grad_y) sum = zero;
  V light[3];
  const V own[3] = {grad.x, grad.y, grad.z}, base[3] = {albedo.x, albedo.y, albedo.z};
  for (int c = 0; c < 3; ++c) {
    V grad_light = own[c] * base[c];
    light[c] = own[c] * light_lanes(s.sh + 9 * c, y);
    for (int k = 0; k < 9; ++k) {
      V part = grad_light * V::set(s.sh[9 * c + k]);
      grad_y[k] = grad_y[k] + part;
      add_column(sums, 9 * c + k, v, (grad_light * y[k]).keep(some));
    }
  }
  store3(light[0].keep(some), light[1].keep(some), light[2].keep(some), g.grad_albedo + 3 * v);
  const V sh1 = V::set(T(kSh1)), sh2 = V::set(T(kSh2)), sh22 = V::set(T(2 * kSh22));
  V3<V> grad_m{
      (sh2 * (m.y * grad_y[4] - m.z * grad_y[7]) - sh1 * grad_y[3]) + sh22 * (m.x * grad_y[8]),
      (sh2 * (m.x * grad_y[4] - m.z * grad_y[5]) - sh1 * grad_y[1]) - sh22 * (m.y * grad_y[8]),
      (sh1 * grad_y[2] - sh2 * (m.y * grad_y[5] + m.x * grad_y[7])) + V::set(T(6 * kSh20)) * (m.z * grad_y[6])};
  V3<V> grad_turned = grad_m;
  if (s.focus) {
    const V floor_r = V::set(T(1e-6)), one = V::set(1);
    typename V::Mask away = floor_r < f.r, tilted = zero < f.s;
    V grad_q = grad_m.x * turned.x + grad_m.y * turned.y, r = V::select(away, f.r, one);
    V along = (zero - grad_q * f.q / r / r).keep(away);
    V grad_s = grad_q / V::max(f.r, floor_r);
    grad_turned = {f.q * grad_m.x + along * turned.x, f.q * grad_m.y + along * turned.y,
                   grad_m.z - (grad_s * turned.z / V::select(tilted, f.s, one)).keep(tilted)};
  }
  grad_turned = keep(grad_turned, some);
  add_outer(sums, 33, v, grad_turned, normal.n);
  V3<V> grad_n = rotate_back_lanes(s.R, grad_turned);
  V inside = dot(normal.n, grad_n);
  const typename V::Mask usable = normal.some & some;
  V3<V> grad_sum = keep((s.focus ? grad_n : grad_n - normal.n * inside) / normal.scale, usable);
  V fourth = s.focus ? ((zero - inside) / normal.scale).keep(usable) : zero;
  V::to_rows(grad_sum.x, grad_sum.y, grad_sum.z, fourth, s.sums + 4 * v);
}

// `sums` (now gradients) -> the vertices of V::width faces, added to rows of four face by face.
template <class V>
inline void face_grads(const VertexStage<typename V::T>& s, int64_t face, typename V::T* grad_rows) {
  using T = typename V::T;
  const int32_t* corner = s.faces + 3 * face;
  V3<V> grad{V::set(0), V::set(0), V::set(0)};
  for (int k = 0; k < 3; ++k) {
    V3<V> own;
    V::rows(s.sums, corner + k, 3, own.x, own.y, own.z);
    grad = k == 0 ? own : grad + own;
  }
  V fourth = V::set(0);
  typename V::Mask some = nonzero(grad);
  if (s.focus) {
    T w[V::width];
    for (int lane = 0; lane < V::width; ++lane)
      w[lane] = (s.sums[int64_t{4} * corner[3 * lane] + 3] + s.sums[int64_t{4} * corner[3 * lane + 1] + 3]) +
                s.sums[int64_t{4} * corner[3 * lane + 2] + 3];
    fourth = V::load(w);
    some = some | (V::set(0) < fourth.abs());
  }
  if (some.bits() == 0) return;
  V3<V> v[3];
  for (int k = 0; k < 3; ++k) V::rows(s.table, corner + k, 3, v[k].x, v[k].y, v[k].z);
  V3<V> e1 = v[1] - v[0], e2 = v[2] - v[0], n = cross(e1, e2);
  some = some & finite(n.x) & finite(n.y) & finite(n.z);
  if (s.focus) {
    V length = length_lanes(n);
    typename V::Mask sized = V::set(0) < length;
    grad = grad + keep(n * fourth / V::select(sized, length, V::set(1)), sized);  // fourth / length may overflow
  }
  V3<V> grad1 = cross(e2, grad), grad2 = cross(grad, e1);
  T rows[3][4 * V::width];
  V zero = V::set(0);
  V3<V> grad0 = V3<V>{zero, zero, zero} - (grad1 + grad2);
  V::to_rows(grad0.x, grad0.y, grad0.z, zero, rows[0]);
  V::to_rows(grad1.x, grad1.y, grad1.z, zero, rows[1]);
  V::to_rows(grad2.x, grad2.y, grad2.z, zero, rows[2]);
  for (unsigned bits = some.bits(); bits != 0; bits &= bits - 1) {
    const int lane = __builtin_ctz(bits);
    for (int k = 0; k < 3; ++k) add_row(grad_rows + int64_t{4} * corner[3 * lane + k], rows[k] + 4 * lane);
  }
}

template <class V>
inline void vertex_grads(const GradStage<typename V::T>& g, int64_t v, Columns<typename V::T>& sums) {
  V3<V> grad = position_grads<V>(g, v, sums);
  color_grads<V>(g, v, sums);
  // The colours have been read; their rows take the gradient of the vertices.
  V::to_rows(grad.x, grad.y, grad.z, V::set(0), g.vertices.colors + 4 * v);
}

template <class V>
void run_grad(const GradStage<typename V::T>& g) {
  using T = typename V::T;
  using One = Lanes1<T>;
  const VertexStage<T>& s = g.vertices;
  std::memset(g.corner, 0, sizeof(T) * 8 * static_cast<size_t>(s.V));
  for (int64_t row = 0; row < g.H; ++row) {
    int64_t column = 0;
    for (; column + V::width <= g.W; column += V::width) pixel_grads<V>(g, row, column);
    for (; column < g.W; ++column) pixel_grads<One>(g, row, column);
  }
  T totals[kRenderSums] = {0};
  for (int64_t begin = 0; begin < s.V; begin += kRenderPart) {
    const int64_t end = begin + kRenderPart < s.V ? begin + kRenderPart : s.V;
    Columns<T> sums{};
    int64_t v = begin;
    for (; v + V::width <= end; v += V::width) vertex_grads<V>(g, v, sums);
    for (; v < end; ++v) vertex_grads<One>(g, v, sums);
    for (int k = 0; k < kRenderSums; ++k)
      for (int column = 0; column < Columns<T>::count; ++column) totals[k] += sums.of[k][column];
  }
  for (int k = 0; k < kRenderSums; ++k) g.totals[k] = totals[k];
  int64_t f = 0, v = 0;
  for (; f + V::width <= s.F; f += V::width) face_grads<V>(s, f, s.colors);
  for (; f < s.F; ++f) face_grads<One>(s, f, s.colors);
  for (; v < s.V; ++v)
    for (int k = 0; k < 3; ++k) g.grad_vertices[3 * v + k] = s.colors[4 * v + k];
}

}  // namespace
}  // namespace FOCUS_ISA
}  // namespace focus
