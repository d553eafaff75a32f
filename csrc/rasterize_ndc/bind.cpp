// rasterize_ndc as Python sees it: check every argument by name, fill the params, launch.
#include "core/launch.h"
#include "rasterize_ndc/rasterize_ndc.h"
#include "rasterize_ndc/rasterize_ndc_math.h"

namespace py = pybind11;

namespace focus {
namespace {

template <class T>
void forward(const Tensor& positions, const Tensor& faces, const Tensor& face_index, const Tensor& depth,
             const Tensor& barycentrics, const Tensor& distances, const Tensor& pixels, const Tensor& keys,
             const Tensor& spill, int cull, bool perspective, bool clip, int threads) {
  const int64_t H = face_index.size(1), W = face_index.size(2);
  RasterizeNdcParams<T> p{positions.data<T>(),
                          faces.data<int32_t>(),
                          face_index.data<int32_t>(),
                          depth.data<T>(),
                          barycentrics.data<T>(),
                          distances.data<T>(),
                          positions.size(0),
                          positions.size(1),
                          faces.size(0),
                          H,
                          W,
                          ndc_rule(H, W, perspective, clip),
                          cull,
                          threads,
                          pixels.data<T>(),
                          keys.data<uint64_t>(),
                          spill.data<int64_t>()};
  FOCUS_LAUNCH(rasterize_ndc, p, positions);
}

void rasterize_ndc(py::handle positions_, py::handle faces_, const py::tuple& outs_, py::handle pixels_,
                   py::handle keys_, py::handle spill_, int cull, bool perspective, bool clip, int threads) {
  const char* op = "rasterize_ndc";
  if (outs_.size() != 4) throw py::value_error("rasterize_ndc(): expected outs to be 4 tensors");
  Tensor positions(op, "positions", positions_), faces(op, "faces", faces_);
  Tensor face_index(op, "face_index", outs_[0]), depth(op, "depth", outs_[1]);
  Tensor barycentrics(op, "barycentrics", outs_[2]), distances(op, "distances", outs_[3]);
  Tensor pixels(op, "pixels", pixels_, true), keys(op, "keys", keys_, true), spill(op, "spill", spill_, true);
  positions.floating().shaped({-1, -1, 3}).contiguous();
  faces.int32().on(positions).shaped({-1, 3}).contiguous();
  face_index.int32().on(positions).shaped({positions.size(0), -1, -1}).contiguous();
  const int64_t B = positions.size(0), H = face_index.size(1), W = face_index.size(2);
  depth.like(positions).shaped({B, H, W}).contiguous();
  barycentrics.like(positions).shaped({B, H, W, 3}).contiguous();
  distances.like(positions).shaped({B, H, W}).contiguous();
  pixels.like(positions).shaped({B, positions.size(1), 3}).contiguous();
  keys.int64().on(positions).shaped({B, H, W}).contiguous();
  spill.int64().on(positions).shaped({B * faces.size(0) + 1}).contiguous();
  auto run = positions.is_float64() ? forward<double> : forward<float>;
  run(positions, faces, face_index, depth, barycentrics, distances, pixels, keys, spill, cull, perspective, clip,
      threads);
}

template <class T>
void backward(const Tensor& grad_depth, const Tensor& grad_barycentrics, const Tensor& grad_distances,
              const Tensor& positions, const Tensor& faces, const Tensor& offsets, const Tensor& corners,
              const Tensor& face_index, const Tensor& grad_positions, const Tensor& first, const Tensor& sums,
              bool perspective, bool clip, int threads) {
  const int64_t H = face_index.size(1), W = face_index.size(2);
  RasterizeNdcGradParams<T> p{grad_depth.data<T>(),
                              grad_barycentrics.data<T>(),
                              grad_distances.data<T>(),
                              positions.data<T>(),
                              faces.data<int32_t>(),
                              offsets.data<int32_t>(),
                              corners.data<int32_t>(),
                              face_index.data<int32_t>(),
                              grad_positions.data<T>(),
                              positions.size(0),
                              positions.size(1),
                              faces.size(0),
                              H,
                              W,
                              ndc_rule(H, W, perspective, clip),
                              threads,
                              first.data<uint32_t>(),
                              sums.data<T>()};
  FOCUS_LAUNCH(rasterize_ndc_grad, p, positions);
}

void rasterize_ndc_grad(const py::tuple& grads_, py::handle positions_, py::handle faces_, py::handle offsets_,
                        py::handle corners_, py::handle face_index_, py::handle grad_positions_, bool perspective,
                        bool clip, int threads, const py::args& scratch) {
  const char* op = "rasterize_ndc_grad";
  if (grads_.size() != 3) throw py::value_error("rasterize_ndc_grad(): expected grads to be 3 tensors or None");
  Tensor grad_depth(op, "grad_depth", grads_[0], true), grad_barycentrics(op, "grad_barycentrics", grads_[1], true);
  Tensor grad_distances(op, "grad_distances", grads_[2], true);
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
  grad_depth.like(positions).shaped({B, H, W}).contiguous();
  grad_barycentrics.like(positions).shaped({B, H, W, 3}).contiguous();
  grad_distances.like(positions).shaped({B, H, W}).contiguous();
  grad_positions.like(positions).shaped({B, positions.size(1), 3}).contiguous();
  first.int32().on(positions).shaped({B, faces.size(0)}).contiguous();
  sums.like(positions).shaped({B, 9, H, W}).contiguous();
  auto run = positions.is_float64() ? backward<double> : backward<float>;
  run(grad_depth, grad_barycentrics, grad_distances, positions, faces, offsets, corners, face_index, grad_positions,
      first, sums, perspective, clip, threads);
}

}  // namespace

void bind_rasterize_ndc(py::module_& m) {
  m.def("rasterize_ndc", &rasterize_ndc);
  m.def("rasterize_ndc_grad", &rasterize_ndc_grad);
}

}  // namespace focus
