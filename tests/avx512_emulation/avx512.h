// The AVX-512 instructions that csrc uses, in plain C++, after their definitions in Intel's Intrinsics Guide: so the
// AVX-512 kernels run, and are watched by sanitizers, on machines that have AVX2. Included before everything else
// (-include) in builds with FOCUS_AVX512_EMULATION; what is missing here does not compile.
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

namespace avx512_emulation {

constexpr int kLanes = 16;

struct alignas(64) Floats {
  float v[kLanes];
};
struct alignas(64) Ints {
  int32_t v[kLanes];
};
using Mask = uint16_t;

template <class F>
Floats each(F f) {
  Floats r;
  for (int i = 0; i < kLanes; ++i) r.v[i] = f(i);
  return r;
}
inline uint32_t bits(float x) {
  uint32_t r;
  std::memcpy(&r, &x, sizeof r);
  return r;
}
inline float number(uint32_t x) {
  float r;
  std::memcpy(&r, &x, sizeof r);
  return r;
}

inline Floats set1_ps(float x) {
  return each([=](int) { return x; });
}
template <class... X>
Floats setr_ps(X... x) {
  static_assert(sizeof...(X) == kLanes, "");
  return Floats{{static_cast<float>(x)...}};
}
inline Floats loadu_ps(const void* p) {
  Floats r;
  std::memcpy(r.v, p, sizeof r.v);
  return r;
}
inline void storeu_ps(void* p, Floats a) { std::memcpy(p, a.v, sizeof a.v); }

inline Floats add_ps(Floats a, Floats b) {
  return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline Floats sub_ps(Floats a, Floats b) {
  return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline Floats mul_ps(Floats a, Floats b) {
  return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline Floats div_ps(Floats a, Floats b) {
  return each([&](int i) { return a.v[i] / b.v[i]; });
}
inline Floats sqrt_ps(Floats a) {
  return each([&](int i) { return std::sqrt(a.v[i]); });
}
inline Floats ceil_ps(Floats a) {
  return each([&](int i) { return std::ceil(a.v[i]); });
}
inline Floats floor_ps(Floats a) {
  return each([&](int i) { return std::floor(a.v[i]); });
}
// The second operand where either is NaN, and of two zeros.
inline Floats min_ps(Floats a, Floats b) {
  return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats max_ps(Floats a, Floats b) {
  return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats and_ps(Floats a, Floats b) {
  return each([&](int i) { return number(bits(a.v[i]) & bits(b.v[i])); });
}
inline Floats andnot_ps(Floats a, Floats b) {
  return each([&](int i) { return number(~bits(a.v[i]) & bits(b.v[i])); });
}
inline Floats xor_ps(Floats a, Floats b) {
  return each([&](int i) { return number(bits(a.v[i]) ^ bits(b.v[i])); });
}

template <int comparison>
Mask cmp_ps_mask(Floats a, Floats b) {
  static_assert(comparison == _CMP_LT_OQ || comparison == _CMP_LE_OQ || comparison == _CMP_EQ_OQ, "");
  Mask r = 0;
  for (int i = 0; i < kLanes; ++i) {
    const bool less = comparison != _CMP_EQ_OQ && a.v[i] < b.v[i], equal = comparison != _CMP_LT_OQ && a.v[i] == b.v[i];
    r = static_cast<Mask>(r | (less || equal) << i);
  }
  return r;
}
inline Floats mask_mov_ps(Floats src, Mask m, Floats a) {
  return each([&](int i) { return m >> i & 1 ? a.v[i] : src.v[i]; });
}
inline Floats maskz_mov_ps(Mask m, Floats a) { return mask_mov_ps(set1_ps(0), m, a); }

// Within each four lanes.
inline Floats unpacklo_ps(Floats a, Floats b) {
  return each([&](int i) { return (i % 2 ? b : a).v[i / 4 * 4 + i % 4 / 2]; });
}
inline Floats unpackhi_ps(Floats a, Floats b) {
  return each([&](int i) { return (i % 2 ? b : a).v[i / 4 * 4 + 2 + i % 4 / 2]; });
}
inline Floats shuffle_ps(Floats a, Floats b, unsigned control) {
  return each([&](int i) { return (i % 4 < 2 ? a : b).v[i / 4 * 4 + (control >> 2 * (i % 4) & 3)]; });
}
inline Floats castps128_ps512(__m128 a) {
  Floats r = set1_ps(std::nanf(""));  // the upper lanes are undefined
  _mm_storeu_ps(r.v, a);
  return r;
}
inline Floats insertf32x4(Floats a, __m128 b, int place) {
  _mm_storeu_ps(a.v + 4 * place, b);
  return a;
}
inline Floats castps256_ps512(__m256 a) {
  Floats r = set1_ps(std::nanf(""));  // as above
  _mm256_storeu_ps(r.v, a);
  return r;
}
inline __m256 castps512_ps256(Floats a) { return _mm256_loadu_ps(a.v); }
inline Floats insertf32x8(Floats a, __m256 b, int place) {
  _mm256_storeu_ps(a.v + 8 * place, b);
  return a;
}
inline __m256 extractf32x8_ps(Floats a, int place) { return _mm256_loadu_ps(a.v + 8 * place); }
inline __m128 extractf32x4_ps(Floats a, int place) { return _mm_loadu_ps(a.v + 4 * place); }

inline Ints set1_epi32(int32_t x) {
  Ints r;
  for (int32_t& lane : r.v) lane = x;
  return r;
}
template <class... X>
Ints setr_epi32(X... x) {
  static_assert(sizeof...(X) == kLanes, "");
  return Ints{{x...}};
}
inline Ints add_epi32(Ints a, Ints b) {
  for (int i = 0; i < kLanes; ++i)
    a.v[i] = static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) + static_cast<uint32_t>(b.v[i]));
  return a;
}
inline Ints maskz_compress_epi32(Mask m, Ints a) {
  Ints r = set1_epi32(0);
  int n = 0;
  for (int i = 0; i < kLanes; ++i)
    if (m >> i & 1) r.v[n++] = a.v[i];
  return r;
}
inline void storeu_si512(void* p, Ints a) { std::memcpy(p, a.v, sizeof a.v); }

}  // namespace avx512_emulation

#define __AVX512F__ 1
#define __m512 ::avx512_emulation::Floats
#define __m512i ::avx512_emulation::Ints
#define __mmask16 ::avx512_emulation::Mask
#undef _mm512_cmp_ps_mask
#undef _mm512_shuffle_ps
#undef _mm512_insertf32x4
#undef _mm512_extractf32x4_ps
#undef _mm512_insertf32x8
#undef _mm512_extractf32x8_ps
#undef _mm512_setr_epi32
#undef _mm512_setr_ps
#define _mm512_cmp_ps_mask(a, b, comparison) ::avx512_emulation::cmp_ps_mask<comparison>(a, b)
#define _mm512_add_epi32 ::avx512_emulation::add_epi32
#define _mm512_add_ps ::avx512_emulation::add_ps
#define _mm512_and_ps ::avx512_emulation::and_ps
#define _mm512_andnot_ps ::avx512_emulation::andnot_ps
#define _mm512_castps128_ps512 ::avx512_emulation::castps128_ps512
#define _mm512_castps256_ps512 ::avx512_emulation::castps256_ps512
#define _mm512_castps512_ps256 ::avx512_emulation::castps512_ps256
#define _mm512_ceil_ps ::avx512_emulation::ceil_ps
#define _mm512_div_ps ::avx512_emulation::div_ps
#define _mm512_extractf32x4_ps ::avx512_emulation::extractf32x4_ps
#define _mm512_extractf32x8_ps ::avx512_emulation::extractf32x8_ps
#define _mm512_floor_ps ::avx512_emulation::floor_ps
#define _mm512_insertf32x4 ::avx512_emulation::insertf32x4
#define _mm512_insertf32x8 ::avx512_emulation::insertf32x8
#define _mm512_loadu_ps ::avx512_emulation::loadu_ps
#define _mm512_mask_mov_ps ::avx512_emulation::mask_mov_ps
#define _mm512_maskz_compress_epi32 ::avx512_emulation::maskz_compress_epi32
#define _mm512_maskz_mov_ps ::avx512_emulation::maskz_mov_ps
#define _mm512_max_ps ::avx512_emulation::max_ps
#define _mm512_min_ps ::avx512_emulation::min_ps
#define _mm512_mul_ps ::avx512_emulation::mul_ps
#define _mm512_set1_epi32 ::avx512_emulation::set1_epi32
#define _mm512_set1_ps ::avx512_emulation::set1_ps
#define _mm512_setr_epi32 ::avx512_emulation::setr_epi32
#define _mm512_setr_ps ::avx512_emulation::setr_ps
#define _mm512_shuffle_ps ::avx512_emulation::shuffle_ps
#define _mm512_sqrt_ps ::avx512_emulation::sqrt_ps
#define _mm512_storeu_ps ::avx512_emulation::storeu_ps
#define _mm512_storeu_si512 ::avx512_emulation::storeu_si512
#define _mm512_sub_ps ::avx512_emulation::sub_ps
#define _mm512_unpackhi_ps ::avx512_emulation::unpackhi_ps
#define _mm512_unpacklo_ps ::avx512_emulation::unpacklo_ps
#define _mm512_xor_ps ::avx512_emulation::xor_ps
