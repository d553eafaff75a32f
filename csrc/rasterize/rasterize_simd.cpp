// draw() and resolve() in vectors of triangles and of pixels. Compiled once per instruction set, see core/simd.h.
//
// Almost every triangle of a face mesh covers zero to two pixel centres, so the lanes are triangles: cull, throw away
// the boxes without a centre, pack the rest, test their few samples. Only triangles whose box exceeds 4x4 samples go
// one by one, with pixels in the lanes. Lanes whose sign float32 cannot decide take the scalar path of
// rasterize_math.h.
#include "rasterize/rasterize_image.h"
#include "rasterize/rasterize_lanes.h"
#include "rasterize/rasterize_math.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

constexpr int kBlock = 2048;  // faces per block: its queues stay in the first-level cache
constexpr int kSmall = 4;     // largest box side, in samples, of the triangle-per-lane path
constexpr int kSlack = 16;    // a packed store may write a whole vector

inline void clear(const DepthBuffer<float>& b, int64_t begin, int64_t end) {
  std::memset(b.keys + begin, 0xFF, static_cast<size_t>(end - begin) * sizeof(uint64_t));
}
inline void clear(const DepthBuffer<double>& b, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    b.depth[i] = HUGE_VAL;
    b.id[i] = -1;
  }
}

template <class V>
struct Samples {
  V e[3];  // not negative where sure and inside
  typename V::Mask inside, unsure;
};

template <class V>
inline Samples<V> test_samples(const Corners<V>& c, V area, V px, V py) {
  Samples<V> s;
  typename V::Mask u[3];
  for (int i = 0; i < 3; ++i) {
    int k = (i + 1) % 3, l = (i + 2) % 3;
    s.e[i] = edge_lanes(c.x[k], c.y[k], c.x[l], c.y[l], px, py, u[i]).flip_by(area);
  }
  V zero = V::set(0);
  s.unsure = u[0] | u[1] | u[2];
  s.inside = ((zero < s.e[0]) & (zero < s.e[1]) & (zero < s.e[2])).andnot(s.unsure);
  return s;
}

template <class V>
inline V depth_lanes(const Corners<V>& c, const V e[3], bool perspective) {
  V sum = (e[0] + e[1]) + e[2];
  if (perspective) return sum / ((e[0] / c.z[0] + e[1] / c.z[1]) + e[2] / c.z[2]);
  return ((e[0] * c.z[0] + e[1] * c.z[1]) + e[2] * c.z[2]) / sum;
}

template <class T>
inline void draw_sample(const RasterImage<T>& r, const Triangle<T>& t, T area, int32_t id, int row, int column) {
  T e[3];
  if (!covers(t, area, column + T(0.5), row + T(0.5), r.rule.coverage, e)) return;
  T depth = depth_at(t, e, r.rule.perspective);
  if (r.areas.bias > 0) depth *= bias_factor(t, area, r.areas.bias);
  put(r.buffer, int64_t{row} * r.W + column, depth, id, r.rule.highest);
}

// One triangle, pixels in the lanes.
template <class V>
void draw_large(const RasterImage<typename V::T>& r, int32_t id) {
  using T = typename V::T;
  Triangle<T> t = load_triangle(r.points, r.faces + int64_t{3} * id);
  T area = signed_area(t);
  if (!faces_us(area, r.rule.cull)) return;
  if (r.areas.least_area > 0 && !exceeds(t, area, r.areas.least_area)) return;
  const bool biased = r.areas.bias > 0;
  const V factor = V::set(biased ? bias_factor(t, area, r.areas.bias) : T(1));
  auto low = [](T a, T b, T c) { return a < b ? (a < c ? a : c) : (b < c ? b : c); };
  auto high = [](T a, T b, T c) { return a > b ? (a > c ? a : c) : (b > c ? b : c); };
  int first_column, last_column, first_row, last_row;
  sample_range(low(t.v[0].x, t.v[1].x, t.v[2].x), high(t.v[0].x, t.v[1].x, t.v[2].x), r.W, first_column, last_column);
  sample_range(low(t.v[0].y, t.v[1].y, t.v[2].y), high(t.v[0].y, t.v[1].y, t.v[2].y), r.H, first_row, last_row);
  if (first_row < r.first_row) first_row = static_cast<int>(r.first_row);
  if (last_row >= r.last_row) last_row = static_cast<int>(r.last_row) - 1;
  Corners<V> c;
  for (int k = 0; k < 3; ++k) {
    c.x[k] = V::set(t.v[k].x);
    c.y[k] = V::set(t.v[k].y);
    c.z[k] = V::set(t.v[k].z);
  }
  V lane_area = V::set(area);
  for (int row = first_row; row <= last_row; ++row) {
    for (int column = first_column; column <= last_column; column += V::width) {
      V px = V::set(column + T(0.5)) + V::iota();
      typename V::Mask in_row = V::first(last_column - column + 1);
      Samples<V> s = test_samples(c, lane_area, px, V::set(row + T(0.5)));
      unsigned hits = (s.inside & in_row).bits();
      if (hits != 0) {
        T depth[V::width];
        V z = depth_lanes(c, s.e, r.rule.perspective);
        (biased ? z * factor : z).store(depth);
        for (; hits != 0; hits &= hits - 1) {
          int lane = __builtin_ctz(hits);
          put(r.buffer, row * r.W + column + lane, depth[lane], id, r.rule.highest);
        }
      }
      for (unsigned rest = (s.unsure & in_row).bits(); rest != 0; rest &= rest - 1)
        draw_sample(r, t, area, id, row, column + __builtin_ctz(rest));
    }
  }
}

