// render_sh: vertices, albedo, light and camera -> shaded image, mask, raster and projected vertices, in one call.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

#include "rasterize/rasterize.h"

namespace focus {

// What the forward and the backward both read.
template <class T>
struct Scene {
  const T* vertices;       // [B, V, 3] model frame
  const T* albedo;         // [B, V, 3]
  const T* sh_coeffs;      // [B, 3, 9]
  const T* K;              // [B, 3, 3] the last row is not read
  const T* R;              // [B, 3, 3]
  const T* t;              // [B, 3]
  const int32_t* faces;    // [F, 3]
  const int32_t* offsets;  // [V + 1]
  const int32_t* corners;  // [3 F]
  int64_t B, V, F, H, W;
  bool orthographic;
  bool focus;   // FOCUS's mean normals and angle arithmetic, else unit normals
  int threads;  // CPU only
};

template <class T>
struct RenderShParams {
  Scene<T> scene;
  T* image;             // [B, 3, H, W]
  T* mask;              // [B, 1, H, W]
  int32_t* face_index;  // [B, H, W]
  T* barycentrics;      // [B, H, W, 3]
  T* depth;             // [B, H, W]
  T* positions;         // [B, V, 3]
  RasterRule rule;
  T* colors;       // CUDA only: [B, V, 4] scratch, shaded
  uint64_t* keys;  // CUDA only: [B, H, W] scratch
  int64_t* spill;  // CUDA only: [B * F + 1] scratch, the large triangles; spill[0] counts them
};

template <class T>
struct RenderShGradParams {
  Scene<T> scene;
  const T* grad_image;         // [B, 3, H, W] or null
  const T* grad_barycentrics;  // [B, H, W, 3] or null
  const T* grad_depth;         // [B, H, W] or null
  const T* grad_positions;     // [B, V, 3] or null
  const T* positions;          // [B, V, 3]
  const int32_t* face_index;   // [B, H, W]
  bool perspective;
  T* grad_vertices;   // [B, V, 3]
  T* grad_albedo;     // [B, V, 3]
  T* grad_sh_coeffs;  // [B, 3, 9]
  T* grad_K;          // [B, 3, 3]
  T* grad_R;          // [B, 3, 3]
  T* grad_t;          // [B, 3]
  T* colors;          // CUDA only: [B, V, 4] scratch, shaded
  T* grad_sums;       // CUDA only: [B, V, 4] scratch, gradient to the sums of face normals
  T* partial;         // CUDA only: [B, parts, kRenderSums] scratch, sums of kRenderPart vertices each
  uint32_t* first;    // CUDA only: [B, F] scratch, the lowest pixel of each face
  T* sums;            // CUDA only: [B, 18, H, W] scratch, sums over a face's pixels, kept at the lowest
};

// Per image: 27 of the light, 6 of K, 9 of R, 3 of t. Added over parts of kRenderPart vertices, then over the parts,
// both in order.
constexpr int kRenderSums = 45;
constexpr int64_t kRenderPart = 256;

template <class T>
void render_sh_cpu(const RenderShParams<T>&);
template <class T>
void render_sh_grad_cpu(const RenderShGradParams<T>&);
template <class T>
void render_sh_cuda(const RenderShParams<T>&, int device, cudaStream_t);
template <class T>
void render_sh_grad_cuda(const RenderShGradParams<T>&, int device, cudaStream_t);

}  // namespace focus
