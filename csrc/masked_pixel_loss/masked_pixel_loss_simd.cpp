// Pixels in vectors. Compiled once per instruction set, see core/simd.h.
#include "core/simd.h"
#include "masked_pixel_loss/masked_pixel_loss_block.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

// Sums are taken in this many lanes, whatever the width of a vector, over runs short enough for float32.
constexpr int kLanes = 16;
constexpr int64_t kRun = 256;

template <class V>
struct Rule {
  V scale, offset, threshold;
  typename V::Mask open;  // everywhere, where there is no cut

  explicit Rule(const PixelRule& r)
      : scale(number(r.scale)),
        offset(number(r.offset)),
        threshold(number(r.threshold)),
        open(V::from_bits(r.cut ? 0 : ~0u)) {}
  static V number(double x) { return V::set(static_cast<typename V::T>(x)); }
};

// The difference of two pixels, and what it weighs.
template <class V>
struct Pixel {
  V d[3], r2, mask;
  typename V::Mask inlier;
};

template <class V, class S>
inline Pixel<V> load(const PixelBlock<S>& p, const Rule<V>& rule, int64_t x) {
  Pixel<V> q;
  for (int c = 0; c < 3; ++c) q.d[c] = V::load(p.rendered + p.P * c + x) - V::load(p.target + p.P * c + x);
  q.r2 = (q.d[0] * q.d[0] + q.d[1] * q.d[1]) + q.d[2] * q.d[2];
  q.inlier = (q.r2 < rule.threshold) | rule.open;
  q.mask = V::load(p.mask + x).keep(q.inlier);
  return q;
}

template <PixelKind kind, class V>
inline V distance(const Pixel<V>& q, const Rule<V>& rule) {
  if (kind == PixelKind::l2) return q.r2.sqrt();
  if (kind == PixelKind::l1) return (q.d[0].abs() + q.d[1].abs()) + q.d[2].abs();
  return q.r2 * rule.scale + rule.offset;
}

// An outlier counts nothing, whatever its distance, which may be infinite.
template <PixelKind kind, class V>
inline V term(const Pixel<V>& q, const Rule<V>& rule) {
  return (q.mask * distance<kind>(q, rule)).keep(q.inlier);
}

// The gradient of a pixel to its distance, as that to its difference.
template <PixelKind kind, class V>
inline void difference_grad(const Pixel<V>& q, const Rule<V>& rule, V g, V grad[3]) {
  const V zero = V::set(0), one = V::set(1);
  if (kind == PixelKind::l1) {
    for (int c = 0; c < 3; ++c) {
      const V sign = V::select(zero < q.d[c], one, V::select(q.d[c] < zero, V::set(-1), q.d[c]));
      grad[c] = (g * sign).keep(q.inlier);
    }
    return;
  }
  const V by = kind == PixelKind::l2 ? g / V::select(q.r2 <= zero, one, q.r2.sqrt()) : g * (rule.scale + rule.scale);
  // A norm has no gradient at zero, where underflow may have left a difference.
  typename V::Mask some = q.inlier;
  if (kind == PixelKind::l2) some = some.andnot(q.r2 <= zero);
  for (int c = 0; c < 3; ++c) grad[c] = (by * q.d[c]).keep(some);
}

template <class T>
inline double tree(T* lanes) {
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  return lanes[0];
}

template <PixelKind kind, class V, class S>
void sum_pixels(const PixelBlock<S>& p, double sums[2]) {
  using T = typename V::T;
  using One = Lanes1<T>;
  constexpr int kVectors = kLanes / V::width;
  const Rule<V> rule(p.rule);
  const Rule<One> rule1(p.rule);
  sums[0] = sums[1] = 0;
  for (int64_t begin = p.first; begin < p.last; begin += kRun) {
    const int64_t end = begin + kRun < p.last ? begin + kRun : p.last;
    V sum[kVectors], weight[kVectors];
    for (int k = 0; k < kVectors; ++k) sum[k] = weight[k] = V::set(0);
    int64_t x = begin;
    for (; x + kLanes <= end; x += kLanes)
      for (int k = 0; k < kVectors; ++k) {
        const Pixel<V> q = load(p, rule, x + k * V::width);
        sum[k] = sum[k] + term<kind>(q, rule);
        weight[k] = weight[k] + q.mask;
      }
    T lanes[2][kLanes];
    for (int k = 0; k < kVectors; ++k) {
      sum[k].store(lanes[0] + k * V::width);
      weight[k].store(lanes[1] + k * V::width);
    }
    for (int k = 0; x < end; ++x, ++k) {
      const Pixel<One> q = load(p, rule1, x);
      lanes[0][k] += term<kind>(q, rule1).v;
      lanes[1][k] += q.mask.v;
    }
    sums[0] += tree(lanes[0]);
    sums[1] += tree(lanes[1]);
  }
}

