// rasterize_clip as Python sees it: check every argument by name, fill the params, launch.
#include "core/launch.h"
#include "rasterize_clip/rasterize_clip.h"

namespace py = pybind11;

namespace focus {
namespace {

struct Arguments {
  Tensor positions, faces, ranges, behind, face_index, barycentrics, depth, derivatives, nearest, points, spill;
};

template <class T>
void forward(const Arguments& a, int threads) {
  RasterizeClipParams<T> p{a.positions.data<T>(),   a.faces.data<int32_t>(),      a.ranges.data<int32_t>(),
                           a.behind.data<double>(), a.face_index.data<int32_t>(), a.barycentrics.data<T>(),
                           a.depth.data<T>(),       a.derivatives.data<T>(),      a.nearest.data<double>(),
                           a.positions.size(0),     a.positions.size(1),          a.faces.size(0),
                           a.face_index.size(1),    a.face_index.size(2),         threads,
                           a.points.data<double>(), a.spill.data<int64_t>()};
  FOCUS_LAUNCH(rasterize_clip, p, a.positions);
}

void rasterize_clip(py::handle positions_, py::handle faces_, py::handle ranges_, py::handle behind_,
                    py::handle face_index_, py::handle barycentrics_, py::handle depth_, py::handle derivatives_,
                    py::handle nearest_, int threads, const py::args& scratch) {
  const char* op = "rasterize_clip";
  const auto given = [&](size_t i) { return i < scratch.size() ? py::handle(scratch[i]) : py::handle(Py_None); };
  const Arguments a{Tensor(op, "positions", positions_),   Tensor(op, "faces", faces_),
                    Tensor(op, "ranges", ranges_, true),   Tensor(op, "behind", behind_, true),
                    Tensor(op, "face_index", face_index_), Tensor(op, "barycentrics", barycentrics_),
                    Tensor(op, "depth", depth_),           Tensor(op, "derivatives", derivatives_, true),
                    Tensor(op, "nearest", nearest_),       Tensor(op, "points", given(0), true),
                    Tensor(op, "spill", given(1), true)};
  a.positions.floating().shaped({-1, -1, 4}).contiguous();
  a.faces.int32().on(a.positions).shaped({-1, 3}).contiguous();
  a.face_index.int32().on(a.positions).shaped({a.positions.size(0), -1, -1}).contiguous();
  const int64_t B = a.positions.size(0), H = a.face_index.size(1), W = a.face_index.size(2);
  a.ranges.int32().on(a.positions).shaped({B, 2}).contiguous();
  a.behind.float64().on(a.positions).shaped({B, H, W}).contiguous();
  a.barycentrics.like(a.positions).shaped({B, H, W, 2}).contiguous();
  a.depth.like(a.positions).shaped({B, H, W}).contiguous();
  a.derivatives.like(a.positions).shaped({B, H, W, 4}).contiguous();
  a.nearest.float64().on(a.positions).shaped({B, H, W}).contiguous();
  a.points.float64().on(a.positions).shaped({B, a.positions.size(1), 3}).contiguous();
  a.spill.int64().on(a.positions).shaped({B * a.faces.size(0) + 2}).contiguous();
  a.positions.is_float64() ? forward<double>(a, threads) : forward<float>(a, threads);
}

template <class T>
void backward(const Tensor& grad_barycentrics, const Tensor& grad_derivatives, const Tensor& positions,
              const Tensor& faces, const Tensor& offsets, const Tensor& corners, const Tensor& face_index,
              const Tensor& grad_positions, const Tensor& first, const Tensor& sums, int threads) {
  RasterizeClipGradParams<T> p{grad_barycentrics.data<T>(),
                               grad_derivatives.data<T>(),
                               positions.data<T>(),
                               faces.data<int32_t>(),
                               offsets.data<int32_t>(),
                               corners.data<int32_t>(),
                               face_index.data<int32_t>(),
                               grad_positions.data<T>(),
                               positions.size(0),
                               positions.size(1),
                               faces.size(0),
                               face_index.size(1),
                               face_index.size(2),
                               threads,
                               first.data<uint32_t>(),
                               sums.data<double>()};
  FOCUS_LAUNCH(rasterize_clip_grad, p, positions);
}

void rasterize_clip_grad(py::handle grad_barycentrics_, py::handle grad_derivatives_, py::handle positions_,
                         py::handle faces_, py::handle offsets_, py::handle corners_, py::handle face_index_,
                         py::handle grad_positions_, int threads, const py::args& scratch) {
  const char* op = "rasterize_clip_grad";
  Tensor grad_barycentrics(op, "grad_barycentrics", grad_barycentrics_, true);
  Tensor grad_derivatives(op, "grad_derivatives", grad_derivatives_, true);
  Tensor positions(op, "positions", positions_), faces(op, "faces", faces_), offsets(op, "offsets", offsets_);
  Tensor corners(op, "corners", corners_), face_index(op, "face_index", face_index_);
  Tensor grad_positions(op, "grad_positions", grad_positions_);
  const auto given = [&](size_t i) { return i < scratch.size() ? py::handle(scratch[i]) : py::handle(Py_None); };
  Tensor first(op, "first", given(0), true), sums(op, "sums", given(1), true);
  positions.floating().shaped({-1, -1, 4}).contiguous();
  faces.int32().on(positions).shaped({-1, 3}).contiguous();
  offsets.int32().on(positions).shaped({positions.size(1) + 1}).contiguous();
  corners.int32().on(positions).shaped({3 * faces.size(0)}).contiguous();
  face_index.int32().on(positions).shaped({positions.size(0), -1, -1}).contiguous();
  const int64_t B = positions.size(0), H = face_index.size(1), W = face_index.size(2);
  grad_barycentrics.like(positions).shaped({B, H, W, 2}).contiguous();
  grad_derivatives.like(positions).shaped({B, H, W, 4}).contiguous();
  grad_positions.like(positions).shaped({B, positions.size(1), 4}).contiguous();
  first.int32().on(positions).shaped({B, faces.size(0)}).contiguous();
  sums.float64().on(positions).shaped({B, 9, H, W}).contiguous();
  auto run = positions.is_float64() ? backward<double> : backward<float>;
  run(grad_barycentrics, grad_derivatives, positions, faces, offsets, corners, face_index, grad_positions, first, sums,
      threads);
}

}  // namespace

void bind_rasterize_clip(py::module_& m) {
  m.def("rasterize_clip", &rasterize_clip);
  m.def("rasterize_clip_grad", &rasterize_clip_grad);
}

}  // namespace focus
