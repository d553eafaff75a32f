// rasterize_clip: positions in clip space -> face index, barycentrics, depth and derivatives at each pixel centre.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace focus {

template <class T>
struct RasterizeClipParams {
  const T* positions;     // [B, V, 4] x, y, z, w
  const int32_t* faces;   // [F, 3]
  const int32_t* ranges;  // [B, 2] first face, number of faces; or null
  const double* behind;   // [B, H, W] in the unit of the depth buffer, z/w + kDepthOffset; or null
  int32_t* face_index;    // [B, H, W] -1 = background
  T* barycentrics;        // [B, H, W, 2]
  T* depth;               // [B, H, W]
  T* derivatives;         // [B, H, W, 4] or null
  double* nearest;        // [B, H, W]; while drawing, the depth buffer
  int64_t B, V, F, H, W;
  int threads;     // CPU only
  double* points;  // CUDA only: [B, V, 3] scratch, the corners on the screen
  int64_t* spill;  // CUDA only: [B * F + 2] scratch: from the start the large triangles, spill[0] counts them; from the
                   // end those to clip, the last counts them
};

template <class T>
struct RasterizeClipGradParams {
  const T* grad_barycentrics;  // [B, H, W, 2] or null
  const T* grad_derivatives;   // [B, H, W, 4] or null
  const T* positions;          // [B, V, 4]
  const int32_t* faces;        // [F, 3]
  const int32_t* offsets;      // [V + 1]
  const int32_t* corners;      // [3 F]
  const int32_t* face_index;   // [B, H, W]
  T* grad_positions;           // [B, V, 4]
  int64_t B, V, F, H, W;
  int threads;      // CPU only
  uint32_t* first;  // CUDA only: [B, F] scratch, the lowest pixel of each face
  double* sums;     // CUDA only: [B, 9, H, W] scratch, sums over a face's pixels, kept at the lowest
};

template <class T>
void rasterize_clip_cpu(const RasterizeClipParams<T>&);
template <class T>
void rasterize_clip_grad_cpu(const RasterizeClipGradParams<T>&);
template <class T>
void rasterize_clip_cuda(const RasterizeClipParams<T>&, int device, cudaStream_t);
template <class T>
void rasterize_clip_grad_cuda(const RasterizeClipGradParams<T>&, int device, cudaStream_t);

}  // namespace focus
