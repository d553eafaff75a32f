// The normals of one image on the CPU, shared by vertex_normals and render_sh. Rows of `vertices` are `stride` apart.
#pragma once
#include <cstdint>

#include "vertex_normals/vertex_normals.h"
#include "vertex_normals/vertex_normals_math.h"

namespace focus {

// sums [V, 4]
template <class T>
FOCUS_HD void sum_normals(const T* vertices, int stride, const int32_t* faces, int64_t V, int64_t F, T* sums) {
  for (int64_t i = 0; i < 4 * V; ++i) sums[i] = 0;
  for (int64_t f = 0; f < F; ++f) {
    const int32_t* face = faces + 3 * f;
    const int64_t i0 = face[0], i1 = face[1], i2 = face[2];
    FaceNormal<T> n = face_normal(vertices + stride * i0, vertices + stride * i1, vertices + stride * i2);
    if (!n.usable) continue;
    for (int64_t i : {i0, i1, i2}) {
      T* sum = sums + 4 * i;
      for (int k = 0; k < 3; ++k) sum[k] += n.n[k];
      sum[3] += n.length;
    }
  }
}

// grad_sums [V, 4] -> added to grad_vertices, rows `grad_stride` apart. Faces without a gradient are passed over.
template <class T>
FOCUS_HD void add_normals_grad(const T* vertices, int stride, const int32_t* faces, int64_t F, const T* grad_sums,
                               T* grad_vertices, int grad_stride) {
  for (int64_t f = 0; f < F; ++f) {
    const int32_t* face = faces + 3 * f;
    const T* g[3];
    for (int k = 0; k < 3; ++k) g[k] = grad_sums + int64_t{4} * face[k];
    T grad[4];
    for (int k = 0; k < 4; ++k) grad[k] = (g[0][k] + g[1][k]) + g[2][k];
    if (grad[0] == 0 && grad[1] == 0 && grad[2] == 0 && grad[3] == 0) continue;
    const T* v[3];
    for (int k = 0; k < 3; ++k) v[k] = vertices + int64_t{stride} * face[k];
    FaceNormal<T> n = face_normal(v[0], v[1], v[2]);
    if (!n.usable) continue;
    T out[3][3];
    face_normal_grad(n, grad, out[0], out[1], out[2]);
    for (int c = 0; c < 3; ++c)
      for (int k = 0; k < 3; ++k) grad_vertices[int64_t{grad_stride} * face[c] + k] += out[c][k];
  }
}

}  // namespace focus