// The triangles ids[0..V::width), whose boxes hold at most kSmall x kSmall samples and whose orientation is sure.
template <class V>
inline void draw_small(const RasterImage<typename V::T>& r, const int32_t* ids, int count) {
  using T = typename V::T;
  int32_t corner[3 * V::width];
  for (int lane = 0; lane < V::width; ++lane) {
    const int32_t* face = r.faces + int64_t{3} * ids[lane < count ? lane : 0];
    for (int k = 0; k < 3; ++k) corner[3 * lane + k] = face[k];
  }
  Corners<V> c = load_corners<V>(r.points, corner, 3);
  V half = V::set(T(0.5)), zero = V::set(0);
  typename V::Mask ignored;
  V area = edge_lanes(c.x[1], c.y[1], c.x[2], c.y[2], c.x[0], c.y[0], ignored);
  V left = V::max((V::min(V::min(c.x[0], c.x[1]), c.x[2]) - half).ceil(), zero);
  V top = V::max((V::min(V::min(c.y[0], c.y[1]), c.y[2]) - half).ceil(), V::set(static_cast<T>(r.first_row)));
  V right = V::min((V::max(V::max(c.x[0], c.x[1]), c.x[2]) - half).floor(), V::set(static_cast<T>(r.W - 1)));
  V bottom = V::min((V::max(V::max(c.y[0], c.y[1]), c.y[2]) - half).floor(), V::set(static_cast<T>(r.last_row - 1)));
  typename V::Mask live = V::first(count);
  const bool biased = r.areas.bias > 0;
  const V factor = biased ? area / (area - V::set(static_cast<T>(r.areas.bias))) : area;
  for (int dy = 0; dy < kSmall; ++dy) {
    V row = top + V::set(static_cast<T>(dy));
    typename V::Mask rows = live & (row <= bottom);
    if (rows.bits() == 0) break;
    for (int dx = 0; dx < kSmall; ++dx) {
      V column = left + V::set(static_cast<T>(dx));
      typename V::Mask at = rows & (column <= right);
      if (at.bits() == 0) break;
      Samples<V> s = test_samples(c, area, column + half, row + half);
      unsigned hits = (s.inside & at).bits(), rest = (s.unsure & at).bits();
      if ((hits | rest) == 0) continue;
      T depth[V::width], rowf[V::width], columnf[V::width];
      row.store(rowf);
      column.store(columnf);
      V z = depth_lanes(c, s.e, r.rule.perspective);
      (biased ? z * factor : z).store(depth);
      for (; hits != 0; hits &= hits - 1) {
        int lane = __builtin_ctz(hits);
        int64_t pixel = static_cast<int>(rowf[lane]) * r.W + static_cast<int>(columnf[lane]);
        put(r.buffer, pixel, depth[lane], ids[lane], r.rule.highest);
      }
      for (; rest != 0; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        Triangle<T> t = load_triangle(r.points, r.faces + int64_t{3} * ids[lane]);
        draw_sample(r, t, signed_area(t), ids[lane], static_cast<int>(rowf[lane]), static_cast<int>(columnf[lane]));
      }
    }
  }
}

struct Queue {
  int32_t ids[kBlock + kSlack];
  int count = 0;
};

// Sorts V::width triangles from `face` on into the queues by the number of samples in their boxes.
template <class V>
inline void sort_faces(const RasterImage<typename V::T>& r, int32_t face, int count, Queue& single, Queue& small,
                       Queue& large) {
  using T = typename V::T;
  int32_t corner[3 * V::width];
  const int32_t* corner0 = r.faces + int64_t{3} * face;
  if (count < V::width) {
    for (int i = 0; i < 3 * V::width; ++i) corner[i] = corner0[i < 3 * count ? i : 0];
    corner0 = corner;
  }
  Corners<V> c = load_corners<V>(r.points, corner0, 3);
  V half = V::set(T(0.5)), zero = V::set(0), one = V::set(1);
  typename V::Mask unsure;
  V area = edge_lanes(c.x[1], c.y[1], c.x[2], c.y[2], c.x[0], c.y[0], unsure);  // NaN where a corner is NaN
  if (r.areas.least_area > 0) unsure = unsure | (area.abs() <= V::set(static_cast<T>(2 * r.areas.least_area)));
  typename V::Mask seen = area < zero;
  if (r.rule.cull == kCullFront) seen = zero < area;
  if (r.rule.cull == kCullNone) seen = seen | (zero < area);
  V left = V::max((V::min(V::min(c.x[0], c.x[1]), c.x[2]) - half).ceil(), zero);
  V top = V::max((V::min(V::min(c.y[0], c.y[1]), c.y[2]) - half).ceil(), V::set(static_cast<T>(r.first_row)));
  V right = V::min((V::max(V::max(c.x[0], c.x[1]), c.x[2]) - half).floor(), V::set(static_cast<T>(r.W - 1)));
  V bottom = V::min((V::max(V::max(c.y[0], c.y[1]), c.y[2]) - half).floor(), V::set(static_cast<T>(r.last_row - 1)));
  typename V::Mask boxed = V::first(count) & (left <= right) & (top <= bottom);
  typename V::Mask live = (boxed & seen).andnot(unsure);
  if ((boxed & (live | unsure)).bits() == 0) return;
  typename V::Mask tiny = (right < left + one) & (bottom < top + one);
  V most = V::set(static_cast<T>(kSmall));
  typename V::Mask fits = (right < left + most) & (bottom < top + most);
  single.count += V::compress(face, live & tiny, single.ids + single.count);
  small.count += V::compress(face, (live & fits).andnot(tiny), small.ids + small.count);
  large.count += V::compress(face, live.andnot(fits) | (boxed & unsure), large.ids + large.count);
}

