// The vertices of one image, in vectors: projected and shaded; and the backward of the image. Compiled once per
// instruction set, see core/simd.h.
#include "render_sh/render_sh_lanes.h"

#include "render_sh/render_sh_grad_lanes.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

template <class V>
inline void project_lanes(const VertexStage<typename V::T>& s, int64_t v) {
  using T = typename V::T;
  V3<V> c = camera_lanes<V>(s, v);
  V smallest = V::set(T(kMinDepth));
  V z = V::select(c.z.abs() < smallest, smallest.flip_by(c.z), c.z);
  auto pixel = [&](const T* K) {
    V sum = V::set(K[0]) * c.x + V::set(K[1]) * c.y;
    return s.orthographic ? sum + V::set(K[2]) : (sum + V::set(K[2]) * c.z) / z;
  };
  V3<V> p{pixel(s.K), pixel(s.K + 3), c.z};
  if (s.positions != nullptr) store3(p.x, p.y, p.z, s.positions + 3 * v);
  V far = V::set(T(kMaxCoordinate)), nan = V::set(T(NAN));
  typename V::Mask drawn = (p.x.abs() <= far) & (p.y.abs() <= far) & (smallest <= p.z) & (p.z <= V::set(T(kMaxDepth)));
  V::to_rows(V::select(drawn, p.x, nan), V::select(drawn, p.y, nan), V::select(drawn, p.z, nan), V::set(0),
             s.points + 4 * v);
}

template <class V>
inline void color_lanes(const VertexStage<typename V::T>& s, int64_t v) {
  V3<V> n = rotate_lanes(s.R, normal_lanes<V>(s.sums + 4 * v, s.focus).n);
  if (s.focus) n = focus_lanes(n).m;
  V y[9];
  basis_lanes(n, y);
  V3<V> a = load_rows3<V>(s.albedo + 3 * v);
  V::to_rows(a.x * light_lanes(s.sh, y), a.y * light_lanes(s.sh + 9, y), a.z * light_lanes(s.sh + 18, y), V::set(0),
             s.colors + 4 * v);
}

// Adds the normals of V::width faces to their corners, face by face, so that every width adds in the same order.
template <class V>
inline void sum_lanes(const VertexStage<typename V::T>& s, int64_t face) {
  const int32_t* corner = s.faces + 3 * face;
  V3<V> v[3];
  for (int k = 0; k < 3; ++k) V::rows(s.table, corner + k, 3, v[k].x, v[k].y, v[k].z);
  V3<V> n = cross(v[1] - v[0], v[2] - v[0]);
  typename V::Mask usable = finite(n.x) & finite(n.y) & finite(n.z);
  n = keep(n, usable);
  typename V::T rows[4 * V::width];
  V::to_rows(n.x, n.y, n.z, s.focus ? length_lanes(n) : V::set(0), rows);
  for (int lane = 0; lane < V::width; ++lane)
    for (int k = 0; k < 3; ++k) add_row(s.sums + int64_t{4} * corner[3 * lane + k], rows + 4 * lane);
}

template <class V>
inline void table_lanes(const VertexStage<typename V::T>& s, int64_t v) {
  V3<V> a = load_rows3<V>(s.vertices + 3 * v);
  V zero = V::set(0);
  V::to_rows(a.x, a.y, a.z, zero, s.table + 4 * v);
  V::to_rows(zero, zero, zero, zero, s.sums + 4 * v);
}

template <class V>
void run_vertices(const VertexStage<typename V::T>& s) {
  using One = Lanes1<typename V::T>;
  int64_t v = 0, f = 0;
  for (; v + V::width <= s.V; v += V::width) table_lanes<V>(s, v);
  for (; v < s.V; ++v) table_lanes<One>(s, v);
  for (; f + V::width <= s.F; f += V::width) sum_lanes<V>(s, f);
  for (; f < s.F; ++f) sum_lanes<One>(s, f);
  for (v = 0; v + V::width <= s.V; v += V::width) {
    color_lanes<V>(s, v);
    project_lanes<V>(s, v);
  }
  for (; v < s.V; ++v) {
    color_lanes<One>(s, v);
    project_lanes<One>(s, v);
  }
}

}  // namespace

extern const VertexKernels vertex_table;
const VertexKernels vertex_table = {run_vertices<Float>, run_vertices<Double>, run_grad<Float>, run_grad<Double>};

}  // namespace FOCUS_ISA
}  // namespace focus
