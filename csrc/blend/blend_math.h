// The order of all sums of blend, which makes them the same bits for every instruction set, number of threads and
// batch.
//
// A vertex sums its components one after the other, from 0, and adds the mean at the end: the small numbers first.
// A gradient of a coefficient sums over N columns: kLanes sums of every kLanes-th column of a block, folded in halves;
// blocks of a stripe one after the other; stripes one after the other, in double.
#pragma once
#include <cstdint>

#include "core/hd.h"

namespace focus {

constexpr int kLanes = 16;
constexpr int64_t kBlock = 512;  // columns
constexpr int64_t kStripe = 8 * kBlock;

// The sum of kLanes numbers, which it overwrites.
template <class T>
FOCUS_HD T fold(T* lanes) {
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

FOCUS_HD int64_t stripes_of(int64_t columns) { return (columns + kStripe - 1) / kStripe; }

}  // namespace focus
