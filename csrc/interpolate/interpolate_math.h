// One attribute at one pixel, shared by the CPU and the CUDA kernels.
#pragma once
#include <cstdint>

#include "core/hd.h"

namespace focus {

// Whether a pixel has a face; ids of another mesh count as background.
FOCUS_HD bool in_mesh(int32_t id, int64_t F) { return id >= 0 && id < F; }

// The order in which render_sh adds as well, so that both give the same bits.
template <class T>
FOCUS_HD T mix(const T b[3], T a0, T a1, T a2) {
  return (b[0] * a0 + b[1] * a1) + b[2] * a2;
}

}  // namespace focus
