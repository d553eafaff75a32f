// The backward in vectors. Row by row of the map, what each pixel gives to its nearest neighbour goes into a ring; a
// row of the image then collects from the rows of the ring around it, each pixel in one order.
#pragma once
#include "neighbor_min_loss/neighbor_min_loss_lanes.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

// A row of the map, by column of the image; beyond the map winner is -1 and the rest 0.
template <class T>
struct Given {
  T* winner;
  T* to_moving[3];  // gradient to the nearest neighbour; minus that to the pixel itself
  T* to_mask;       // what does not come through the images
};

// What give_row() reads and writes, by column of the image.
template <class T, int rows_of_window>
struct GiveRow {
  Row<T> moving[rows_of_window], fixed;
  const T *grad, *mask;  // gradient to each pixel of the map
  Given<T> to;
  Span map;
  int64_t W;
  T divisor;  // see Backward
  bool squared, mask_images, to_images;
};

// A row of the map. Not inlined, nor is collect_row: one copy serves every type of memory.
template <class V, int R>
FOCUS_NOINLINE void give_row(const GiveRow<typename V::T, 2 * R + 1>& r) {
  using T = typename V::T;
  constexpr int kRows = 2 * R + 1;
  auto put = [&](auto lanes, int64_t x, const decltype(lanes)* neighbor) FOCUS_BODY {
    using L = decltype(lanes);
    L d[3];
    for (int c = 0; c < 3; ++c) d[c] = neighbor[c] - L::load(r.fixed.c[c] + x);
    const L square = squared_length(d), distance = r.squared ? square : square.sqrt(), g = L::load(r.grad + x);
    const L weight = r.mask_images ? g : g * L::load(r.mask + x);
    ((r.mask_images ? L::set(0) : g * distance) - L::set(r.divisor)).store(r.to.to_mask + x);
    if (!r.to_images) return;
    const typename L::Mask apart = L::first(L::width).andnot(square == L::set(0));
    for (int c = 0; c < 3; ++c) {
      const L v = r.squared ? (weight + weight) * d[c] : (weight * (d[c] / distance)).keep(apart);
      v.store(r.to.to_moving[c] + x);
    }
  };
  auto inner = [&](auto lanes, int64_t x) FOCUS_BODY {
    using L = decltype(lanes);
    const L nearest = L::load(r.to.winner + x);
    L neighbor[3] = {L::set(0), L::set(0), L::set(0)};
    for (int dy = 0; dy < kRows; ++dy)
      for (int dx = 0; dx < kRows; ++dx) {
        const typename L::Mask here = nearest == L::set(static_cast<T>(dy * kRows + dx));
        for (int c = 0; c < 3; ++c) neighbor[c] = L::select(here, L::load(r.moving[dy].c[c] + x + dx - R), neighbor[c]);
      }
    put(lanes, x, neighbor);
  };
  auto border = [&](int64_t x) {
    const int k = static_cast<int>(r.to.winner[x]), dx = k % kRows - R;
    const T* const* row = r.moving[k / kRows].c;
    const Lanes1<T> neighbor[3] = {{row[0][x + dx]}, {row[1][x + dx]}, {row[2][x + dx]}};
    put(Lanes1<T>{}, x, neighbor);
  };
  for_windows<V, R>(r.map, r.W, inner, border);
}

// What a row of the image is given by rows of the map: by dy of the winner, the row y - dy.
template <class V, int R>
FOCUS_NOINLINE void collect_row(const Given<typename V::T>* rows, int64_t W, typename V::T* const* collected) {
  using T = typename V::T;
  constexpr int kRows = 2 * R + 1;
  for_columns<V>(0, W, [&](auto lanes, int64_t x) FOCUS_BODY {
    using L = decltype(lanes);
    L sum[3] = {L::set(0), L::set(0), L::set(0)};
    for (int dy = 0; dy < kRows; ++dy)
      for (int dx = 0; dx < kRows; ++dx) {
        const int64_t from = x + R - dx;
        const typename L::Mask here = L::load(rows[dy].winner + from) == L::set(static_cast<T>(dy * kRows + dx));
        for (int c = 0; c < 3; ++c) sum[c] = sum[c] + L::load(rows[dy].to_moving[c] + from).keep(here);
      }
    for (int c = 0; c < 3; ++c) sum[c].store(collected[c] + x);
  });
}

