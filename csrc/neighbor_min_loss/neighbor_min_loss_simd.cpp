// The rows of neighbor_min_loss in vectors of pixels. Compiled once per instruction set, see core/simd.h.
#include <cmath>

#include "neighbor_min_loss/neighbor_min_loss_grad_lanes.h"
#include "neighbor_min_loss/neighbor_min_loss_lanes.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

// The smallest squared distance to the neighbours of the pixels at x, and the number of the first that has it. `rows`
// is indexed by dy. A NaN among the distances would go unseen here: `all` is NaN then, and `sticky` finds the first.
template <int R, bool sticky, class L>
inline void nearest(const Row<typename L::T>* rows, const Row<typename L::T>& fixed, Span dy_span, Span dx_span,
                    int64_t x, L& best, L& winner, L& all) {
  using T = typename L::T;
  const L f[3] = {L::load(fixed.c[0] + x), L::load(fixed.c[1] + x), L::load(fixed.c[2] + x)};
  const L one = L::set(1);
  auto number = [&](int64_t dy) { return L::set(static_cast<T>((dy + R) * (2 * R + 1) + dx_span.first + R)); };
  best = L::set(static_cast<T>(HUGE_VAL));
  winner = number(dy_span.first);
  all = L::set(0);
  for (int64_t dy = dy_span.first; dy < dy_span.end; ++dy) {
    L k = number(dy);
    for (int64_t dx = dx_span.first; dx < dx_span.end; ++dx, k = k + one) {
      const T* const* m = rows[dy].c;
      const L diff[3] = {f[0] - L::load(m[0] + x + dx), f[1] - L::load(m[1] + x + dx), f[2] - L::load(m[2] + x + dx)};
      const L d = squared_length(diff);
      if constexpr (sticky) {
        const typename L::Mask better = (best <= best).andnot(best <= d);
        best = L::select(better, d, best);
        winner = L::select(better, k, winner);
      } else {
        const typename L::Mask better = d < best;
        best = L::min(best, d);
        winner = L::select(better, k, winner);
        all = all + d;
      }
    }
  }
}

// The pixels `map` of a row. Not inlined: one copy serves every type of memory.
template <class V, int R>
FOCUS_NOINLINE void nearest_row(const Row<typename V::T>* rows, const Row<typename V::T>& own, Span dy_span, Span map,
                                int64_t W, typename V::T* best, typename V::T* winner) {
  using T = typename V::T;
  auto put = [&](auto lanes, int64_t x, Span dx_span) FOCUS_BODY {
    using L = decltype(lanes);
    L d, k, all;
    nearest<R, false>(rows + R, own, dy_span, dx_span, x, d, k, all);
    if ((all <= all).bits() != L::first(L::width).bits())
      nearest<R, true>(rows + R, own, dy_span, dx_span, x, d, k, all);
    d.store(best + x);
    k.store(winner + x);
  };
  for_windows<V, R>(
      map, W, [&](auto lanes, int64_t x) FOCUS_BODY { put(lanes, x, {-R, R + 1}); },
      [&](int64_t x) { put(Lanes1<T>{}, x, offsets_at(x, W, R)); });
}

// Bytes may alias anything: by its arguments alone, so that it becomes vector code.
template <class T>
inline void narrow_row(const T* from, int64_t n, uint8_t* to) {
  for (int64_t x = 0; x < n; ++x) to[x] = static_cast<uint8_t>(from[x]);
}

// Sixteen partial sums, then a tree: the same order for every width. n is a multiple of 16.
template <class V>
inline typename V::T row_sum(const typename V::T* row, int64_t n) {
  V parts[16 / V::width];
  for (V& part : parts) part = V::set(0);
  for (int64_t x = 0; x < n; x += 16)
    for (int k = 0; k < 16 / V::width; ++k) parts[k] = parts[k] + V::load(row + x + k * V::width);
  typename V::T sums[16];
  for (int k = 0; k < 16 / V::width; ++k) parts[k].store(sums + k * V::width);
  for (int step = 8; step > 0; step /= 2)
    for (int k = 0; k < step; ++k) sums[k] += sums[k + step];
  return sums[0];
}

