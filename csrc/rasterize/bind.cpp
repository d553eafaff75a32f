// rasterize as Python sees it: check every argument by name, fill the params, launch.
#include "core/launch.h"
#include "rasterize/rasterize.h"

namespace py = pybind11;

namespace focus {
namespace {

template <class T>
void forward(const Tensor& positions, const Tensor& faces, const Tensor& face_index, const Tensor& barycentrics,
             const Tensor& depth, const Tensor& keys, const Tensor& spill, const RasterRule& rule, int threads) {
  RasterizeParams<T> p{positions.data<T>(),
                       faces.data<int32_t>(),
                       face_index.data<int32_t>(),
                       barycentrics.data<T>(),
                       depth.data<T>(),
                       positions.size(0),
                       positions.size(1),
                       faces.size(0),
                       face_index.size(1),
                       face_index.size(2),
                       rule,
                       threads,
                       keys.data<uint64_t>(),
                       spill.data<int64_t>()};
  FOCUS_LAUNCH(rasterize, p, positions);
}

void rasterize(py::handle positions_, py::handle faces_, py::handle face_index_, py::handle barycentrics_,
               py::handle depth_, py::handle keys_, py::handle spill_, int coverage, int cull, bool perspective,
               bool highest, int threads) {
  const char* op = "rasterize";
  Tensor positions(op, "positions", positions_), faces(op, "faces", faces_), face_index(op, "face_index", face_index_);
  Tensor barycentrics(op, "barycentrics", barycentrics_), depth(op, "depth", depth_);
  Tensor keys(op, "keys", keys_, true), spill(op, "spill", spill_, true);
  positions.floating().shaped({-1, -1, 3}).contiguous();
  faces.int32().on(positions).shaped({-1, 3}).contiguous();
  face_index.int32().on(positions).shaped({positions.size(0), -1, -1}).contiguous();
  const int64_t B = positions.size(0), H = face_index.size(1), W = face_index.size(2);
  barycentrics.like(positions).shaped({B, H, W, 3}).contiguous();
  depth.like(positions).shaped({B, H, W}).contiguous();
  keys.int64().on(positions).shaped({B, H, W}).contiguous();
  spill.int64().on(positions).shaped({B * faces.size(0) + 1}).contiguous();
  RasterRule rule{coverage, cull, perspective, highest};
  positions.is_float64()
      ? forward<double>(positions, faces, face_index, barycentrics, depth, keys, spill, rule, threads)
      : forward<float>(positions, faces, face_index, barycentrics, depth, keys, spill, rule, threads);
}

template <class T>
void backward(const Tensor& grad_barycentrics, const Tensor& grad_depth, const Tensor& positions, const Tensor& faces,
              const Tensor& offsets, const Tensor& corners, const Tensor& face_index, const Tensor& grad_positions,
              const Tensor& first, const Tensor& sums, bool perspective, int threads) {
  RasterizeGradParams<T> p{grad_barycentrics.data<T>(),
                           grad_depth.data<T>(),
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
                           perspective,
                           threads,
                           first.data<uint32_t>(),
                           sums.data<T>()};
  FOCUS_LAUNCH(rasterize_grad, p, positions);
}

void rasterize_grad(py::handle grad_barycentrics_, py::handle grad_depth_, py::handle positions_, py::handle faces_,
                    py::handle offsets_, py::handle corners_, py::handle face_index_, py::handle grad_positions_,
                    bool perspective, int threads, const py::args& scratch) {
  const char* op = "rasterize_grad";
  Tensor grad_barycentrics(op, "grad_barycentrics", grad_barycentrics_, true);
  Tensor grad_depth(op, "grad_depth", grad_depth_, true);
  Tensor positions(op, "positions", positions_), faces(op, "faces", faces_), offsets(op, "offsets", offsets_);
  Tensor corners(op, "corners", corners_), face_index(op, "face_index", face_index_);
  Tensor grad_positions(op, "grad_positions", grad_positions_);
  const auto given = [&](size_t i) { return i < scratch.size() ? py::handle(scratch[i]) : py::handle(Py_None); };
  Tensor first(op, "first", given(0), true), sums(op, "sums", given(1), true);
  positions.floating().shaped({-1, -1, 3}).contiguous();
  faces.int32().on(positions).shaped({-1, 3}).contiguous();
  offsets.int32().on(positions).shaped({positions.size(1) + 1}).contiguous();
  corners.int32().on(positions).shaped({3 * faces.size(0)}).contiguous();
  face_index.int32().on(positions).shaped({positions.size(0), -1, -1}).contiguous();
  const int64_t B = positions.size(0), H = face_index.size(1), W = face_index.size(2);
  grad_barycentrics.like(positions).shaped({B, H, W, 3}).contiguous();
  grad_depth.like(positions).shaped({B, H, W}).contiguous();
  grad_positions.like(positions).shaped({B, positions.size(1), 3}).contiguous();
  first.int32().on(positions).shaped({B, faces.size(0)}).contiguous();
  sums.like(positions).shaped({B, 9, H, W}).contiguous();
  auto run = positions.is_float64() ? backward<double> : backward<float>;
  run(grad_barycentrics, grad_depth, positions, faces, offsets, corners, face_index, grad_positions, first, sums,
      perspective, threads);
}

}  // namespace

void bind_rasterize(py::module_& m) {
  m.def("rasterize", &rasterize);
  m.def("rasterize_grad", &rasterize_grad);
}

}  // namespace focus
