// Vectors of 1, 8 or 16 lanes with the same operations, chosen by the flags of the file that includes this header.
// FOCUS_ISA names the namespace: every instruction set has its own copy, so the linker cannot mix them. All operations
// round as the scalar ones do (no fused multiply-add), so every width gives the same bits.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/half.h"

#if defined(__SSE2__)
// GCC 12 takes the deliberately undefined operands of its own AVX-512 header for a mistake (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace focus {
namespace FOCUS_ISA {

// One lane: the baseline of every processor, and all of float64.
template <class S>
struct Lanes1 {
  using T = S;
  struct Mask {
    bool m;
    Mask operator&(Mask o) const { return {m && o.m}; }
    Mask operator|(Mask o) const { return {m || o.m}; }
    Mask andnot(Mask o) const { return {m && !o.m}; }  // this and not o
    unsigned bits() const { return m; }
  };
  static constexpr int width = 1;
  S v;

  static Lanes1 set(S s) { return {s}; }
  static Lanes1 iota() { return {S(0)}; }
  // In memory it may be half precision.
  template <class M>
  static Lanes1 load(const M* p) {
    return {widen(*p)};
  }
  template <class M>
  void store(M* p) const {
    narrow(v, *p);
  }
  Lanes1 operator+(Lanes1 o) const { return {v + o.v}; }
  Lanes1 operator-(Lanes1 o) const { return {v - o.v}; }
  Lanes1 operator*(Lanes1 o) const { return {v * o.v}; }
  Lanes1 operator/(Lanes1 o) const { return {v / o.v}; }
  Mask operator<(Lanes1 o) const { return {v < o.v}; }
  Mask operator<=(Lanes1 o) const { return {v <= o.v}; }
  Mask operator==(Lanes1 o) const { return {v == o.v}; }
  Lanes1 abs() const { return {std::fabs(v)}; }
  Lanes1 ceil() const { return {std::ceil(v)}; }
  Lanes1 floor() const { return {std::floor(v)}; }
  Lanes1 sqrt() const { return {std::sqrt(v)}; }
  static Lanes1 min(Lanes1 a, Lanes1 b) { return {b.v < a.v ? b.v : a.v}; }
  static Lanes1 max(Lanes1 a, Lanes1 b) { return {a.v < b.v ? b.v : a.v}; }
  // v with its sign flipped where s is negative.
  Lanes1 flip_by(Lanes1 s) const { return {std::signbit(s.v) ? -v : v}; }
  Lanes1 keep(Mask m) const { return {m.m ? v : S(0)}; }  // 0 in the other lanes
  static Lanes1 select(Mask m, Lanes1 a, Lanes1 b) { return m.m ? a : b; }
  static Mask first(int n) { return {n > 0}; }
  static Mask from_bits(unsigned bits) { return {(bits & 1) != 0}; }
  // The ids base + lane of the set lanes, packed; returns how many.
  static int compress(int32_t base, Mask m, int32_t* out) {
    *out = base;
    return m.m;
  }
  // Rows i[0], i[stride], ... of a [*, 4] table, its first three columns.
  static void rows(const S* table, const int32_t* i, int, Lanes1& x, Lanes1& y, Lanes1& z) {
    const S* row = table + int64_t{4} * i[0];
    x.v = row[0];
    y.v = row[1];
    z.v = row[2];
  }
  // The lanes of x, y, z, w as rows of four.
  static void to_rows(Lanes1 x, Lanes1 y, Lanes1 z, Lanes1 w, S* out) {
    out[0] = x.v;
    out[1] = y.v;
    out[2] = z.v;
    out[3] = w.v;
  }
};

#if defined(__AVX2__)
// For each mask of eight lanes, the set ones in order: packing without a branch.
struct SetLanes {
  uint8_t of[256][8];
};
constexpr SetLanes make_set_lanes() {
  SetLanes table{};
  for (int bits = 0; bits < 256; ++bits)
    for (int lane = 0, k = 0; lane < 8; ++lane)
      if (bits >> lane & 1) table.of[bits][k++] = static_cast<uint8_t>(lane);
  return table;
}
alignas(64) constexpr SetLanes set_lanes = make_set_lanes();

inline __m256 load8(const Bf16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline __m256 load8(const F16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline void store8(__m256 v, Bf16* p) {
  const __m256i bits = _mm256_castps_si256(v), even = _mm256_srli_epi32(bits, 16);
  const __m256i tie = _mm256_add_epi32(_mm256_and_si256(even, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7FFF));
  __m256i r = _mm256_srli_epi32(_mm256_add_epi32(bits, tie), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  r = _mm256_blendv_epi8(r, _mm256_set1_epi32(0x7FC0), nan);
  const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
}
inline void store8(__m256 v, F16* p) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

struct Lanes8 {
  using T = float;
  struct Mask {
    __m256 m;
    Mask operator&(Mask o) const { return {_mm256_and_ps(m, o.m)}; }
    Mask operator|(Mask o) const { return {_mm256_or_ps(m, o.m)}; }
    Mask andnot(Mask o) const { return {_mm256_andnot_ps(o.m, m)}; }
    unsigned bits() const { return static_cast<unsigned>(_mm256_movemask_ps(m)); }
  };
  static constexpr int width = 8;
  __m256 v;

  static Lanes8 set(float s) { return {_mm256_set1_ps(s)}; }
  static Lanes8 iota() { return {_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7)}; }
  static Lanes8 load(const float* p) { return {_mm256_loadu_ps(p)}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  template <class M>
  static Lanes8 load(const M* p) {
    return {load8(p)};
  }
  template <class M>
  void store(M* p) const {
    store8(v, p);
  }
  Lanes8 operator+(Lanes8 o) const { return {_mm256_add_ps(v, o.v)}; }
  Lanes8 operator-(Lanes8 o) const { return {_mm256_sub_ps(v, o.v)}; }
  Lanes8 operator*(Lanes8 o) const { return {_mm256_mul_ps(v, o.v)}; }
  Lanes8 operator/(Lanes8 o) const { return {_mm256_div_ps(v, o.v)}; }
  Mask operator<(Lanes8 o) const { return {_mm256_cmp_ps(v, o.v, _CMP_LT_OQ)}; }
  Mask operator<=(Lanes8 o) const { return {_mm256_cmp_ps(v, o.v, _CMP_LE_OQ)}; }
  Mask operator==(Lanes8 o) const { return {_mm256_cmp_ps(v, o.v, _CMP_EQ_OQ)}; }
  Lanes8 abs() const { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), v)}; }
  Lanes8 ceil() const { return {_mm256_ceil_ps(v)}; }
  Lanes8 floor() const { return {_mm256_floor_ps(v)}; }
  Lanes8 sqrt() const { return {_mm256_sqrt_ps(v)}; }
  static Lanes8 min(Lanes8 a, Lanes8 b) { return {_mm256_min_ps(b.v, a.v)}; }
  static Lanes8 max(Lanes8 a, Lanes8 b) { return {_mm256_max_ps(b.v, a.v)}; }
  Lanes8 flip_by(Lanes8 s) const { return {_mm256_xor_ps(v, _mm256_and_ps(s.v, _mm256_set1_ps(-0.0f)))}; }
  Lanes8 keep(Mask m) const { return {_mm256_and_ps(v, m.m)}; }
  static Lanes8 select(Mask m, Lanes8 a, Lanes8 b) { return {_mm256_blendv_ps(b.v, a.v, m.m)}; }
  static Mask first(int n) { return iota() < set(static_cast<float>(n)); }
  static Mask from_bits(unsigned bits) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i on = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane);
    return {_mm256_castsi256_ps(_mm256_cmpeq_epi32(on, lane))};
  }
  static int compress(int32_t base, Mask mask, int32_t* out) {
    const unsigned bits = mask.bits();
    const __m256i lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(set_lanes.of[bits])));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_add_epi32(_mm256_set1_epi32(base), lanes));
    return __builtin_popcount(bits);
  }
  static void rows(const float* table, const int32_t* i, int stride, Lanes8& x, Lanes8& y, Lanes8& z) {
    auto pair = [&](int k) {
      __m128 low = _mm_loadu_ps(table + int64_t{4} * i[k * stride]);
      __m128 high = _mm_loadu_ps(table + int64_t{4} * i[(k + 4) * stride]);
      return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
    };
    __m256 r0 = pair(0), r1 = pair(1), r2 = pair(2), r3 = pair(3);
    __m256 xy01 = _mm256_unpacklo_ps(r0, r1), xy23 = _mm256_unpacklo_ps(r2, r3);
    __m256 zw01 = _mm256_unpackhi_ps(r0, r1), zw23 = _mm256_unpackhi_ps(r2, r3);
    x.v = _mm256_shuffle_ps(xy01, xy23, 0x44);
    y.v = _mm256_shuffle_ps(xy01, xy23, 0xEE);
    z.v = _mm256_shuffle_ps(zw01, zw23, 0x44);
  }
  static void to_rows(Lanes8 x, Lanes8 y, Lanes8 z, Lanes8 w, float* out) {
    __m256 xy0 = _mm256_unpacklo_ps(x.v, y.v), xy1 = _mm256_unpackhi_ps(x.v, y.v);
    __m256 zw0 = _mm256_unpacklo_ps(z.v, w.v), zw1 = _mm256_unpackhi_ps(z.v, w.v);
    const __m256 row[4] = {_mm256_shuffle_ps(xy0, zw0, 0x44), _mm256_shuffle_ps(xy0, zw0, 0xEE),
                           _mm256_shuffle_ps(xy1, zw1, 0x44), _mm256_shuffle_ps(xy1, zw1, 0xEE)};
    for (int k = 0; k < 4; ++k) {
      _mm_storeu_ps(out + 4 * k, _mm256_castps256_ps128(row[k]));
      _mm_storeu_ps(out + 4 * (k + 4), _mm256_extractf128_ps(row[k], 1));
    }
  }
};
#endif