template <class V, int R, class S>
void forward_rows(const NeighborRows<S>& r) {
  using T = typename V::T;
  const NeighborMinLossParams<S>& p = *r.p;
  const NeighborRule& rule = p.rule;
  const int64_t W = p.W, pixels = p.H * W;
  const Span map_rows = map_span(p.H, rule), map = map_span(W, rule);
  const S* mask = p.mask + pixels * r.b;
  const bool squared = rule.squared, images_masked = rule.mask_images;
  const S* images[2] = {p.target + 3 * pixels * r.b, p.rendered + 3 * pixels * r.b};
  Image<V, S> moving, fixed;
  T *best = nullptr, *winner = nullptr, *value = nullptr, *weight = nullptr;
  auto carve = [&](char* block) {
    Carve c(block);
    const S* masked = rule.mask_images ? mask : nullptr;
    moving = Image<V, S>::of(images[rule.search_target ? 0 : 1], masked, p.H, W, 2 * R + 1, c);
    fixed = Image<V, S>::of(images[rule.search_target ? 1 : 0], masked, p.H, W, 1, c);
    for (T** row : {&best, &winner, &value, &weight}) *row = c.take<T>(padded(W));
    return c.used();
  };
  carve(Scratch::get(carve(nullptr)));
  for (int64_t x = 0; x < padded(W); ++x) value[x] = weight[x] = 0;

  for (int64_t y = r.first; y < r.end; ++y) {
    const Span dy_span = offsets_at(y, p.H, R);
    Row<T> rows[2 * R + 1];
    for (int64_t dy = dy_span.first; dy < dy_span.end; ++dy) rows[dy + R] = moving.row(y + dy);
    nearest_row<V, R>(rows, fixed.row(y), dy_span, map, W, best, winner);

    for_columns<V>(map.first, map.end, [&](auto lanes, int64_t x) FOCUS_BODY {
      using L = decltype(lanes);
      const L m = L::load(mask + W * y + x), d = L::load(best + x), distance = squared ? d : d.sqrt();
      (images_masked ? distance : m * distance).store(value + x);
      m.store(weight + x);
    });
    const int64_t at = map.size() * (map_rows.size() * r.b + y - map_rows.first) - map.first;
    narrow_row(winner + map.first, map.size(), p.winner + at + map.first);
    if (rule.reduction == NeighborReduction::none)
      for (int64_t x = map.first; x < map.end; ++x) p.out[at + x] = value[x];
    r.row_sums[2 * y] = row_sum<V>(value, padded(W) - kPad);
    r.row_sums[2 * y + 1] = row_sum<V>(weight, padded(W) - kPad);
  }
}

template <class V, class S>
void run_forward(const NeighborRows<S>& r) {
  if (r.p->rule.radius == 1) return forward_rows<V, 1>(r);
  if (r.p->rule.radius == 2) return forward_rows<V, 2>(r);
  forward_rows<V, 3>(r);
}

template <class V, class S>
void run_backward(const NeighborGradRows<S>& r) {
  if (r.p->rule.radius == 1) return backward_rows<V, 1>(r);
  if (r.p->rule.radius == 2) return backward_rows<V, 2>(r);
  backward_rows<V, 3>(r);
}

}  // namespace

extern const NeighborKernels neighbor_table;
const NeighborKernels neighbor_table = {
    run_forward<Float, float>,  run_forward<Double, double>,  run_forward<Float, F16>,  run_forward<Float, Bf16>,
    run_backward<Float, float>, run_backward<Double, double>, run_backward<Float, F16>, run_backward<Float, Bf16>};

}  // namespace FOCUS_ISA
}  // namespace focus
