// Face normals gathered around a vertex, shared by vertex_normals and render_sh. Corners come in ascending order, in
// which the CPU adds as well, so that both give the same bits. Included by .cu files only.
#pragma once
#include "core/cuda.cuh"
#include "vertex_normals/vertex_normals_math.h"

namespace focus {
namespace {

struct Incidence {
  const int32_t* faces;    // [F, 3]
  const int32_t* offsets;  // [V + 1]
  const int32_t* corners;  // [3 F]
};

// The length, a square root and four divisions, only where it is used; else zero.
template <bool kLengths, class T>
__device__ __forceinline__ FaceNormal<T> load_face_normal(const T* vertices, const int32_t* face) {
  T v[3][3];
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    const T* row = vertices + int64_t{3} * face[k];
#pragma unroll
    for (int i = 0; i < 3; ++i) v[k][i] = row[i];
  }
  FaceNormal<T> n = face_normal(v[0], v[1], v[2]);
  if constexpr (!kLengths) n.length = 0;
  return n;
}

// vertices [V, 3] of one image -> the sum of the normals around vertex v, and of their lengths.
template <bool kLengths, class T>
__device__ __forceinline__ void gather_normals(const Incidence& mesh, const T* vertices, int64_t v, T sum[4]) {
  for (int k = 0; k < 4; ++k) sum[k] = 0;
  const int32_t end = mesh.offsets[v + 1];
  for (int32_t j = mesh.offsets[v]; j < end; ++j) {
    const FaceNormal<T> n = load_face_normal<kLengths>(vertices, mesh.faces + int64_t{3} * (mesh.corners[j] / 3));
    if (!n.usable) continue;
    for (int k = 0; k < 3; ++k) sum[k] += n.n[k];
    sum[3] += n.length;
  }
}
template <class T>
__device__ __forceinline__ void gather_normals(const Incidence& mesh, const T* vertices, int64_t v, bool normalize,
                                               T sum[4]) {
  if (normalize)
    gather_normals<false>(mesh, vertices, v, sum);
  else
    gather_normals<true>(mesh, vertices, v, sum);
}

// grad_sums [V, 4] of one image -> added to the gradient of vertex v.
template <bool kLengths, class T>
__device__ __forceinline__ void gather_normals_grad(const Incidence& mesh, const T* vertices, const T* grad_sums,
                                                    int64_t v, T grad_v[3]) {
  const int32_t end = mesh.offsets[v + 1];
  for (int32_t j = mesh.offsets[v]; j < end; ++j) {
    const int32_t corner = mesh.corners[j], f = corner / 3;
    const int32_t* face = mesh.faces + int64_t{3} * f;
    const Four<T> g0 = load4(grad_sums, face[0]), g1 = load4(grad_sums, face[1]), g2 = load4(grad_sums, face[2]);
    T grad[4];
    for (int k = 0; k < 4; ++k) grad[k] = (g0.v[k] + g1.v[k]) + g2.v[k];
    if (grad[0] == 0 && grad[1] == 0 && grad[2] == 0 && grad[3] == 0) continue;
    const FaceNormal<T> n = load_face_normal<kLengths>(vertices, face);
    if (!n.usable) continue;
    T own[3];
    face_normal_grad_corner(n, grad, corner - 3 * f, own);
    for (int k = 0; k < 3; ++k) grad_v[k] += own[k];
  }
}
template <class T>
__device__ __forceinline__ void gather_normals_grad(const Incidence& mesh, const T* vertices, const T* grad_sums,
                                                    int64_t v, bool normalize, T grad_v[3]) {
  if (normalize)
    gather_normals_grad<false>(mesh, vertices, grad_sums, v, grad_v);
  else
    gather_normals_grad<true>(mesh, vertices, grad_sums, v, grad_v);
}

}  // namespace
}  // namespace focus
