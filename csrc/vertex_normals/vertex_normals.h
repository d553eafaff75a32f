// vertex_normals: area-weighted mean of the face normals around each vertex.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace focus {

template <class T>
struct VertexNormalsParams {
  const T* vertices;       // [B, V, 3]
  const int32_t* faces;    // [F, 3]
  const int32_t* offsets;  // [V + 1]
  const int32_t* corners;  // [3 F]
  T* normals;              // [B, V, 3]
  int64_t B, V, F;
  bool normalize;  // unit length, else FOCUS's mean: sum of crosses over sum of their lengths
  int threads;     // CPU only
};

template <class T>
struct VertexNormalsGradParams {
  const T* grad;           // [B, V, 3] gradient of normals
  const T* vertices;       // [B, V, 3]
  const int32_t* faces;    // [F, 3]
  const int32_t* offsets;  // [V + 1]
  const int32_t* corners;  // [3 F]
  T* grad_vertices;        // [B, V, 3]
  T* grad_sums;            // CUDA only: [B, V, 4] scratch, gradient to the sums before division
  int64_t B, V, F;
  bool normalize;
  int threads;  // CPU only
};

template <class T>
void vertex_normals_cpu(const VertexNormalsParams<T>&);
template <class T>
void vertex_normals_grad_cpu(const VertexNormalsGradParams<T>&);
template <class T>
void vertex_normals_cuda(const VertexNormalsParams<T>&, int device, cudaStream_t);
template <class T>
void vertex_normals_grad_cuda(const VertexNormalsGradParams<T>&, int device, cudaStream_t);

}  // namespace focus