template <class V, int R, class S>
struct Backward {
  using T = typename V::T;
  static constexpr int kRows = 2 * R + 1;
  const NeighborMinLossGradParams<S>& p;
  const NeighborRule& rule;
  Span rows, map_rows, map;  // rows: those of the image that are wanted
  int64_t W, pixels;
  const T* grad;          // [H', W'] where it differs from pixel to pixel, or null
  T scale, of_divisor;    // gradient to a pixel of the map otherwise, and what the mask's sum takes from it
  const uint8_t* winner;  // [H', W']
  const S *mask, *moving_image, *fixed_image;
  S *grad_mask, *grad_moving, *grad_fixed;  // or null
  Image<V, S> moving, fixed;
  Given<T> ring[kRows], nothing;  // row y at y % kRows; and one beyond the map
  T *collected[3], *flat;         // of one row; `scale` in each column
  T* weights;                     // the mask of one row

  explicit Backward(const NeighborGradRows<S>& r) : p(*r.p), rule(p.rule), rows{r.first, r.end} {
    const int64_t b = r.b;
    W = p.W;
    pixels = p.H * W;
    map_rows = map_span(p.H, rule);
    map = map_span(W, rule);
    const int64_t map_pixels = map_rows.size() * map.size();
    const T map_sum = p.sums[2 * b], mask_sum = p.sums[2 * b + 1];
    grad = rule.reduction == NeighborReduction::none ? p.grad + map_pixels * b : nullptr;
    scale = grad != nullptr ? T(0) : map_gradient(*p.grad, rule.reduction, p.B, map_pixels, mask_sum);
    of_divisor = divisor_gradient(scale, rule.reduction, map_sum, mask_sum);
    winner = p.winner + map_pixels * b;
    auto image = [&](auto* data, int64_t channels) { return data == nullptr ? data : data + channels * pixels * b; };
    mask = image(p.mask, 1);
    moving_image = image(rule.search_target ? p.target : p.rendered, 3);
    fixed_image = image(rule.search_target ? p.rendered : p.target, 3);
    grad_mask = image(p.grad_mask, 1);
    grad_moving = image(rule.search_target ? p.grad_target : p.grad_rendered, 3);
    grad_fixed = image(rule.search_target ? p.grad_rendered : p.grad_target, 3);
  }

  bool collects() const { return grad_moving != nullptr || (grad_mask != nullptr && rule.mask_images); }

  size_t carve(char* block) {
    Carve c(block);
    const S* masked = rule.mask_images ? mask : nullptr;
    moving = Image<V, S>::of(moving_image, masked, p.H, W, kRows, c);
    fixed = Image<V, S>::of(fixed_image, masked, p.H, W, 1, c);
    auto take_row = [&](T*& row) {
      T* start = c.take<T>(padded(W));
      row = start == nullptr ? start : start + kPad;
    };
    for (int k = 0; k <= kRows; ++k) {
      Given<T>& row = k < kRows ? ring[k] : nothing;
      for (T** array : {&row.winner, &row.to_moving[0], &row.to_moving[1], &row.to_moving[2], &row.to_mask})
        take_row(*array);
    }
    for (T** array : {&collected[0], &collected[1], &collected[2], &flat, &weights}) take_row(*array);
    return c.used();
  }

  void clear() {
    for (int k = 0; k <= kRows; ++k) {
      Given<T>& row = k < kRows ? ring[k] : nothing;
      for (int64_t x = -kPad; x < padded(W) - kPad; ++x) {
        row.winner[x] = -1;
        row.to_mask[x] = row.to_moving[0][x] = row.to_moving[1][x] = row.to_moving[2][x] = 0;
      }
    }
    for (int64_t x = 0; x < W; ++x) flat[x] = scale;
  }

  // Where row y of a gradient lies, if what the kernels of a row compute is that gradient as it is in memory; or null.
  T* in_place(S* gradient, int64_t y) const {
    if constexpr (std::is_same<S, T>::value)
      if (gradient != nullptr && !rule.mask_images) return gradient + W * y;
    return nullptr;
  }
  // The same for the gradient to the mask, which does not wait for the neighbours then.
  T* mask_in_place(int64_t y) const {
    return rule.valid || y < rows.first || y >= rows.end ? nullptr : in_place(grad_mask, y);
  }

