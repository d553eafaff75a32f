// The sums of blend in vectors of columns. Compiled once per instruction set, see core/simd.h.
//
// The basis is read from memory once: while a block of it is at work, the next one is fetched. Tiles of a few results
// times two vectors of columns (or of a few dot products) stay in registers while they run over the block. For one
// image there is nothing to keep: long runs of several rows at a time are what memory gives fastest.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "blend/blend_lanes.h"
#include "blend/blend_math.h"
#include "core/simd.h"

namespace focus {
namespace FOCUS_ISA {
namespace {

constexpr int64_t kWide = 256;    // columns of a block of a product
constexpr int64_t kRows = 16;     // its rows
constexpr int64_t kResults = 32;  // results or images that share a block
constexpr int64_t kFew = 3;       // up to so many images take the rows of a dot product as they lie

// What the registers hold: results times vectors of columns, and rows of dot products of kLanes lanes each.
template <class V>
struct Tile {
  static constexpr int results = V::width == 1 ? 2 : 6;
  static constexpr int vectors = V::width == 1 ? 8 : 2;
  static constexpr int dots = V::width == 1 ? 1 : 6;
};

// body(0), ..., body(N - 1), each with a constant: arrays that it indexes are registers.
template <int... I, class Body>
inline void each(std::integer_sequence<int, I...>, const Body& body) {
  (body(std::integral_constant<int, I>()), ...);
}
template <int N, class Body>
inline void each(const Body& body) {
  each(std::make_integer_sequence<int, N>(), body);
}

// count numbers as T, and zeros up to `padded`, a whole number of vectors.
template <class V, class M>
inline void widen_row(const M* from, int64_t count, int64_t padded, typename V::T* to) {
  int64_t i = 0;
  for (; i + V::width <= count; i += V::width) V::load(from + i).store(to + i);
  for (; i < count; ++i) to[i] = widen(from[i]);
  for (; i < padded; ++i) to[i] = 0;
}

// Parts of nearly equal size, at most `most`, so that no small one is left over.
template <class Body>
inline void in_parts(int64_t count, int64_t most, const Body& body) {
  const int64_t parts = (count + most - 1) / most;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t begin = count * i / parts;
    body(begin, count * (i + 1) / parts - begin);
  }
}

// sums[r] += weights[r][j] * rows[j] over the rows of a block, from `column`; fetches the rows `next` on the way.
template <class V, int R, class In>
void add_block(const typename V::T* const* rows, int64_t column, int64_t count, const typename V::T* weights, int64_t J,
               typename V::T* sums, const In* const* next, int64_t next_column) {
  constexpr int C = Tile<V>::vectors;
  for (int64_t c = 0; c < kWide; c += C * V::width) {
    V a[R][C];
    each<R>([&](auto r) { each<C>([&](auto v) { a[r][v] = V::load(sums + kWide * r + c + V::width * v); }); });
    for (int64_t j = 0; j < count; ++j) {
      if (next != nullptr) __builtin_prefetch(next[j] + next_column + c);
      V x[C];
      each<C>([&](auto v) { x[v] = V::load(rows[j] + column + c + V::width * v); });
      each<R>([&](auto r) {
        const V w = V::set(weights[J * r + j]);
        each<C>([&](auto v) { a[r][v] = a[r][v] + w * x[v]; });
      });
    }
    each<R>([&](auto r) { each<C>([&](auto v) { a[r][v].store(sums + kWide * r + c + V::width * v); }); });
  }
}

template <class V, class In>
inline void add_block(int64_t results, const typename V::T* const* rows, int64_t column, int64_t count,
                      const typename V::T* weights, int64_t J, typename V::T* sums, const In* const* next,
                      int64_t next_column) {
  switch (results) {
    case 1:
      return add_block<V, 1>(rows, column, count, weights, J, sums, next, next_column);
    case 2:
      return add_block<V, 2>(rows, column, count, weights, J, sums, next, next_column);
    case 3:
      return add_block<V, 3>(rows, column, count, weights, J, sums, next, next_column);
    case 4:
      return add_block<V, 4>(rows, column, count, weights, J, sums, next, next_column);
    case 5:
      return add_block<V, 5>(rows, column, count, weights, J, sums, next, next_column);
    default:
      return add_block<V, 6>(rows, column, count, weights, J, sums, next, next_column);
  }
}

// out = base + sums, of `count` columns.
template <class V, class Out>
inline void finish(const typename V::T* sums, const typename V::T* base, int64_t count, Out* out) {
  int64_t i = 0;
  for (; i + V::width <= count; i += V::width) {
    const V sum = V::load(sums + i);
    (base == nullptr ? sum : V::load(base + i) + sum).store(out + i);
  }
  for (; i < count; ++i) narrow(base == nullptr ? sums[i] : base[i] + sums[i], out[i]);
}

// One result: nothing is used twice, so rows are taken as they lie, J of them at a time.
template <class V, int J, class In>
inline void add_rows(const In* const* rows, int64_t begin, const typename V::T* weights, typename V::T* sums) {
  V w[J];
  const In* row[J];
  each<J>([&](auto j) {
    w[j] = V::set(weights[j]);
    row[j] = rows[j] + begin;
  });
  for (int64_t c = 0; c < kColumns; c += V::width) {
    V a = V::load(sums + c);
    each<J>([&](auto j) { a = a + w[j] * V::load(row[j] + c); });
    a.store(sums + c);
  }
}

template <class V, class In, class Out>
void product_of_one(const Product<In, Out>& p, int64_t begin) {
  using T = typename V::T;
  alignas(64) T sums[kColumns];
  for (int64_t c = 0; c < kColumns; ++c) sums[c] = 0;
  int64_t j = 0;
  for (; j + 8 <= p.J; j += 8) add_rows<V, 8>(p.rows + j, begin, p.weights + j, sums);
  for (; j < p.J; ++j) add_rows<V, 1>(p.rows + j, begin, p.weights + j, sums);
  finish<V>(sums, p.base == nullptr ? nullptr : p.base + begin, kColumns, p.out + begin);
}

template <class V, class In, class Out>
void product(const Product<In, Out>& p, int64_t begin, int64_t end) {
  using T = typename V::T;
  if (p.R == 1 && end - begin == kColumns) return product_of_one<V>(p, begin);
  alignas(64) T sums[kResults * kWide], widened[kRows * kWide];
  const T* block[kRows];
  for (int64_t i = 0; i < kRows; ++i) block[i] = widened + kWide * i;
  for (int64_t n = begin; n < end; n += kWide) {
    const int64_t count = std::min(kWide, end - n);
    in_parts(p.R, kResults, [&](int64_t first, int64_t results) {
      for (int64_t i = 0; i < results * kWide; ++i) sums[i] = 0;
      for (int64_t j = 0; j < p.J; j += kRows) {
        const int64_t rows = std::min(kRows, p.J - j);
        const T* const* from = block;
        int64_t column = 0;
        if constexpr (std::is_same_v<In, T>)
          if (count == kWide) from = p.rows + j, column = n;  // as they lie
        if (from == block)
          for (int64_t i = 0; i < rows; ++i) widen_row<V>(p.rows[j + i] + n, count, kWide, widened + kWide * i);
        // The rows of the next block, or the first ones of the next columns.
        const bool on = j + kRows + rows <= p.J, wrap = j + rows == p.J && n + 2 * kWide <= end;
        const In* const* next = on ? p.rows + j + kRows : wrap ? p.rows : nullptr;
        in_parts(results, Tile<V>::results, [&](int64_t r, int64_t some) {
          add_block<V>(some, from, column, rows, p.weights + p.J * (first + r) + j, p.J, sums + kWide * r,
                       r == 0 ? next : nullptr, on ? n : n + kWide);
        });
      }
      for (int64_t r = 0; r < results; ++r)
        finish<V>(sums + kWide * r, p.base == nullptr ? nullptr : p.base + n, count, p.out + p.N * (first + r) + n);
    });
  }
}

// Lanes of a block, V::width to a vector, to their sum: fold() of blend_math.h in vectors.
template <class V>
inline typename V::T fold(const V* sums) {
  alignas(64) typename V::T lanes[kLanes];
  for (int h = 0; h < kLanes / V::width; ++h) sums[h].store(lanes + V::width * h);
  return focus::fold(lanes);
}
#if defined(__AVX2__)
inline float fold(__m256 eight) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
inline float fold(const Lanes8* sums) { return fold(_mm256_add_ps(sums[0].v, sums[1].v)); }
#endif
#if defined(__AVX512F__)
inline float fold(const Lanes16* sums) {
  return fold(_mm256_add_ps(_mm512_castps512_ps256(sums->v), _mm512_extractf32x8_ps(sums->v, 1)));
}
#endif

// sums[q] += grad . rows[q], over one block of columns; fetches the row `next` on the way.
template <class V, int Q, class Row, class M>
void add_dots(const typename V::T* grad, const Row* rows, int64_t stride, int64_t columns, typename V::T* sums,
              const M* next) {
  constexpr int H = kLanes / V::width;
  V a[Q][H];
  each<Q>([&](auto q) { each<H>([&](auto h) { a[q][h] = V::set(0); }); });
  for (int64_t n = 0; n < columns; n += kLanes) {
    if (next != nullptr) __builtin_prefetch(next + n);
    each<H>([&](auto h) {
      const V g = V::load(grad + n + V::width * h);
      each<Q>([&](auto q) { a[q][h] = a[q][h] + g * V::load(rows + stride * q + n + V::width * h); });
    });
  }
  each<Q>([&](auto q) { sums[q] += fold(a[q]); });
}

template <class V, class Row, class M>
inline void add_dots(int64_t count, const typename V::T* grad, const Row* rows, int64_t stride, int64_t columns,
                     typename V::T* sums, const M* next) {
  switch (count) {
    case 1:
      return add_dots<V, 1>(grad, rows, stride, columns, sums, next);
    case 2:
      return add_dots<V, 2>(grad, rows, stride, columns, sums, next);
    case 3:
      return add_dots<V, 3>(grad, rows, stride, columns, sums, next);
    case 4:
      return add_dots<V, 4>(grad, rows, stride, columns, sums, next);
    case 5:
      return add_dots<V, 5>(grad, rows, stride, columns, sums, next);
    default:
      return add_dots<V, 6>(grad, rows, stride, columns, sums, next);
  }
}

// A few images: rows are taken as they lie, over the whole stripe.
template <class V, class M>
void dots_of_few(const Dots<M>& p, int64_t begin, typename V::T* sums) {
  in_parts(p.K, Tile<V>::dots, [&](int64_t k, int64_t rows) {
    for (int64_t n = begin; n < begin + kStripe; n += kBlock)
      for (int64_t b = 0; b < p.B; ++b)
        add_dots<V, M, M>(rows, p.grad + p.N * b + n, p.basis + p.stride * k + n, p.stride, kBlock, sums + p.K * b + k,
                          nullptr);
  });
}

template <class V, class M>
void dots(const Dots<M>& p, int64_t begin, int64_t end, typename V::T* sums) {
  using T = typename V::T;
  for (int64_t i = 0; i < p.B * p.K; ++i) sums[i] = 0;
  if (p.B <= kFew && end - begin == kStripe) return dots_of_few<V>(p, begin, sums);
  alignas(64) T grads[kResults * kBlock], widened[Tile<V>::dots * kBlock];
  for (int64_t n = begin; n < end; n += kBlock) {
    const int64_t count = std::min(kBlock, end - n), columns = (count + kLanes - 1) / kLanes * kLanes;
    in_parts(p.B, kResults, [&](int64_t first, int64_t images) {
      for (int64_t b = 0; b < images; ++b)
        widen_row<V>(p.grad + p.N * (first + b) + n, count, columns, grads + kBlock * b);
      in_parts(p.K, Tile<V>::dots, [&](int64_t k, int64_t rows) {
        const M* const from = p.basis + p.stride * k + n;
        const T* block = widened;
        int64_t stride = kBlock;
        if constexpr (std::is_same_v<M, T>)
          if (count == kBlock) block = from, stride = p.stride;  // as they lie
        if (block == widened)
          for (int64_t i = 0; i < rows; ++i) widen_row<V>(from + p.stride * i, count, columns, widened + kBlock * i);
        // The next rows, or the first ones of the next columns.
        const bool on = k + 2 * rows <= p.K, wrap = k + rows == p.K && n + 2 * kBlock <= end;
        const M* next = on ? from + p.stride * rows : wrap ? p.basis + n + kBlock : nullptr;
        for (int64_t b = 0; b < images; ++b)
          add_dots<V>(rows, grads + kBlock * b, block, stride, columns, sums + p.K * (first + b) + k,
                      next != nullptr && b < rows ? next + p.stride * b : nullptr);
      });
    });
  }
}

}  // namespace

extern const BlendKernels blend_table;
const BlendKernels blend_table = {product<Float, float, float>,
                                  product<Float, Bf16, float>,
                                  product<Float, F16, float>,
                                  product<Double, double, double>,
                                  product<Float, float, Bf16>,
                                  product<Float, float, F16>,
                                  dots<Float, float>,
                                  dots<Float, Bf16>,
                                  dots<Float, F16>,
                                  dots<Double, double>};

}  // namespace FOCUS_ISA
}  // namespace focus
