// Bugs that the sanitizers of scripts/check.py must catch (tests/test_sanitizers.py). Each function has its bug with
// wrong = 1 and is sound, and returns 0, with wrong = 0; the line to be named in the report ends in its name.
#include <cstdint>
#include <memory>

#include "core/parallel.h"
#include "core/scratch.h"

#define PLANTED extern "C" __attribute__((visibility("default"))) int

namespace {

constexpr int64_t kCount = 100;

// What the compiler cannot know, so that it neither warns nor removes.
volatile int kOpaque = 0;

// Memory whose size the compiler does not see, so that it is the address sanitizer that has to.
int* allocate() {
  int* volatile pixels = new int[kCount]();
  return pixels;
}

struct Arrays {
  float* first;
  float* second;
};

Arrays carve_two() {
  Arrays a{};
  auto carve = [&](char* block) {
    focus::Carve c(block);
    a.first = c.take<float>(kCount);
    a.second = c.take<float>(kCount);
    return c.used();
  };
  carve(focus::Scratch::get(carve(nullptr)));
  return a;
}

}  // namespace

PLANTED heap_write(int wrong) {
  std::unique_ptr<int[]> pixels(allocate());
  pixels.get()[kCount - 1 + wrong] = 7;  // heap_write
  return pixels[kOpaque];
}

PLANTED heap_read(int wrong) {
  std::unique_ptr<int[]> pixels(allocate());
  return pixels.get()[kCount - 1 + wrong];  // heap_read
}

PLANTED scratch_write(int wrong) {
  Arrays a = carve_two();
  a.second[0] = 0;
  a.first[kCount - 1 + wrong] = 7;  // scratch_write
  return static_cast<int>(a.second[0]);
}

PLANTED scratch_read(int wrong) {
  float* sums = reinterpret_cast<float*>(focus::Scratch::get(sizeof(float) * kCount));
  for (int64_t i = 0; i < kCount; ++i) sums[i] = 0;
  return static_cast<int>(sums[kCount - 1 + wrong]);  // scratch_read
}

// No tool of gcc sees it: scratch memory is filled with values that no result survives.
PLANTED scratch_uninitialised(int wrong) {
  float* sums = carve_two().second;
  if (wrong == 0) sums[0] = 0;
  return sums[0] > 1e38f;
}

PLANTED signed_overflow(int wrong) {
  int faces = INT32_MAX - 1 + kOpaque;
  return faces + 1 + wrong > 0 ? 0 : 1;  // signed_overflow
}

PLANTED cast_overflow(int wrong) {
  float row = wrong != 0 ? 3e9f : 0.0f;
  return static_cast<int>(row + static_cast<float>(kOpaque));  // cast_overflow
}

PLANTED pixel_race(int wrong) {
  std::unique_ptr<int[]> pixels(new int[kCount + 1]());
  focus::parallel_for(kCount, 4, [&](int64_t i) {
    for (int64_t k = i; k <= i + wrong; ++k) pixels.get()[k] += 1;  // pixel_race
  });
  return pixels[0] - 1;
}

PLANTED flag_race(int wrong) {
  int done = 0;
  focus::parallel_for(4, 4, [&](int64_t i) {
    if (wrong != 0 || i == 0) done = 1;  // flag_race
  });
  return done - 1;
}
