// blend as Python sees it: check every argument by name, fill the params, launch.
#include "blend/blend.h"

#include "core/launch.h"

namespace py = pybind11;

namespace focus {
namespace {

// The basis, or its gradient, beside tensors in the dtype of its sums.
void check_basis(const Tensor& basis, const Tensor& sums) {
  basis.image().on(sums).shaped({-1, -1, 3});
  if (basis.element() == Element::f32 || sums.is_float64()) basis.like(sums);
}

void blend(py::handle mean_, py::handle basis_, py::handle coeffs_, py::handle out_, int threads) {
  const char* op = "blend";
  Tensor mean(op, "mean", mean_), basis(op, "basis", basis_), coeffs(op, "coeffs", coeffs_), out(op, "out", out_);
  mean.floating().shaped({-1, 3}).contiguous();
  check_basis(basis, mean);
  const int64_t K = basis.size(0), V = mean.size(0);
  basis.shaped({K, V, 3}).rows();
  coeffs.like(mean).shaped({-1, K}).contiguous();
  const int64_t B = coeffs.size(0);
  out.like(mean).shaped({B, V, 3}).contiguous();
  by_element(basis, [&](auto element) {
    using M = decltype(element);
    BlendParams<M> p{mean.data<Sum<M>>(), basis.data<M>(), coeffs.data<Sum<M>>(), out.data<Sum<M>>(), B, K, 3 * V,
                     basis.stride(0),     threads};
    FOCUS_LAUNCH_CPU_ONLY(blend, p, mean);
  });
}

void blend_grad(py::handle grad_, py::handle basis_, py::handle coeffs_, py::handle grad_mean_, py::handle grad_basis_,
                py::handle grad_coeffs_, int threads) {
  const char* op = "blend_grad";
  Tensor grad(op, "grad", grad_), basis(op, "basis", basis_), coeffs(op, "coeffs", coeffs_);
  Tensor grad_mean(op, "grad_mean", grad_mean_, true), grad_basis(op, "grad_basis", grad_basis_, true);
  Tensor grad_coeffs(op, "grad_coeffs", grad_coeffs_, true);
  grad.floating().shaped({-1, -1, 3}).contiguous();
  check_basis(basis, grad);
  const int64_t B = grad.size(0), K = basis.size(0), V = grad.size(1);
  basis.shaped({K, V, 3}).rows();
  coeffs.like(grad).shaped({B, K}).contiguous();
  grad_mean.like(grad).shaped({V, 3}).contiguous();
  grad_basis.like(basis).shaped({K, V, 3}).contiguous();
  grad_coeffs.like(grad).shaped({B, K}).contiguous();
  by_element(basis, [&](auto element) {
    using M = decltype(element);
    BlendGradParams<M> p{grad.data<Sum<M>>(),
                         basis.data<M>(),
                         coeffs.data<Sum<M>>(),
                         grad_mean.data<Sum<M>>(),
                         grad_basis.data<M>(),
                         grad_coeffs.data<Sum<M>>(),
                         B,
                         K,
                         3 * V,
                         basis.stride(0),
                         threads};
    FOCUS_LAUNCH_CPU_ONLY(blend_grad, p, grad);
  });
}

}  // namespace

void bind_blend(py::module_& m) {
  m.def("blend", &blend);
  m.def("blend_grad", &blend_grad);
}

}  // namespace focus