#if defined(__AVX512F__)
struct Lanes16 {
  using T = float;
  struct Mask {
    __mmask16 m;
    Mask operator&(Mask o) const { return {static_cast<__mmask16>(m & o.m)}; }
    Mask operator|(Mask o) const { return {static_cast<__mmask16>(m | o.m)}; }
    Mask andnot(Mask o) const { return {static_cast<__mmask16>(m & ~o.m)}; }
    unsigned bits() const { return m; }
  };
  static constexpr int width = 16;
  __m512 v;

  static Lanes16 set(float s) { return {_mm512_set1_ps(s)}; }
  static Lanes16 iota() { return {_mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)}; }
  static Lanes16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  template <class M>
  static Lanes16 load(const M* p) {
    return {_mm512_insertf32x8(_mm512_castps256_ps512(load8(p)), load8(p + 8), 1)};
  }
  template <class M>
  void store(M* p) const {
    store8(_mm512_castps512_ps256(v), p);
    store8(_mm512_extractf32x8_ps(v, 1), p + 8);
  }
  Lanes16 operator+(Lanes16 o) const { return {_mm512_add_ps(v, o.v)}; }
  Lanes16 operator-(Lanes16 o) const { return {_mm512_sub_ps(v, o.v)}; }
  Lanes16 operator*(Lanes16 o) const { return {_mm512_mul_ps(v, o.v)}; }
  Lanes16 operator/(Lanes16 o) const { return {_mm512_div_ps(v, o.v)}; }
  Mask operator<(Lanes16 o) const { return {_mm512_cmp_ps_mask(v, o.v, _CMP_LT_OQ)}; }
  Mask operator<=(Lanes16 o) const { return {_mm512_cmp_ps_mask(v, o.v, _CMP_LE_OQ)}; }
  Mask operator==(Lanes16 o) const { return {_mm512_cmp_ps_mask(v, o.v, _CMP_EQ_OQ)}; }
  Lanes16 abs() const { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), v)}; }
  Lanes16 ceil() const { return {_mm512_ceil_ps(v)}; }
  Lanes16 floor() const { return {_mm512_floor_ps(v)}; }
  Lanes16 sqrt() const { return {_mm512_sqrt_ps(v)}; }
  static Lanes16 min(Lanes16 a, Lanes16 b) { return {_mm512_min_ps(b.v, a.v)}; }
  static Lanes16 max(Lanes16 a, Lanes16 b) { return {_mm512_max_ps(b.v, a.v)}; }
  Lanes16 flip_by(Lanes16 s) const { return {_mm512_xor_ps(v, _mm512_and_ps(s.v, _mm512_set1_ps(-0.0f)))}; }
  Lanes16 keep(Mask m) const { return {_mm512_maskz_mov_ps(m.m, v)}; }
  static Lanes16 select(Mask m, Lanes16 a, Lanes16 b) { return {_mm512_mask_mov_ps(b.v, m.m, a.v)}; }
  static Mask first(int n) { return {static_cast<__mmask16>(n >= 16 ? 0xFFFFu : (1u << n) - 1u)}; }
  static Mask from_bits(unsigned bits) { return {static_cast<__mmask16>(bits)}; }
  static int compress(int32_t base, Mask mask, int32_t* out) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i ids = _mm512_add_epi32(_mm512_set1_epi32(base), lane);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(mask.m, ids));
    return __builtin_popcount(mask.m);
  }
  static void rows(const float* table, const int32_t* i, int stride, Lanes16& x, Lanes16& y, Lanes16& z) {
    auto four = [&](int k) {
      __m512 r = _mm512_castps128_ps512(_mm_loadu_ps(table + int64_t{4} * i[k * stride]));
      r = _mm512_insertf32x4(r, _mm_loadu_ps(table + int64_t{4} * i[(k + 4) * stride]), 1);
      r = _mm512_insertf32x4(r, _mm_loadu_ps(table + int64_t{4} * i[(k + 8) * stride]), 2);
      return _mm512_insertf32x4(r, _mm_loadu_ps(table + int64_t{4} * i[(k + 12) * stride]), 3);
    };
    __m512 r0 = four(0), r1 = four(1), r2 = four(2), r3 = four(3);
    __m512 xy01 = _mm512_unpacklo_ps(r0, r1), xy23 = _mm512_unpacklo_ps(r2, r3);
    __m512 zw01 = _mm512_unpackhi_ps(r0, r1), zw23 = _mm512_unpackhi_ps(r2, r3);
    x.v = _mm512_shuffle_ps(xy01, xy23, 0x44);
    y.v = _mm512_shuffle_ps(xy01, xy23, 0xEE);
    z.v = _mm512_shuffle_ps(zw01, zw23, 0x44);
  }
  static void to_rows(Lanes16 x, Lanes16 y, Lanes16 z, Lanes16 w, float* out) {
    __m512 xy0 = _mm512_unpacklo_ps(x.v, y.v), xy1 = _mm512_unpackhi_ps(x.v, y.v);
    __m512 zw0 = _mm512_unpacklo_ps(z.v, w.v), zw1 = _mm512_unpackhi_ps(z.v, w.v);
    const __m512 row[4] = {_mm512_shuffle_ps(xy0, zw0, 0x44), _mm512_shuffle_ps(xy0, zw0, 0xEE),
                           _mm512_shuffle_ps(xy1, zw1, 0x44), _mm512_shuffle_ps(xy1, zw1, 0xEE)};
    for (int k = 0; k < 4; ++k) {
      _mm_storeu_ps(out + 4 * k, _mm512_extractf32x4_ps(row[k], 0));
      _mm_storeu_ps(out + 4 * (k + 4), _mm512_extractf32x4_ps(row[k], 1));
      _mm_storeu_ps(out + 4 * (k + 8), _mm512_extractf32x4_ps(row[k], 2));
      _mm_storeu_ps(out + 4 * (k + 12), _mm512_extractf32x4_ps(row[k], 3));
    }
  }
};
using Float = Lanes16;
#elif defined(__AVX2__)
using Float = Lanes8;
#else
using Float = Lanes1<float>;
#endif
using Double = Lanes1<double>;

