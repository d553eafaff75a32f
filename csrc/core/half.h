// Half precision as it lies in memory, and its exact way to float and back (to nearest, ties to even).
#pragma once
#include <cstdint>
#include <cstring>

namespace focus {

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

static inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
static inline float from_bits(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

static inline float widen(float x) { return x; }
static inline double widen(double x) { return x; }
static inline float widen(Bf16 x) { return from_bits(static_cast<uint32_t>(x.bits) << 16); }
static inline float widen(F16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16, rest = x.bits & 0x7FFF;
  if (rest >= 0x7C00) return from_bits(sign | 0x7F800000 | (rest & 0x3FF) << 13 | (rest > 0x7C00 ? 0x400000 : 0));
  if (rest < 0x400) return from_bits(sign | bits_of(static_cast<float>(rest) * 0x1p-24f));  // subnormal
  return from_bits(sign | ((rest << 13) + 0x38000000));
}

static inline void narrow(float x, float& out) { out = x; }
static inline void narrow(double x, double& out) { out = x; }
static inline void narrow(float x, Bf16& out) {
  const uint32_t bits = bits_of(x);
  out.bits = x != x ? 0x7FC0 : static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
static inline void narrow(float x, F16& out) {
  const uint32_t sign = bits_of(x) >> 16 & 0x8000, size = bits_of(x) & 0x7FFFFFFF;
  uint32_t rest;
  if (size > 0x7F800000)
    rest = 0x7E00;  // NaN
  else if (size >= 0x47800000)
    rest = 0x7C00;  // 65536 and more
  else if (size < 0x38800000)
    rest = bits_of(from_bits(size) + 0.5f) - bits_of(0.5f);  // the sum rounds where a subnormal does
  else
    rest = (size + 0xFFF + (size >> 13 & 1) - 0x38000000) >> 13;
  out.bits = static_cast<uint16_t>(sign | rest);
}

// The type of sums over numbers that lie in memory as S.
template <class S>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};
template <class S>
using Sum = typename SumOf<S>::type;

}  // namespace focus
