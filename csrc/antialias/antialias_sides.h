// Which way the faces of an image look, in vectors; a copy per instruction set (antialias_simd.cpp), the same bits.
#pragma once
#include <cstdint>

namespace focus {

struct SideKernels {
  // points [V, 4]: x, y, depth, unused, NaN where a vertex cannot be drawn; side [F] as facing() has it.
  void (*sides32)(const float* points, const int32_t* faces, int64_t F, int8_t* side);
  void (*sides64)(const double* points, const int32_t* faces, int64_t F, int8_t* side);
};

const SideKernels& side_kernels();  // for the instruction set in use

inline void find_sides(const float* points, const int32_t* faces, int64_t F, int8_t* side) {
  side_kernels().sides32(points, faces, F, side);
}
inline void find_sides(const double* points, const int32_t* faces, int64_t F, int8_t* side) {
  side_kernels().sides64(points, faces, F, side);
}

}  // namespace focus