  // Row y of the map, into the ring.
  void give(int64_t y) {
    Given<T> to = ring[y % kRows];
    if (T* const out = mask_in_place(y)) to.to_mask = out;
    const int64_t at = map.size() * (y - map_rows.first) - map.first;
    for (int64_t x = map.first; x < map.end; ++x) to.winner[x] = static_cast<T>(winner[at + x]);
    const Row<T> own = fixed.row(y);
    const Span inside = offsets_at(y, p.H, R);
    GiveRow<T, kRows> row{{},
                          own,
                          grad != nullptr ? grad + at : flat,
                          weights,
                          to,
                          map,
                          W,
                          of_divisor,
                          rule.squared,
                          rule.mask_images,
                          collects() || grad_fixed != nullptr};
    for (int dy = -R; dy <= R; ++dy)  // a row outside of the image is nobody's winner
      row.moving[dy + R] = dy >= inside.first && dy < inside.end ? moving.row(y + dy) : own;
    const S* const mask_row = mask + W * y;
    if constexpr (std::is_same<S, T>::value)
      row.mask = mask_row;
    else
      for_columns<V>(map.first, map.end,
                     [&](auto lanes, int64_t x) FOCUS_BODY { decltype(lanes)::load(mask_row + x).store(weights + x); });
    give_row<V, R>(row);
  }

  // What row y of the image is given by the rows of the map around it, which are in the ring.
  void collect(int64_t y) {
    Given<T> from[kRows];
    for (int dy = -R; dy <= R; ++dy)
      from[dy + R] = y - dy >= map_rows.first && y - dy < map_rows.end ? ring[(y - dy) % kRows] : nothing;
    T* to[3];
    for (int c = 0; c < 3; ++c) {
      to[c] = in_place(grad_moving, y);
      to[c] = to[c] == nullptr ? collected[c] : to[c] + pixels * c;
    }
    collect_row<V, R>(from, W, to);
  }

  // The gradients of row y of the image.
  void take(int64_t y) {
    const Given<T> own = y >= map_rows.first && y < map_rows.end ? ring[y % kRows] : nothing;
    const S* const mask_row = mask + W * y;
    const bool images = rule.mask_images;
    if (collects()) collect(y);
    for (int c = 0; c < 3; ++c) {
      const int64_t at = pixels * c + W * y;
      if (grad_moving != nullptr && in_place(grad_moving, y) == nullptr)
        for_columns<V>(0, W, [&](auto lanes, int64_t x) FOCUS_BODY {
          using L = decltype(lanes);
          const L sum = L::load(collected[c] + x);
          (images ? sum * L::load(mask_row + x) : sum).store(grad_moving + at + x);
        });
      if (grad_fixed != nullptr)
        for_columns<V>(0, W, [&](auto lanes, int64_t x) FOCUS_BODY {
          using L = decltype(lanes);
          const L to_fixed = L::set(0) - L::load(own.to_moving[c] + x);
          (images ? to_fixed * L::load(mask_row + x) : to_fixed).store(grad_fixed + at + x);
        });
    }
    if (grad_mask == nullptr || mask_in_place(y) != nullptr) return;
    for_columns<V>(0, W, [&](auto lanes, int64_t x) FOCUS_BODY {
      using L = decltype(lanes);
      L sum = L::load(own.to_mask + x);
      for (int c = 0; images && c < 3; ++c) {
        const int64_t pixel = pixels * c + W * y + x;
        sum = sum - L::load(own.to_moving[c] + x) * L::load(fixed_image + pixel);
        sum = sum + L::load(collected[c] + x) * L::load(moving_image + pixel);
      }
      sum.store(grad_mask + W * y + x);
    });
  }
};

template <class V, int R, class S>
void backward_rows(const NeighborGradRows<S>& r) {
  Backward<V, R, S> work(r);
  work.carve(Scratch::get(work.carve(nullptr)));
  work.clear();
  const int64_t reach = work.collects() ? R : 0;
  int64_t next = r.first - reach < work.map_rows.first ? work.map_rows.first : r.first - reach;
  for (int64_t y = r.first; y < r.end; ++y) {
    for (; next <= y + reach && next < work.map_rows.end; ++next) work.give(next);
    work.take(y);
  }
}

}  // namespace
}  // namespace FOCUS_ISA
}  // namespace focus
