// shade_sh on the GPU: a thread per vertex; the light's gradient is summed by blocks, then over their parts.
#include "core/reduce.cuh"
#include "shade_sh/shade_sh.h"
#include "shade_sh/shade_sh_math.h"

namespace focus {
namespace {

static_assert(kShPart == kThreads, "a block sums one part");

template <class T>
__global__ void __launch_bounds__(kThreads) shade_kernel(ShadeShParams<T> p) {
  const int64_t v = thread();
  if (v >= p.V) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    const int64_t at = 3 * (p.V * b + v);
    const T n[3] = {p.normals[at], p.normals[at + 1], p.normals[at + 2]};
    T shaded[3];
    shade_vertex(n, p.albedo + at, p.sh_coeffs + 27 * b, p.focus, shaded);
    for (int k = 0; k < 3; ++k) p.shaded[at + k] = shaded[k];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) shade_grad_kernel(ShadeShGradParams<T> p) {
  FOCUS_SHARED(T, rows, [kWarps][27]);
  const int64_t v = thread();
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    T own[27] = {0};
    if (v < p.V) {
      const int64_t at = 3 * (p.V * b + v);
      const T n[3] = {p.normals[at], p.normals[at + 1], p.normals[at + 2]};
      T grad_n[3], grad_albedo[3];
      shade_vertex_grad(n, p.albedo + at, p.sh_coeffs + 27 * b, p.focus, p.grad + at, grad_n, grad_albedo, own);
      for (int k = 0; k < 3; ++k) {
        p.grad_normals[at + k] = grad_n[k];
        p.grad_albedo[at + k] = grad_albedo[k];
      }
    }
    block_sums<27>(own, true, rows, p.partial + 27 * (gridDim.x * b + blockIdx.x), 1);
  }
}

// A warp per coefficient.
template <class T>
__global__ void __launch_bounds__(kThreads) shade_parts_kernel(ShadeShGradParams<T> p, int64_t parts) {
  const int k = static_cast<int>(thread() / 32);
  if (k >= 27) return;
  for (int64_t b = blockIdx.y; b < p.B; b += gridDim.y) {
    const T sum = sum_parts(p.partial + 27 * parts * b, parts, 27, k);
    if (threadIdx.x % 32 == 0) p.grad_sh_coeffs[27 * b + k] = sum;
  }
}

}  // namespace

template <class T>
void shade_sh_cuda(const ShadeShParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  FOCUS_KERNEL(shade_kernel<T>, grid(p.V, p.B), kThreads, 0, stream, p);
}

template <class T>
void shade_sh_grad_cuda(const ShadeShGradParams<T>& p, int device, cudaStream_t stream) {
  DeviceGuard guard(device);
  const dim3 vertices = grid(p.V, p.B);
  const int64_t parts = vertices.x;
  FOCUS_KERNEL(shade_grad_kernel<T>, vertices, kThreads, 0, stream, p);
  FOCUS_KERNEL(shade_parts_kernel<T>, grid(27 * 32, p.B), kThreads, 0, stream, p, parts);
}

template void shade_sh_cuda(const ShadeShParams<float>&, int, cudaStream_t);
template void shade_sh_cuda(const ShadeShParams<double>&, int, cudaStream_t);
template void shade_sh_grad_cuda(const ShadeShGradParams<float>&, int, cudaStream_t);
template void shade_sh_grad_cuda(const ShadeShGradParams<double>&, int, cudaStream_t);

}  // namespace focus
