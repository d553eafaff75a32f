// The sides of all faces, V::width at a time. Compiled once per instruction set, see core/simd.h.
#include "antialias/antialias_sides.h"
#include "rasterize/rasterize_lanes.h"
#include "rasterize/rasterize_math.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

template <class T>
inline int8_t side_of(const T* points, const int32_t* face) {
  Triangle<T> t;
  for (int k = 0; k < 3; ++k) {
    const T* row = points + int64_t{4} * face[k];
    t.v[k] = {row[0], row[1], row[2]};
  }
  const T area = signed_area(t);
  return static_cast<int8_t>(area > 0 ? 1 : area < 0 ? -1 : 0);
}

template <class V>
void sides(const typename V::T* points, const int32_t* faces, int64_t F, int8_t* side) {
  int64_t f = 0;
  for (; f + V::width <= F; f += V::width) {
    const Corners<V> c = load_corners<V>(points, faces + 3 * f, 3);
    typename V::Mask unsure;
    const V area = edge_lanes(c.x[1], c.y[1], c.x[2], c.y[2], c.x[0], c.y[0], unsure), zero = V::set(0);
    const unsigned up = (zero < area).bits(), down = (area < zero).bits();
    for (int lane = 0; lane < V::width; ++lane)
      side[f + lane] = static_cast<int8_t>(static_cast<int>(up >> lane & 1) - static_cast<int>(down >> lane & 1));
    for (unsigned rest = unsure.bits(); rest != 0; rest &= rest - 1) {
      const int lane = __builtin_ctz(rest);
      side[f + lane] = side_of(points, faces + 3 * (f + lane));
    }
  }
  for (; f < F; ++f) side[f] = side_of(points, faces + 3 * f);
}

}  // namespace

extern const SideKernels side_table;
const SideKernels side_table = {sides<Float>, sides<Double>};

}  // namespace FOCUS_ISA
}  // namespace focus
