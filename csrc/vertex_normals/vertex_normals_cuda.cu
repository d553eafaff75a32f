// vertex_normals on the GPU: a thread per vertex gathers the faces around it. No atomics.
#include "vertex_normals/vertex_normals.h"
#include "vertex_normals/vertex_normals_gather.cuh"

namespace focus {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) normals_kernel(VertexNormalsParams<T> p) {
  const int64_t v = thread();
  if (v >= p.V) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    T sum[4], n[3];
    gather_normals({p.faces, p.offsets, p.corners}, p.vertices + 3 * p.V * b, v, p.normalize, sum);
    finish_normal(sum, p.normalize, n);
    T* out = p.normals + 3 * (p.V * b + v);
    for (int k = 0; k < 3; ++k) out[k] = n[k];
  }
}

// Gradient of the normals -> gradient of the sums.
template <class T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 4 ? kAnyBlocks : 4)
    normal_sums_grad_kernel(VertexNormalsGradParams<T> p) {
  const int64_t v = thread();
  if (v >= p.V) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    const int64_t at = p.V * b + v;
    const T grad[3] = {p.grad[3 * at], p.grad[3 * at + 1], p.grad[3 * at + 2]};
    T sum[4];
    Four<T> grad_sum;
    gather_normals({p.faces, p.offsets, p.corners}, p.vertices + 3 * p.V * b, v, p.normalize, sum);
    finish_normal_grad(sum, p.normalize, grad, grad_sum.v);
    store4(p.grad_sums, at, grad_sum);
  }
}

// Gradient of the sums -> gradient of the vertices.
template <class T>
__global__ void __launch_bounds__(kThreads) normal_vertices_grad_kernel(VertexNormalsGradParams<T> p) {
  const int64_t v = thread();
  if (v >= p.V) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    const int64_t first = p.V * b;
    T grad[3] = {0, 0, 0};
    gather_normals_grad({p.faces, p.offsets, p.corners}, p.vertices + 3 * first, p.grad_sums + 4 * first, v,
                        p.normalize, grad);
    for (int k = 0; k < 3; ++k) p.grad_vertices[3 * (first + v) + k] = grad[k];
  }
}

}  // namespace

template <class T>
void vertex_normals_cuda(const VertexNormalsParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  FOCUS_KERNEL(normals_kernel<T>, grid(p.V, p.B), kThreads, 0, stream, p);
}

template <class T>
void vertex_normals_grad_cuda(const VertexNormalsGradParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  FOCUS_KERNEL(normal_sums_grad_kernel<T>, grid(p.V, p.B), kThreads, 0, stream, p);
  FOCUS_KERNEL(normal_vertices_grad_kernel<T>, grid(p.V, p.B), kThreads, 0, stream, p);
}

template void vertex_normals_cuda(const VertexNormalsParams<float>&, int, cudaStream_t);
template void vertex_normals_cuda(const VertexNormalsParams<double>&, int, cudaStream_t);
template void vertex_normals_grad_cuda(const VertexNormalsGradParams<float>&, int, cudaStream_t);
template void vertex_normals_grad_cuda(const VertexNormalsGradParams<double>&, int, cudaStream_t);

}  // namespace focus
