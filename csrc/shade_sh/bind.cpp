// shade_sh as Python sees it: check every argument by name, fill the params, launch.
#include "core/launch.h"
#include "shade_sh/shade_sh.h"

namespace py = pybind11;

namespace focus {
namespace {

template <class T>
void forward(const Tensor& normals, const Tensor& albedo, const Tensor& sh_coeffs, const Tensor& shaded, bool focus,
             int threads) {
  ShadeShParams<T> p{normals.data<T>(),
                     albedo.data<T>(),
                     sh_coeffs.data<T>(),
                     shaded.data<T>(),
                     normals.size(0),
                     normals.size(1),
                     focus,
                     threads};
  FOCUS_LAUNCH(shade_sh, p, normals);
}

void shade_sh(py::handle normals_, py::handle albedo_, py::handle sh_coeffs_, py::handle shaded_, bool focus,
              int threads) {
  const char* op = "shade_sh";
  Tensor normals(op, "normals", normals_), albedo(op, "albedo", albedo_), sh_coeffs(op, "sh_coeffs", sh_coeffs_);
  Tensor shaded(op, "shaded", shaded_);
  normals.floating().shaped({-1, -1, 3}).contiguous();
  const int64_t B = normals.size(0), V = normals.size(1);
  albedo.like(normals).shaped({B, V, 3}).contiguous();
  sh_coeffs.like(normals).shaped({B, 3, 9}).contiguous();
  shaded.like(normals).shaped({B, V, 3}).contiguous();
  (normals.is_float64() ? forward<double> : forward<float>)(normals, albedo, sh_coeffs, shaded, focus, threads);
}

template <class T>
void backward(const Tensor& grad, const Tensor& normals, const Tensor& albedo, const Tensor& sh_coeffs,
              const Tensor& grad_normals, const Tensor& grad_albedo, const Tensor& grad_sh_coeffs,
              const Tensor& partial, bool focus, int threads) {
  ShadeShGradParams<T> p{grad.data<T>(),
                         normals.data<T>(),
                         albedo.data<T>(),
                         sh_coeffs.data<T>(),
                         grad_normals.data<T>(),
                         grad_albedo.data<T>(),
                         grad_sh_coeffs.data<T>(),
                         partial.data<T>(),
                         normals.size(0),
                         normals.size(1),
                         focus,
                         threads};
  FOCUS_LAUNCH(shade_sh_grad, p, normals);
}

void shade_sh_grad(py::handle grad_, py::handle normals_, py::handle albedo_, py::handle sh_coeffs_,
                   py::handle grad_normals_, py::handle grad_albedo_, py::handle grad_sh_coeffs_, py::handle partial_,
                   bool focus, int threads) {
  const char* op = "shade_sh_grad";
  Tensor grad(op, "grad", grad_), normals(op, "normals", normals_), albedo(op, "albedo", albedo_);
  Tensor sh_coeffs(op, "sh_coeffs", sh_coeffs_), grad_normals(op, "grad_normals", grad_normals_);
  Tensor grad_albedo(op, "grad_albedo", grad_albedo_), grad_sh_coeffs(op, "grad_sh_coeffs", grad_sh_coeffs_);
  Tensor partial(op, "partial", partial_, true);
  normals.floating().shaped({-1, -1, 3}).contiguous();
  const int64_t B = normals.size(0), V = normals.size(1);
  for (const Tensor* t : {&grad, &albedo, &grad_normals, &grad_albedo}) t->like(normals).shaped({B, V, 3}).contiguous();
  for (const Tensor* t : {&sh_coeffs, &grad_sh_coeffs}) t->like(normals).shaped({B, 3, 9}).contiguous();
  partial.like(normals).shaped({B, (V + kShPart - 1) / kShPart, 27}).contiguous();
  auto run = normals.is_float64() ? backward<double> : backward<float>;
  run(grad, normals, albedo, sh_coeffs, grad_normals, grad_albedo, grad_sh_coeffs, partial, focus, threads);
}

}  // namespace

void bind_shade_sh(py::module_& m) {
  m.def("shade_sh", &shade_sh);
  m.def("shade_sh_grad", &shade_sh_grad);
}

}  // namespace focus
