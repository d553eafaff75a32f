// shade_sh on the CPU: vertices in order within an image, images in parallel.
#include <algorithm>

#include "core/parallel.h"
#include "shade_sh/shade_sh.h"
#include "shade_sh/shade_sh_math.h"

namespace focus {

template <class T>
void shade_sh_cpu(const ShadeShParams<T>& p) {
  parallel_for(p.B, p.threads, [&](int64_t b) {
    for (int64_t v = p.V * b; v < p.V * (b + 1); ++v)
      shade_vertex(p.normals + 3 * v, p.albedo + 3 * v, p.sh_coeffs + 27 * b, p.focus, p.shaded + 3 * v);
  });
}

template <class T>
void shade_sh_grad_cpu(const ShadeShGradParams<T>& p) {
  parallel_for(p.B, p.threads, [&](int64_t b) {
    T total[27] = {0};
    for (int64_t begin = 0; begin < p.V; begin += kShPart) {
      T part[27] = {0};
      for (int64_t i = begin; i < std::min(begin + kShPart, p.V); ++i) {
        const int64_t v = p.V * b + i;
        T own[27];
        shade_vertex_grad(p.normals + 3 * v, p.albedo + 3 * v, p.sh_coeffs + 27 * b, p.focus, p.grad + 3 * v,
                          p.grad_normals + 3 * v, p.grad_albedo + 3 * v, own);
        for (int k = 0; k < 27; ++k) part[k] += own[k];
      }
      for (int k = 0; k < 27; ++k) total[k] += part[k];
    }
    for (int k = 0; k < 27; ++k) p.grad_sh_coeffs[27 * b + k] = total[k];
  });
}

template void shade_sh_cpu(const ShadeShParams<float>&);
template void shade_sh_cpu(const ShadeShParams<double>&);
template void shade_sh_grad_cpu(const ShadeShGradParams<float>&);
template void shade_sh_grad_cpu(const ShadeShGradParams<double>&);

}  // namespace focus
