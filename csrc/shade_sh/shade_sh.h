// shade_sh: albedo times spherical-harmonics illumination, bands 0 to 2, per vertex.
// Bridge between bind.cpp and the kernels: plain data, no Python, no torch, no CUDA headers.
#pragma once
#include <cstdint>

struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace focus {

template <class T>
struct ShadeShParams {
  const T* normals;    // [B, V, 3]
  const T* albedo;     // [B, V, 3]
  const T* sh_coeffs;  // [B, 3, 9]
  T* shaded;           // [B, V, 3]
  int64_t B, V;
  bool focus;   // FOCUS's angle arithmetic, else the polynomial in the normal as given
  int threads;  // CPU only
};

template <class T>
struct ShadeShGradParams {
  const T* grad;       // [B, V, 3] gradient of shaded
  const T* normals;    // [B, V, 3]
  const T* albedo;     // [B, V, 3]
  const T* sh_coeffs;  // [B, 3, 9]
  T* grad_normals;     // [B, V, 3]
  T* grad_albedo;      // [B, V, 3]
  T* grad_sh_coeffs;   // [B, 3, 9]
  T* partial;          // CUDA only: [B, sh_parts(V), 27] scratch, sums of kShPart vertices each
  int64_t B, V;
  bool focus;
  int threads;  // CPU only
};

// The coefficients' gradient is summed over parts of this many vertices, then over the parts, both in order.
constexpr int64_t kShPart = 256;

template <class T>
void shade_sh_cpu(const ShadeShParams<T>&);
template <class T>
void shade_sh_grad_cpu(const ShadeShGradParams<T>&);
template <class T>
void shade_sh_cuda(const ShadeShParams<T>&, int device, cudaStream_t);
template <class T>
void shade_sh_grad_cuda(const ShadeShGradParams<T>&, int device, cudaStream_t);

}  // namespace focus
