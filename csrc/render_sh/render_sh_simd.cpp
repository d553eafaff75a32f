// The vertices of one image, in vectors. Compiled once per instruction set, see core/simd.h.
#include "core/simd.h"
#include "render_sh/render_sh_image.h"
#include "render_sh/render_sh_math.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

template <class V>
struct V3 {
  V x, y, z;
};

// Rows of N numbers, V::width of them, to and from vectors of the first three columns.
template <int N, class V>
inline V3<V> load(const typename V::T* p) {
  typename V::T c[3][V::width];
  for (int lane = 0; lane < V::width; ++lane)
    for (int k = 0; k < 3; ++k) c[k][lane] = p[N * lane + k];
  return {V::load(c[0]), V::load(c[1]), V::load(c[2])};
}
template <int N, class V>
inline void store(const V3<V>& v, typename V::T* p) {
  typename V::T c[3][V::width];
  v.x.store(c[0]);
  v.y.store(c[1]);
  v.z.store(c[2]);
  for (int lane = 0; lane < V::width; ++lane)
    for (int k = 0; k < 3; ++k) p[N * lane + k] = c[k][lane];
}

template <class V>
inline V3<V> rotate_lanes(const typename V::T* M, const V3<V>& v) {
  auto row = [&](int i) {
    return (V::set(M[3 * i]) * v.x + V::set(M[3 * i + 1]) * v.y) + V::set(M[3 * i + 2]) * v.z;
  };
  return {row(0), row(1), row(2)};
}

template <class V>
inline typename V::Mask finite(V v) {
  return v - v <= V::set(0);
}

template <class V>
inline void project_lanes(const VertexStage<typename V::T>& s, int64_t v) {
  using T = typename V::T;
  V3<V> c = rotate_lanes(s.R, load<3, V>(s.vertices + 3 * v));
  c = {c.x + V::set(s.t[0]), c.y + V::set(s.t[1]), c.z + V::set(s.t[2])};
  V smallest = V::set(T(kMinDepth));
  V z = V::select(c.z.abs() < smallest, smallest.flip_by(c.z), c.z);
  auto pixel = [&](const T* K) {
    V sum = V::set(K[0]) * c.x + V::set(K[1]) * c.y;
    return s.orthographic ? sum + V::set(K[2]) : (sum + V::set(K[2]) * c.z) / z;
  };
  V3<V> p{pixel(s.K), pixel(s.K + 3), c.z};
  store<3>(p, s.positions + 3 * v);
  V far = V::set(T(kMaxCoordinate)), nan = V::set(T(NAN));
  typename V::Mask drawn = (p.x.abs() <= far) & (p.y.abs() <= far) & (smallest <= p.z) & (p.z <= V::set(T(kMaxDepth)));
  store<4>(V3<V>{V::select(drawn, p.x, nan), V::select(drawn, p.y, nan), V::select(drawn, p.z, nan)}, s.points + 4 * v);
}

template <class V>
inline V3<V> finish_lanes(const typename V::T* sums, bool focus) {
  using T = typename V::T;
  V3<V> sum = load<4, V>(sums);
  V smallest = V::set(smallest_sum<T>()), scale;
  typename V::Mask some;
  if (focus) {
    T lengths[V::width];
    for (int lane = 0; lane < V::width; ++lane) lengths[lane] = sums[4 * lane + 3];
    scale = V::load(lengths);
    some = smallest < scale;
  } else {
    V largest = V::max(V::max(sum.x.abs(), sum.y.abs()), sum.z.abs());
    some = smallest < largest;
    largest = V::select(some, largest, V::set(1));
    V3<V> u{sum.x / largest, sum.y / largest, sum.z / largest};
    scale = largest * ((u.x * u.x + u.y * u.y) + u.z * u.z).sqrt();
    some = some & (smallest < scale);
  }
  some = some & finite(scale);
  scale = V::select(some, scale, V::set(1));
  return {(sum.x / scale).keep(some), (sum.y / scale).keep(some), (sum.z / scale).keep(some)};
}

template <class V>
inline V3<V> focus_lanes(const V3<V>& n) {
  using T = typename V::T;
  V r = (n.x * n.x + n.y * n.y).sqrt();
  V q = V::max(V::set(1) - n.z * n.z, V::set(0)).sqrt() / V::max(r, V::set(T(1e-6)));
  return {q * n.x, q * n.y, n.z};
}