// Adds a row of four to another.
inline void add_row(float* sum, const float* own) {
#if defined(__SSE2__)
  _mm_storeu_ps(sum, _mm_add_ps(_mm_loadu_ps(sum), _mm_loadu_ps(own)));
#else
  for (int k = 0; k < 4; ++k) sum[k] += own[k];
#endif
}
inline void add_row(double* sum, const double* own) {
  for (int k = 0; k < 4; ++k) sum[k] += own[k];
}

// Packed rows of three, V::width of them, to and from vectors.
template <class V>
inline void load3(const typename V::T* p, V& x, V& y, V& z) {
  typename V::T c[3][V::width];
  for (int lane = 0; lane < V::width; ++lane)
    for (int k = 0; k < 3; ++k) c[k][lane] = p[3 * lane + k];
  x = V::load(c[0]);
  y = V::load(c[1]);
  z = V::load(c[2]);
}
template <class V>
inline void store3(V x, V y, V z, typename V::T* p) {
  typename V::T c[3][V::width];
  x.store(c[0]);
  y.store(c[1]);
  z.store(c[2]);
  for (int lane = 0; lane < V::width; ++lane)
    for (int k = 0; k < 3; ++k) p[3 * lane + k] = c[k][lane];
}
#if defined(__AVX2__)
// 24 numbers in three vectors: each output lane of 128 bits has a fixed pattern, so six shuffles do it.
template <>
inline void load3<Lanes8>(const float* p, Lanes8& x, Lanes8& y, Lanes8& z) {
  auto halves = [&](int k) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 4 * k)), _mm_loadu_ps(p + 12 + 4 * k), 1);
  };
  __m256 a = halves(0), b = halves(1), c = halves(2);  // x0 y0 z0 x1 | y1 z1 x2 y2 | z2 x3 y3 z3, and lanes 4 to 7
  __m256 x23y23 = _mm256_shuffle_ps(b, c, _MM_SHUFFLE(2, 1, 3, 2));  // x2 y2 x3 y3
  __m256 y01z01 = _mm256_shuffle_ps(a, b, _MM_SHUFFLE(1, 0, 2, 1));  // y0 z0 y1 z1
  x.v = _mm256_shuffle_ps(a, x23y23, _MM_SHUFFLE(2, 0, 3, 0));
  y.v = _mm256_shuffle_ps(y01z01, x23y23, _MM_SHUFFLE(3, 1, 2, 0));
  z.v = _mm256_shuffle_ps(y01z01, c, _MM_SHUFFLE(3, 0, 3, 1));
}
template <>
inline void store3<Lanes8>(Lanes8 x, Lanes8 y, Lanes8 z, float* p) {
  __m256 xy = _mm256_shuffle_ps(x.v, y.v, _MM_SHUFFLE(2, 0, 2, 0));  // x0 x2 y0 y2
  __m256 yz = _mm256_shuffle_ps(y.v, z.v, _MM_SHUFFLE(3, 1, 3, 1));  // y1 y3 z1 z3
  __m256 zx = _mm256_shuffle_ps(z.v, x.v, _MM_SHUFFLE(3, 1, 2, 0));  // z0 z2 x1 x3
  __m256 a = _mm256_shuffle_ps(xy, zx, _MM_SHUFFLE(2, 0, 2, 0));     // x0 y0 z0 x1
  __m256 b = _mm256_shuffle_ps(yz, xy, _MM_SHUFFLE(3, 1, 2, 0));     // y1 z1 x2 y2
  __m256 c = _mm256_shuffle_ps(zx, yz, _MM_SHUFFLE(3, 1, 3, 1));     // z2 x3 y3 z3
  const __m256 part[3] = {a, b, c};
  for (int k = 0; k < 3; ++k) {
    _mm_storeu_ps(p + 4 * k, _mm256_castps256_ps128(part[k]));
    _mm_storeu_ps(p + 12 + 4 * k, _mm256_extractf128_ps(part[k], 1));
  }
}
#endif

}  // namespace FOCUS_ISA
}  // namespace focus