// Calls body(vectors of V, x) over the pixels, and body(vectors of one, x) over those that are left.
template <class V, class S, class Body>
inline void each(const PixelBlock<S>& p, const Body& body) {
  using One = Lanes1<typename V::T>;
  const Rule<V> rule(p.rule);
  const Rule<One> rule1(p.rule);
  int64_t x = p.first;
  for (; x + V::width <= p.last; x += V::width) body(rule, x);
  for (; x < p.last; ++x) body(rule1, x);
}

template <PixelKind kind, class V, class S>
void map_pixels(const PixelBlock<S>& p, Sum<S>* out) {
  each<V>(p, [&](const auto& rule, int64_t x) { term<kind>(load(p, rule, x), rule).store(out + x); });
}

// The pixels of `n` vectors. What is read is read before anything is written, see grad_pixels().
template <PixelKind kind, bool images, int n, class V, class S>
inline void grad_vectors(const PixelBlock<S>& p, const Rule<V>& rule, const PixelGrads<S>& to, int64_t x) {
  V to_mask[n], grad[n][3];
  for (int k = 0; k < n; ++k) {
    const Pixel<V> q = load(p, rule, x + k * V::width);
    V g = V::set(to.of_sum);
    if (to.grad != nullptr) g = g * V::load(to.grad + x + k * V::width);
    to_mask[k] = (g * distance<kind>(q, rule) - V::set(to.of_weight)).keep(q.inlier);
    if constexpr (images) difference_grad<kind>(q, rule, g * q.mask, grad[k]);
  }
  if (to.mask != nullptr)
    for (int k = 0; k < n; ++k) to_mask[k].store(to.mask + x + k * V::width);
  if constexpr (images)
    for (int c = 0; c < 3; ++c) {
      const int64_t at = p.P * c + x;
      if (to.rendered != nullptr)
        for (int k = 0; k < n; ++k) grad[k][c].store(to.rendered + at + k * V::width);
      if (to.target != nullptr)
        for (int k = 0; k < n; ++k) (V::set(0) - grad[k][c]).store(to.target + at + k * V::width);
    }
}

// The planes of an image lie apart by what is often a multiple of 4 KiB: then more of them meet in a set of the first
// cache than it has ways, and a line would be fetched again for each of its vectors. So a line of each plane at a time.
template <PixelKind kind, bool images, class V, class S>
void grad_pixels(const PixelBlock<S>& p, const PixelGrads<S>& to) {
  using One = Lanes1<typename V::T>;
  constexpr int n = V::width == 1 ? 1 : kLanes / V::width;
  const Rule<V> rule(p.rule);
  const Rule<One> rule1(p.rule);
  int64_t x = p.first;
  for (; x + n * V::width <= p.last; x += n * V::width) grad_vectors<kind, images, n>(p, rule, to, x);
  for (; x < p.last; ++x) grad_vectors<kind, images, 1>(p, rule1, to, x);
}

template <PixelKind kind, class V, class S>
void grad_pixels(const PixelBlock<S>& p, const PixelGrads<S>& to) {
  if (to.target != nullptr || to.rendered != nullptr) return grad_pixels<kind, true, V>(p, to);
  grad_pixels<kind, false, V>(p, to);
}

template <class V, class S>
void keep_inliers(const PixelBlock<S>& p, S* out) {
  each<V>(p, [&](const auto& rule, int64_t x) { load(p, rule, x).mask.store(out + x); });
}

#define FOCUS_BY_KIND(function, kind, ...)                                               \
  do {                                                                                   \
    if (kind == PixelKind::squared) return function<PixelKind::squared, V>(__VA_ARGS__); \
    if (kind == PixelKind::l2) return function<PixelKind::l2, V>(__VA_ARGS__);           \
    return function<PixelKind::l1, V>(__VA_ARGS__);                                      \
  } while (0)

template <class V, class S>
void run_sums(const PixelBlock<S>& p, double sums[2]) {
  FOCUS_BY_KIND(sum_pixels, p.rule.kind, p, sums);
}
template <class V, class S>
void run_map(const PixelBlock<S>& p, Sum<S>* out) {
  FOCUS_BY_KIND(map_pixels, p.rule.kind, p, out);
}
template <class V, class S>
void run_grad(const PixelBlock<S>& p, const PixelGrads<S>& to) {
  FOCUS_BY_KIND(grad_pixels, p.rule.kind, p, to);
}

template <class V, class S>
constexpr PixelKernelsOf<S> kernels_of() {
  return {run_sums<V, S>, run_map<V, S>, run_grad<V, S>, keep_inliers<V, S>};
}

}  // namespace

extern const PixelKernels pixel_table;
const PixelKernels pixel_table = {kernels_of<Float, float>(), kernels_of<Double, double>(), kernels_of<Float, F16>(),
                                  kernels_of<Float, Bf16>()};

}  // namespace FOCUS_ISA
}  // namespace focus
