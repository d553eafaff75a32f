// neighbor_min_loss as Python sees it: check every argument by name, fill the params, launch.
#include <tuple>

#include "core/launch.h"
#include "neighbor_min_loss/neighbor_min_loss.h"
#include "neighbor_min_loss/neighbor_min_loss_math.h"

namespace py = pybind11;

namespace focus {
namespace {

// window, search (0 rendered, 1 target), power, masking (0 weight, 1 images), border (0 clip, 1 valid), reduction
using Modes = std::tuple<int, int, int, int, int, int>;

NeighborRule rule_of(const Modes& modes) {
  const auto [window, search, power, masking, border, reduction] = modes;
  return {window / 2, search == 1, power == 2, masking == 1, border == 1, static_cast<NeighborReduction>(reduction)};
}

struct MapSize {
  int64_t H, W;
};

// Checks what the forward and the backward share.
MapSize checked(const Tensor& target, const Tensor& rendered, const Tensor& mask, const Tensor& winner,
                const Tensor& sums, const NeighborRule& rule) {
  target.image().shaped({-1, 3, -1, -1}).contiguous();
  const int64_t B = target.size(0), H = target.size(2), W = target.size(3);
  rendered.like(target).shaped({B, 3, H, W}).contiguous();
  mask.like(target).shaped({B, 1, H, W}).contiguous();
  const MapSize map{map_span(H, rule).size(), map_span(W, rule).size()};
  winner.uint8().on(target).shaped({B, map.H, map.W}).contiguous();
  sums.sum_of(target).on(target).shaped({B, 2}).contiguous();
  return map;
}

// Checks the loss, or its gradient.
void check_loss(const Tensor& loss, const Tensor& sums, int64_t B, MapSize map, const NeighborRule& rule) {
  loss.like(sums);
  if (rule.reduction == NeighborReduction::none)
    loss.shaped({B, 1, map.H, map.W}).contiguous();
  else
    loss.shaped({});
}

template <class S>
void forward(const Tensor& target, const Tensor& rendered, const Tensor& mask, const Tensor& out, const Tensor& winner,
             const Tensor& sums, const NeighborRule& rule, int threads) {
  NeighborMinLossParams<S> p{target.data<S>(),
                             rendered.data<S>(),
                             mask.data<S>(),
                             out.data<Sum<S>>(),
                             winner.data<uint8_t>(),
                             sums.data<Sum<S>>(),
                             target.size(0),
                             target.size(2),
                             target.size(3),
                             rule,
                             threads};
  FOCUS_LAUNCH_CPU_ONLY(neighbor_min_loss, p, target);
}

void neighbor_min_loss(py::handle target_, py::handle rendered_, py::handle mask_, py::handle out_, py::handle winner_,
                       py::handle sums_, const Modes& modes, int threads) {
  const char* op = "neighbor_min_loss";
  Tensor target(op, "target", target_), rendered(op, "rendered", rendered_), mask(op, "mask", mask_);
  Tensor out(op, "out", out_), winner(op, "winner", winner_), sums(op, "sums", sums_);
  const NeighborRule rule = rule_of(modes);
  const MapSize map = checked(target, rendered, mask, winner, sums, rule);
  check_loss(out, sums, target.size(0), map, rule);
  by_element(target, [&](auto element) {
    forward<decltype(element)>(target, rendered, mask, out, winner, sums, rule, threads);
  });
}

template <class S>
void backward(const Tensor& grad, const Tensor& target, const Tensor& rendered, const Tensor& mask,
              const Tensor& winner, const Tensor& sums, const Tensor& grad_target, const Tensor& grad_rendered,
              const Tensor& grad_mask, const NeighborRule& rule, int threads) {
  NeighborMinLossGradParams<S> p{grad.data<Sum<S>>(),
                                 target.data<S>(),
                                 rendered.data<S>(),
                                 mask.data<S>(),
                                 winner.data<uint8_t>(),
                                 sums.data<Sum<S>>(),
                                 grad_target.data<S>(),
                                 grad_rendered.data<S>(),
                                 grad_mask.data<S>(),
                                 target.size(0),
                                 target.size(2),
                                 target.size(3),
                                 rule,
                                 threads};
  FOCUS_LAUNCH_CPU_ONLY(neighbor_min_loss_grad, p, target);
}

void neighbor_min_loss_grad(py::handle grad_, py::handle target_, py::handle rendered_, py::handle mask_,
                            py::handle winner_, py::handle sums_, py::handle grad_target_, py::handle grad_rendered_,
                            py::handle grad_mask_, const Modes& modes, int threads) {
  const char* op = "neighbor_min_loss_grad";
  Tensor grad(op, "grad", grad_), target(op, "target", target_), rendered(op, "rendered", rendered_);
  Tensor mask(op, "mask", mask_), winner(op, "winner", winner_), sums(op, "sums", sums_);
  Tensor grad_target(op, "grad_target", grad_target_, true), grad_rendered(op, "grad_rendered", grad_rendered_, true);
  Tensor grad_mask(op, "grad_mask", grad_mask_, true);
  const NeighborRule rule = rule_of(modes);
  const MapSize map = checked(target, rendered, mask, winner, sums, rule);
  check_loss(grad, sums, target.size(0), map, rule);
  const int64_t B = target.size(0), H = target.size(2), W = target.size(3);
  for (const Tensor* t : {&grad_target, &grad_rendered}) t->like(target).shaped({B, 3, H, W}).contiguous();
  grad_mask.like(target).shaped({B, 1, H, W}).contiguous();
  by_element(target, [&](auto element) {
    backward<decltype(element)>(grad, target, rendered, mask, winner, sums, grad_target, grad_rendered, grad_mask, rule,
                                threads);
  });
}

}  // namespace

void bind_neighbor_min_loss(py::module_& m) {
  m.def("neighbor_min_loss", &neighbor_min_loss);
  m.def("neighbor_min_loss_grad", &neighbor_min_loss_grad);
}

}  // namespace focus
