// masked_pixel_loss as Python sees it: check every argument by name, fill the params, launch.
#include "core/launch.h"
#include "masked_pixel_loss/masked_pixel_loss.h"

namespace py = pybind11;

namespace focus {
namespace {

// target and rendered [B, 3, H, W], mask [B, 1, H, W].
void check_images(const Tensor& target, const Tensor& rendered, const Tensor& mask) {
  target.image().shaped({-1, 3, -1, -1}).contiguous();
  rendered.like(target).shaped({target.size(0), 3, target.size(2), target.size(3)}).contiguous();
  mask.like(target).shaped({target.size(0), 1, target.size(2), target.size(3)}).contiguous();
}

// The loss or its gradient: float32 for half precision, and [B, 1, H, W] where nothing is reduced.
void check_value(const Tensor& value, const Tensor& target, PixelReduction reduction) {
  value.sum_of(target).on(target);
  if (reduction == PixelReduction::none)
    value.shaped({target.size(0), 1, target.size(2), target.size(3)}).contiguous();
  else
    value.shaped({});
}

void check_sums(const Tensor& sums, const Tensor& target, PixelReduction reduction) {
  const int64_t rows = reduction == PixelReduction::mask_mean         ? target.size(0)
                       : reduction == PixelReduction::batch_mask_mean ? 1
                                                                      : 0;
  sums.float64().on(target).shaped({rows, 2}).contiguous();
}

PixelRule make_rule(int64_t kind, double scale, double offset, py::handle threshold, int64_t reduction) {
  if (kind < 0 || kind > static_cast<int64_t>(PixelKind::l1)) throw py::value_error("no such kind");
  if (reduction < 0 || reduction > static_cast<int64_t>(PixelReduction::batch_mask_mean))
    throw py::value_error("no such reduction");
  return {static_cast<PixelKind>(kind),
          static_cast<PixelReduction>(reduction),
          scale,
          offset,
          threshold.is_none() ? 0 : threshold.cast<double>(),
          !threshold.is_none()};
}

void masked_pixel_loss(py::handle target_, py::handle rendered_, py::handle mask_, py::handle loss_, py::handle sums_,
                       int64_t kind, double scale, double offset, py::handle threshold, int64_t reduction,
                       int threads) {
  const char* op = "masked_pixel_loss";
  Tensor target(op, "target", target_), rendered(op, "rendered", rendered_), mask(op, "mask", mask_);
  Tensor loss(op, "loss", loss_), sums(op, "sums", sums_);
  check_images(target, rendered, mask);
  const PixelRule rule = make_rule(kind, scale, offset, threshold, reduction);
  check_value(loss, target, rule.reduction);
  check_sums(sums, target, rule.reduction);
  by_element(target, [&](auto element) {
    using S = decltype(element);
    MaskedPixelLossParams<S> p{target.data<S>(),
                               rendered.data<S>(),
                               mask.data<S>(),
                               loss.data<Sum<S>>(),
                               sums.data<double>(),
                               rule,
                               target.size(0),
                               target.size(2) * target.size(3),
                               threads};
    FOCUS_LAUNCH_CPU_ONLY(masked_pixel_loss, p, target);
  });
}

void masked_pixel_loss_grad(py::handle grad_, py::handle target_, py::handle rendered_, py::handle mask_,
                            py::handle sums_, py::handle grad_target_, py::handle grad_rendered_, py::handle grad_mask_,
                            int64_t kind, double scale, double offset, py::handle threshold, int64_t reduction,
                            int threads) {
  const char* op = "masked_pixel_loss_grad";
  Tensor grad(op, "grad", grad_), target(op, "target", target_), rendered(op, "rendered", rendered_);
  Tensor mask(op, "mask", mask_), sums(op, "sums", sums_), grad_target(op, "grad_target", grad_target_, true);
  Tensor grad_rendered(op, "grad_rendered", grad_rendered_, true), grad_mask(op, "grad_mask", grad_mask_, true);
  check_images(target, rendered, mask);
  const int64_t B = target.size(0), H = target.size(2), W = target.size(3);
  const PixelRule rule = make_rule(kind, scale, offset, threshold, reduction);
  check_value(grad, target, rule.reduction);
  check_sums(sums, target, rule.reduction);
  for (const Tensor* t : {&grad_target, &grad_rendered}) t->like(target).shaped({B, 3, H, W}).contiguous();
  grad_mask.like(target).shaped({B, 1, H, W}).contiguous();
  by_element(target, [&](auto element) {
    using S = decltype(element);
    MaskedPixelLossGradParams<S> p{grad.data<Sum<S>>(),
                                   target.data<S>(),
                                   rendered.data<S>(),
                                   mask.data<S>(),
                                   sums.data<double>(),
                                   grad_target.data<S>(),
                                   grad_rendered.data<S>(),
                                   grad_mask.data<S>(),
                                   rule,
                                   B,
                                   H * W,
                                   threads};
    FOCUS_LAUNCH_CPU_ONLY(masked_pixel_loss_grad, p, target);
  });
}

void inlier_mask(py::handle target_, py::handle rendered_, py::handle mask_, py::handle out_, double threshold,
                 int threads) {
  const char* op = "inlier_mask";
  Tensor target(op, "target", target_), rendered(op, "rendered", rendered_), mask(op, "mask", mask_);
  Tensor out(op, "out", out_);
  check_images(target, rendered, mask);
  out.like(target).shaped({target.size(0), 1, target.size(2), target.size(3)}).contiguous();
  by_element(target, [&](auto element) {
    using S = decltype(element);
    InlierMaskParams<S> p{target.data<S>(),
                          rendered.data<S>(),
                          mask.data<S>(),
                          out.data<S>(),
                          threshold,
                          target.size(0),
                          target.size(2) * target.size(3),
                          threads};
    FOCUS_LAUNCH_CPU_ONLY(inlier_mask, p, target);
  });
}

}  // namespace

void bind_masked_pixel_loss(py::module_& m) {
  m.def("masked_pixel_loss", &masked_pixel_loss);
  m.def("masked_pixel_loss_grad", &masked_pixel_loss_grad);
  m.def("inlier_mask", &inlier_mask);
}

}  // namespace focus
