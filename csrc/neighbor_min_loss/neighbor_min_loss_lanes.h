// What the forward and the backward in vectors share: rows of images as numbers, and loops over columns.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "core/scratch.h"
#include "core/simd.h"
#include "neighbor_min_loss/neighbor_min_loss_image.h"
#include "neighbor_min_loss/neighbor_min_loss_math.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

constexpr int64_t kPad = 16;  // before and after a row of scratch: more than a window reaches

// Columns that a row of scratch has in memory: kPad before, and after it up to a whole number of partial sums.
inline int64_t padded(int64_t W) { return kPad + (W + 2 * kPad - 1) / kPad * kPad; }

template <class T>
struct Row {
  const T* c[3];
};

// A body of the loops below: as a call for each vector it would cost as much as its work.
#define FOCUS_BODY __attribute__((always_inline))

#define FOCUS_NOINLINE __attribute__((noinline))

// Calls body(lanes, column) over [first, end). The last vector may overlap the one before: a body writes, never adds.
template <class V, class Body>
inline void for_columns(int64_t first, int64_t end, const Body& body) {
  const int64_t last = end - V::width;
  if (first <= last)
    for (int64_t x = first; x < end; x += V::width) body(V{}, x < last ? x : last);
  else
    for (int64_t x = first; x < end; ++x) body(Lanes1<typename V::T>{}, x);
}

// The columns of `map` whose window is inside of the row in vectors, the others by border(column).
template <class V, int R, class Inner, class Border>
inline void for_windows(Span map, int64_t W, const Inner& inner, const Border& border) {
  const int64_t first = map.first < R ? R : map.first, end = map.end > W - R ? W - R : map.end;
  if (first >= end) {
    for (int64_t x = map.first; x < map.end; ++x) border(x);
    return;
  }
  for (int64_t x = map.first; x < first; ++x) border(x);
  for_columns<V>(first, end, inner);
  for (int64_t x = end; x < map.end; ++x) border(x);
}

// The rows of an image as numbers: where they lie or, if they have to be widened or masked first, in a ring.
template <class V, class S>
struct Image {
  using T = typename V::T;
  const S* data;  // [3, H, W]
  const S* mask;  // [H, W] to multiply with, or null
  int64_t H, W;
  int slots;
  T* ring;  // [slots, 3, W]
  int64_t held[7];

  static Image of(const S* data, const S* mask, int64_t H, int64_t W, int slots, Carve& carve) {
    const bool where_it_lies = std::is_same<S, T>::value && mask == nullptr;
    return {
        data, mask, H, W, slots, where_it_lies ? nullptr : carve.take<T>(3 * W * slots), {-1, -1, -1, -1, -1, -1, -1}};
  }
  Row<T> row(int64_t y) {
    const S* from = data + W * y;
    if constexpr (std::is_same<S, T>::value)
      if (mask == nullptr) return {{from, from + H * W, from + 2 * H * W}};
    const int64_t slot = y % slots;
    T* to = ring + 3 * W * slot;
    if (held[slot] != y) {
      held[slot] = y;
      for (int c = 0; c < 3; ++c)
        for_columns<V>(0, W, [&](auto lanes, int64_t x) {
          using L = decltype(lanes);
          L v = L::load(from + H * W * c + x);
          if (mask != nullptr) v = v * L::load(mask + W * y + x);
          v.store(to + W * c + x);
        });
    }
    return {{to, to + W, to + 2 * W}};
  }
};

template <class L>
inline L squared_length(const L d[3]) {
  return (d[0] * d[0] + d[1] * d[1]) + d[2] * d[2];
}

}  // namespace
}  // namespace FOCUS_ISA
}  // namespace focus
