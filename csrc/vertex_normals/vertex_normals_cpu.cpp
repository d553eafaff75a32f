// vertex_normals on the CPU: faces in order within an image, images in parallel.
#include "core/parallel.h"
#include "core/scratch.h"
#include "vertex_normals/vertex_normals_image.h"

namespace focus {

template <class T>
void vertex_normals_cpu(const VertexNormalsParams<T>& p) {
  parallel_for(p.B, p.threads, [&](int64_t b) {
    T* sums = reinterpret_cast<T*>(Scratch::get(sizeof(T) * 4 * p.V));
    const T* vertices = p.vertices + 3 * p.V * b;
    sum_normals(vertices, 3, p.faces, p.V, p.F, sums);
    for (int64_t v = 0; v < p.V; ++v) finish_normal(sums + 4 * v, p.normalize, p.normals + 3 * (p.V * b + v));
  });
}

template <class T>
void vertex_normals_grad_cpu(const VertexNormalsGradParams<T>& p) {
  parallel_for(p.B, p.threads, [&](int64_t b) {
    T* sums = reinterpret_cast<T*>(Scratch::get(sizeof(T) * 4 * p.V));
    const T* vertices = p.vertices + 3 * p.V * b;
    T* grad_vertices = p.grad_vertices + 3 * p.V * b;
    sum_normals(vertices, 3, p.faces, p.V, p.F, sums);
    for (int64_t v = 0; v < p.V; ++v) {
      T grad_sum[4];
      finish_normal_grad(sums + 4 * v, p.normalize, p.grad + 3 * (p.V * b + v), grad_sum);
      for (int k = 0; k < 4; ++k) sums[4 * v + k] = grad_sum[k];
    }
    for (int64_t i = 0; i < 3 * p.V; ++i) grad_vertices[i] = 0;
    add_normals_grad(vertices, 3, p.faces, p.F, sums, grad_vertices, 3);
  });
}

template void vertex_normals_cpu(const VertexNormalsParams<float>&);
template void vertex_normals_cpu(const VertexNormalsParams<double>&);
template void vertex_normals_grad_cpu(const VertexNormalsGradParams<float>&);
template void vertex_normals_grad_cpu(const VertexNormalsGradParams<double>&);

}  // namespace focus
