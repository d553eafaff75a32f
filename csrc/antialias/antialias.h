// antialias: colours blended across the silhouettes that pass between two neighbouring pixel centres.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace focus {

// A pair is a pixel and its right (axis 0) or lower (axis 1) neighbour. What lies between them: 0 nothing, n + 1 the
// edge opposite corner n (3 face + k) of a surface on the first pixel's side, -(n + 1) on the second's.
struct AntialiasMesh {
  const int32_t* faces;  // [F, 3]
  int64_t B, V, F, H, W;
};

template <class T>
struct AntialiasParams {
  AntialiasMesh mesh;
  const T* image;             // [B, C, H, W]
  const T* positions;         // [B, V, 3] x px, y px, depth
  const int32_t* opposite;    // [3 F]
  const int32_t* face_index;  // [B, H, W]
  const T* depth;             // [B, H, W]
  T* out;                     // [B, C, H, W]
  int32_t* edges;             // [B, 2, H, W]
  int64_t C;
  int threads;  // CPU only
};

template <class T>
struct AntialiasGradParams {
  AntialiasMesh mesh;
  const T* grad;           // [B, C, H, W] gradient of out
  const T* image;          // [B, C, H, W]
  const T* positions;      // [B, V, 3]
  const int32_t* offsets;  // [V + 1]
  const int32_t* corners;  // [3 F]
  const int32_t* edges;    // [B, 2, H, W]
  T* grad_image;           // [B, C, H, W] or null
  T* grad_positions;       // [B, V, 3] or null
  uint32_t* seen;          // CUDA only: [B, F] scratch, bit k: the edge opposite corner k is one of `edges`
  int64_t C;
  int threads;  // CPU only
};

template <class T>
void antialias_cpu(const AntialiasParams<T>&);
template <class T>
void antialias_grad_cpu(const AntialiasGradParams<T>&);
template <class T>
void antialias_cuda(const AntialiasParams<T>&, int device, cudaStream_t);
template <class T>
void antialias_grad_cuda(const AntialiasGradParams<T>&, int device, cudaStream_t);

}  // namespace focus
