// rasterize_ndc: positions in PyTorch3D's NDC -> its face index, depth, barycentrics and distance at each pixel centre.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace focus {

struct NdcRule {
  double scale;      // pixels per unit of NDC
  double bias;       // px^2: PyTorch3D's 1e-8, which it adds to doubled areas
  bool perspective;  // barycentrics and depth interpolated in 3-D, else on the screen
  bool clip;         // barycentrics divided by their sum
};

template <class T>
struct RasterizeNdcParams {
  const T* positions;    // [B, V, 3] x left, y up, z forward
  const int32_t* faces;  // [F, 3]
  int32_t* face_index;   // [B, H, W] -1 = background, as below
  T* depth;              // [B, H, W]
  T* barycentrics;       // [B, H, W, 3]
  T* distances;          // [B, H, W] minus the squared distance to the nearest edge, NDC
  int64_t B, V, F, H, W;
  NdcRule rule;
  int cull;        // Cull
  int threads;     // CPU only
  T* pixels;       // CUDA only: [B, V, 3] scratch, the positions in pixels
  uint64_t* keys;  // CUDA only: [B, H, W] scratch
  int64_t* spill;  // CUDA only: [B * F + 1] scratch, the large triangles; spill[0] counts them
};

template <class T>
struct RasterizeNdcGradParams {
  const T* grad_depth;         // [B, H, W] or null
  const T* grad_barycentrics;  // [B, H, W, 3] or null
  const T* grad_distances;     // [B, H, W] or null
  const T* positions;          // [B, V, 3]
  const int32_t* faces;        // [F, 3]
  const int32_t* offsets;      // [V + 1]
  const int32_t* corners;      // [3 F]
  const int32_t* face_index;   // [B, H, W]
  T* grad_positions;           // [B, V, 3]
  int64_t B, V, F, H, W;
  NdcRule rule;
  int threads;      // CPU only
  uint32_t* first;  // CUDA only: [B, F] scratch, the lowest pixel of each face
  T* sums;          // CUDA only: [B, 9, H, W] scratch, sums over a face's pixels, kept at the lowest
};

template <class T>
void rasterize_ndc_cpu(const RasterizeNdcParams<T>&);
template <class T>
void rasterize_ndc_grad_cpu(const RasterizeNdcGradParams<T>&);
template <class T>
void rasterize_ndc_cuda(const RasterizeNdcParams<T>&, int device, cudaStream_t);
template <class T>
void rasterize_ndc_grad_cuda(const RasterizeNdcGradParams<T>&, int device, cudaStream_t);

}  // namespace focus
