// interpolate on the CPU: rows of pixels in parallel; the backward adds pixels in order within an image.
#include "core/parallel.h"
#include "interpolate/interpolate.h"
#include "interpolate/interpolate_math.h"

namespace focus {

template <class T>
void interpolate_cpu(const InterpolateParams<T>& p) {
  const int64_t pixels = p.H * p.W;
  parallel_for(p.B * p.H, p.threads, [&](int64_t job) {
    const int64_t b = job / p.H, row = job % p.H;
    const T* attributes = p.attributes + p.V * p.C * b;
    for (int64_t pixel = row * p.W; pixel < (row + 1) * p.W; ++pixel) {
      const int32_t id = p.face_index[pixels * b + pixel];
      T* out = p.out + p.C * pixels * b + pixel;
      if (!in_mesh(id, p.F)) {
        for (int64_t c = 0; c < p.C; ++c) out[c * pixels] = 0;
        continue;
      }
      const int32_t* face = p.faces + int64_t{3} * id;
      const T* w = p.barycentrics + 3 * (pixels * b + pixel);
      const T *a0 = attributes + p.C * face[0], *a1 = attributes + p.C * face[1], *a2 = attributes + p.C * face[2];
      for (int64_t c = 0; c < p.C; ++c) out[c * pixels] = mix(w, a0[c], a1[c], a2[c]);
    }
  });
}

template <class T>
void interpolate_grad_cpu(const InterpolateGradParams<T>& p) {
  const int64_t pixels = p.H * p.W;
  parallel_for(p.B, p.threads, [&](int64_t b) {
    const T* attributes = p.attributes + p.V * p.C * b;
    T* grad_attributes = p.grad_attributes + p.V * p.C * b;
    for (int64_t i = 0; i < p.V * p.C; ++i) grad_attributes[i] = 0;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) {
      const int64_t at = pixels * b + pixel;
      T* grad_w = p.grad_barycentrics + 3 * at;
      const int32_t id = p.face_index[at];
      if (!in_mesh(id, p.F)) {
        grad_w[0] = grad_w[1] = grad_w[2] = 0;
        continue;
      }
      const int32_t* face = p.faces + int64_t{3} * id;
      const T *w = p.barycentrics + 3 * at, *grad = p.grad + p.C * pixels * b + pixel;
      for (int k = 0; k < 3; ++k) {
        const T* a = attributes + p.C * face[k];
        T* grad_a = grad_attributes + p.C * face[k];
        T sum = 0;
        for (int64_t c = 0; c < p.C; ++c) {
          const T g = grad[c * pixels];
          sum += g * a[c];
          grad_a[c] += g * w[k];
        }
        grad_w[k] = sum;
      }
    }
  });
}

template void interpolate_cpu(const InterpolateParams<float>&);
template void interpolate_cpu(const InterpolateParams<double>&);
template void interpolate_grad_cpu(const InterpolateGradParams<float>&);
template void interpolate_grad_cpu(const InterpolateGradParams<double>&);

}  // namespace focus