template <class V>
inline void color_lanes(const VertexStage<typename V::T>& s, int64_t v) {
  using T = typename V::T;
  V3<V> n = rotate_lanes(s.R, finish_lanes<V>(s.sums + 4 * v, s.focus));
  if (s.focus) n = focus_lanes(n);
  V y[9] = {V::set(T(kSh0)),
            V::set(-T(kSh1)) * n.y,
            V::set(T(kSh1)) * n.z,
            V::set(-T(kSh1)) * n.x,
            V::set(T(kSh2)) * (n.x * n.y),
            V::set(-T(kSh2)) * (n.y * n.z),
            V::set(T(kSh20)) * (V::set(3) * (n.z * n.z) - V::set(1)),
            V::set(-T(kSh2)) * (n.x * n.z),
            V::set(T(kSh22)) * (n.x * n.x - n.y * n.y)};
  auto light = [&](const T* sh) {
    V sum = V::set(0);
    for (int k = 0; k < 9; ++k) sum = sum + V::set(sh[k]) * y[k];
    return sum;
  };
  V3<V> a = load<3, V>(s.albedo + 3 * v);
  store<4>(V3<V>{a.x * light(s.sh), a.y * light(s.sh + 9), a.z * light(s.sh + 18)}, s.colors + 4 * v);
}

// Adds the normals of V::width faces to their corners, face by face, so that every width adds in the same order.
template <class V>
inline void sum_lanes(const VertexStage<typename V::T>& s, const typename V::T* table, int64_t face) {
  using T = typename V::T;
  const int32_t* corner = s.faces + 3 * face;
  V3<V> v[3];
  for (int k = 0; k < 3; ++k) V::rows(table, corner + k, 3, v[k].x, v[k].y, v[k].z);
  V3<V> a{v[1].x - v[0].x, v[1].y - v[0].y, v[1].z - v[0].z}, b{v[2].x - v[0].x, v[2].y - v[0].y, v[2].z - v[0].z};
  V3<V> n{a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
  typename V::Mask usable = finite(n.x) & finite(n.y) & finite(n.z);
  T rows[4][V::width];
  n.x.keep(usable).store(rows[0]);
  n.y.keep(usable).store(rows[1]);
  n.z.keep(usable).store(rows[2]);
  ((n.x * n.x + n.y * n.y) + n.z * n.z).sqrt().keep(usable).store(rows[3]);
  for (int lane = 0; lane < V::width; ++lane) {
    T own[4] = {rows[0][lane], rows[1][lane], rows[2][lane], rows[3][lane]};
    for (int k = 0; k < 3; ++k) {
      T* sum = s.sums + int64_t{4} * corner[3 * lane + k];
      for (int j = 0; j < 4; ++j) sum[j] += own[j];
    }
  }
}

template <class V>
void run_stage(const VertexStage<typename V::T>& s) {
  using T = typename V::T;
  using One = Lanes1<T>;
  // Vectors read rows of four, so the vertices are copied once; the colours take the place of the copy later.
  T* table = s.colors;
  for (int64_t v = 0; v < s.V; ++v)
    for (int k = 0; k < 4; ++k) {
      table[4 * v + k] = k < 3 ? s.vertices[3 * v + k] : T(0);
      s.sums[4 * v + k] = 0;
    }
  int64_t f = 0;
  for (; f + V::width <= s.F; f += V::width) sum_lanes<V>(s, table, f);
  for (; f < s.F; ++f) sum_lanes<One>(s, table, f);
  int64_t v = 0;
  for (; v + V::width <= s.V; v += V::width) {
    color_lanes<V>(s, v);
    if (s.positions != nullptr) project_lanes<V>(s, v);
  }
  for (; v < s.V; ++v) {
    color_lanes<One>(s, v);
    if (s.positions != nullptr) project_lanes<One>(s, v);
  }
}

}  // namespace

extern const VertexKernels vertex_table;
const VertexKernels vertex_table = {run_stage<Float>, run_stage<Double>};

}  // namespace FOCUS_ISA
}  // namespace focus
