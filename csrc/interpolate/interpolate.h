// interpolate: vertex attributes at pixels, weighted by barycentrics; 0 at the background.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace focus {

template <class T>
struct InterpolateParams {
  const T* attributes;        // [B, V, C]
  const int32_t* faces;       // [F, 3]
  const int32_t* face_index;  // [B, H, W]
  const T* barycentrics;      // [B, H, W, 3]
  T* out;                     // [B, C, H, W]
  int64_t B, V, C, F, H, W;
  int threads;  // CPU only
};

template <class T>
struct InterpolateGradParams {
  const T* grad;              // [B, C, H, W] gradient of out
  const T* attributes;        // [B, V, C]
  const int32_t* faces;       // [F, 3]
  const int32_t* offsets;     // [V + 1]
  const int32_t* corners;     // [3 F]
  const int32_t* face_index;  // [B, H, W]
  const T* barycentrics;      // [B, H, W, 3]
  T* grad_attributes;         // [B, V, C]
  T* grad_barycentrics;       // [B, H, W, 3]
  int32_t* boxes;             // CUDA only: [B, F, 4] scratch, the pixels of each visible face
  int64_t B, V, C, F, H, W;
  int threads;  // CPU only
};

template <class T>
void interpolate_cpu(const InterpolateParams<T>&);
template <class T>
void interpolate_grad_cpu(const InterpolateGradParams<T>&);
template <class T>
void interpolate_cuda(const InterpolateParams<T>&, int device, cudaStream_t);
template <class T>
void interpolate_grad_cuda(const InterpolateGradParams<T>&, int device, cudaStream_t);

}  // namespace focus
