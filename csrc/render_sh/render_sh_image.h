// The vertices of one image on the CPU: projected and coloured. A copy per instruction set (render_sh_simd.cpp).
#pragma once
#include <cstdint>

#include "render_sh/render_sh.h"

namespace focus {

template <class T>
struct VertexStage {
  const T* vertices;  // [V, 3]
  const T* albedo;    // [V, 3]
  const T* sh;        // [3, 9]
  const T* K;         // [3, 3]
  const T* R;         // [3, 3]
  const T* t;         // [3]
  const int32_t* faces;
  int64_t V, F;
  bool orthographic, focus;
  T* positions;  // [V, 3] or null
  T* points;     // [V, 4] positions, NaN where a vertex cannot be drawn
  T* table;      // [V, 4] the vertices; may be where the colours go
  T* sums;       // [V, 4] face normals added up, and their lengths
  T* colors;     // [V, 4] shaded
};

// The backward of one image. `vertices` has run before, with a table of its own.
template <class T>
struct GradStage {
  VertexStage<T> vertices;
  const T* grad_image;         // [3, H, W] or null
  const T* grad_barycentrics;  // [H, W, 3] or null
  const T* grad_depth;         // [H, W] or null
  const T* grad_positions;     // [V, 3] or null
  const T* positions;          // [V, 3]
  const int32_t* face_index;   // [H, W]
  int64_t H, W;
  bool perspective;
  T* corner;         // [V, 8] scratch: gradient to the colour (4) and to the position (4)
  T* grad_vertices;  // [V, 3]
  T* grad_albedo;    // [V, 3]
  T* totals;         // [kRenderSums]
};

template <class T>
VertexStage<T> vertex_stage(const Scene<T>& s, int64_t b) {
  VertexStage<T> stage{};
  stage.vertices = s.vertices + 3 * s.V * b;
  stage.albedo = s.albedo + 3 * s.V * b;
  stage.sh = s.sh_coeffs + 27 * b;
  stage.K = s.K + 9 * b;
  stage.R = s.R + 9 * b;
  stage.t = s.t + 3 * b;
  stage.faces = s.faces;
  stage.V = s.V;
  stage.F = s.F;
  stage.orthographic = s.orthographic;
  stage.focus = s.focus;
  return stage;
}

struct VertexKernels {
  void (*run32)(const VertexStage<float>&);
  void (*run64)(const VertexStage<double>&);
  void (*grad32)(const GradStage<float>&);
  void (*grad64)(const GradStage<double>&);
};

const VertexKernels& vertex_kernels();  // for the instruction set in use

inline void run(const VertexStage<float>& s) { vertex_kernels().run32(s); }
inline void run(const VertexStage<double>& s) { vertex_kernels().run64(s); }
inline void run(const GradStage<float>& s) { vertex_kernels().grad32(s); }
inline void run(const GradStage<double>& s) { vertex_kernels().grad64(s); }

}  // namespace focus