template <class V>
void draw_image(const RasterImage<typename V::T>& r) {
  clear(r.buffer, r.first_row * r.W, r.last_row * r.W);
  Queue single, small, large;
  for (int64_t begin = 0; begin < r.F; begin += kBlock) {
    int64_t end = begin + kBlock < r.F ? begin + kBlock : r.F;
    single.count = small.count = large.count = 0;
    for (int64_t f = begin; f < end; f += V::width) {
      int64_t count = end - f < V::width ? end - f : V::width;
      sort_faces<V>(r, static_cast<int32_t>(f), static_cast<int>(count), single, small, large);
    }
    for (Queue* q : {&single, &small})
      for (int k = 0; k < q->count; k += V::width)
        draw_small<V>(r, q->ids + k, q->count - k < V::width ? q->count - k : V::width);
    for (int k = 0; k < large.count; ++k) draw_large<V>(r, large.ids[k]);
  }
}

// V::width pixels from `column` on.
template <class V>
inline void resolve_pixels(const RasterImage<typename V::T>& r, const ResolvedImage<typename V::T>& o, int64_t row,
                           int64_t column) {
  using T = typename V::T;
  const int64_t pixel = row * r.W + column, plane = r.H * r.W;
  const unsigned bits = read_pixels<V>(r.buffer, pixel, r.rule.highest, o.face_index + pixel, o.depth + pixel);
  if (bits == 0) {
    const V zero = V::set(0);
    for (int k = 0; k < 3; ++k) zero.store(o.barycentrics + 3 * pixel + k * V::width);
    if (o.colors == nullptr) return;
    for (int k = 0; k < 3; ++k) zero.store(o.image + k * plane + pixel);
    zero.store(o.mask + pixel);
    return;
  }
  const typename V::Mask covered = V::from_bits(bits);
  int32_t corner[3 * V::width];
  face_corners<V>(r.faces, o.face_index + pixel, corner);
  const Corners<V> c = load_corners<V>(r.points, corner, 3);
  V w[3];
  covered_edges(r.points, corner, c, covered, static_cast<T>(column), static_cast<T>(row), w);
  if (r.rule.perspective)
    for (int i = 0; i < 3; ++i) w[i] = w[i] / c.z[i];
  const V sum = (w[0] + w[1]) + w[2];
  for (int i = 0; i < 3; ++i) w[i] = (w[i] / sum).keep(covered);
  store3(w[0], w[1], w[2], o.barycentrics + 3 * pixel);
  if (o.colors == nullptr) return;
  const Corners<V> a = load_corners<V>(o.colors, corner, 3);  // x, y, z are red, green, blue
  ((w[0] * a.x[0] + w[1] * a.x[1]) + w[2] * a.x[2]).keep(covered).store(o.image + pixel);
  ((w[0] * a.y[0] + w[1] * a.y[1]) + w[2] * a.y[2]).keep(covered).store(o.image + plane + pixel);
  ((w[0] * a.z[0] + w[1] * a.z[1]) + w[2] * a.z[2]).keep(covered).store(o.image + 2 * plane + pixel);
  V::set(1).keep(covered).store(o.mask + pixel);
}

template <class V>
void resolve_image(const RasterImage<typename V::T>& r, const ResolvedImage<typename V::T>& o) {
  for (int64_t row = r.first_row; row < r.last_row; ++row) {
    int64_t column = 0;
    for (; column + V::width <= r.W; column += V::width) resolve_pixels<V>(r, o, row, column);
    for (; column < r.W; ++column) resolve_pixels<Lanes1<typename V::T>>(r, o, row, column);
  }
}

}  // namespace

extern const RasterKernels raster_table;
const RasterKernels raster_table = {draw_image<Float>, draw_image<Double>, resolve_image<Float>, resolve_image<Double>};

}  // namespace FOCUS_ISA
}  // namespace focus
