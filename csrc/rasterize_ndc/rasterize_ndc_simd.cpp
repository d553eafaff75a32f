// What is seen at each pixel, with the pixels in vectors. Compiled once per instruction set, see core/simd.h.
#include "rasterize/rasterize_lanes.h"
#include "rasterize_ndc/rasterize_ndc_image.h"
#include "rasterize_ndc/rasterize_ndc_math.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

// bias_factor() of the `covered` lanes.
template <class V>
inline V bias_factors(const typename V::T* points, const int32_t* corner, const Corners<V>& c, typename V::Mask covered,
                      double bias) {
  using T = typename V::T;
  typename V::Mask unsure;
  const V area = edge_lanes(c.x[1], c.y[1], c.x[2], c.y[2], c.x[0], c.y[0], unsure);
  const V factor = area / (area - V::set(static_cast<T>(bias)));
  unsure = unsure | (area.abs() <= V::set(static_cast<T>(2 * bias)));
  unsigned rest = (unsure & covered).bits();
  if (rest == 0) return factor;
  T lanes[V::width];
  factor.store(lanes);
  for (; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    const Triangle<T> t = load_triangle(points, corner + 3 * lane);
    lanes[lane] = bias_factor(t, signed_area(t), bias);
  }
  return V::load(lanes);
}

template <class V>
inline void resolve_pixels(const RasterImage<typename V::T>& r, const NdcRule& rule,
                           const ResolvedNdc<typename V::T>& o, int64_t row, int64_t column) {
  using T = typename V::T;
  const int64_t pixel = row * r.W + column;
  T drawn[V::width];
  const unsigned bits = read_pixels<V>(r.buffer, pixel, false, o.face_index + pixel, drawn);
  const V none = V::set(-1);
  if (bits == 0) {
    for (int k = 0; k < 3; ++k) none.store(o.barycentrics + 3 * pixel + k * V::width);
    none.store(o.depth + pixel);
    none.store(o.distances + pixel);
    return;
  }
  const typename V::Mask covered = V::from_bits(bits);
  int32_t corner[3 * V::width];
  face_corners<V>(r.faces, o.face_index + pixel, corner);
  const Corners<V> c = load_corners<V>(r.points, corner, 3);
  V e[3], b[3];
  covered_edges(r.points, corner, c, covered, static_cast<T>(column), static_cast<T>(row), e);
  for (int i = 0; i < 3; ++i) b[i] = rule.perspective ? e[i] / c.z[i] : e[i];
  const V sum = (b[0] + b[1]) + b[2];
  for (int i = 0; i < 3; ++i) b[i] = b[i] / sum;
  V depth = V::load(drawn);
  if (rule.perspective || !rule.clip) {
    V factor = bias_factors(r.points, corner, c, covered, rule.bias);
    if (rule.perspective) {
      const V least = V::set(static_cast<T>(least_denominator(rule)));
      const V denominator = (factor * ((c.z[0] * c.z[1]) * c.z[2])) / depth;
      factor = V::select(denominator < least, denominator / least, V::set(1));
      depth = depth * factor;
    }
    for (int i = 0; i < 3; ++i) b[i] = b[i] * factor;
  }
  V squared[3];
  for (int i = 0; i < 3; ++i) {
    const int k = (i + 1) % 3, l = (i + 2) % 3;
    const V x = c.x[l] - c.x[k], y = c.y[l] - c.y[k];
    squared[i] = (e[i] * e[i]) / (x * x + y * y);
  }
  const V nearest = V::min(V::min(squared[0], squared[1]), squared[2]);
  const V scaled = nearest * V::set(static_cast<T>(1 / (rule.scale * rule.scale)));
  V::select(covered, depth, none).store(o.depth + pixel);
  V::select(covered, V::set(0) - scaled, none).store(o.distances + pixel);
  for (int i = 0; i < 3; ++i) b[i] = V::select(covered, b[i], none);
  store3(b[0], b[1], b[2], o.barycentrics + 3 * pixel);
}

template <class V>
void resolve_image(const RasterImage<typename V::T>& r, const NdcRule& rule, const ResolvedNdc<typename V::T>& o) {
  for (int64_t row = r.first_row; row < r.last_row; ++row) {
    int64_t column = 0;
    for (; column + V::width <= r.W; column += V::width) resolve_pixels<V>(r, rule, o, row, column);
    for (; column < r.W; ++column) resolve_pixels<Lanes1<typename V::T>>(r, rule, o, row, column);
  }
}

}  // namespace

extern const NdcKernels ndc_table;
const NdcKernels ndc_table = {resolve_image<Float>, resolve_image<Double>};

}  // namespace FOCUS_ISA
}  // namespace focus
