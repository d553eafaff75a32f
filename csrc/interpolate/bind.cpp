// interpolate as Python sees it: check every argument by name, fill the params, launch.
#include "core/launch.h"
#include "interpolate/interpolate.h"

namespace py = pybind11;

namespace focus {
namespace {

template <class T>
void forward(const Tensor& attributes, const Tensor& faces, const Tensor& face_index, const Tensor& barycentrics,
             const Tensor& out, int threads) {
  InterpolateParams<T> p{attributes.data<T>(),   faces.data<int32_t>(), face_index.data<int32_t>(),
                         barycentrics.data<T>(), out.data<T>(),         attributes.size(0),
                         attributes.size(1),     attributes.size(2),    faces.size(0),
                         face_index.size(1),     face_index.size(2),    threads};
  FOCUS_LAUNCH(interpolate, p, attributes);
}

void interpolate(py::handle attributes_, py::handle faces_, py::handle face_index_, py::handle barycentrics_,
                 py::handle out_, int threads) {
  const char* op = "interpolate";
  Tensor attributes(op, "attributes", attributes_), faces(op, "faces", faces_);
  Tensor face_index(op, "face_index", face_index_), barycentrics(op, "barycentrics", barycentrics_);
  Tensor out(op, "out", out_);
  attributes.floating().shaped({-1, -1, -1}).contiguous();
  faces.int32().on(attributes).shaped({-1, 3}).contiguous();
  face_index.int32().on(attributes).shaped({attributes.size(0), -1, -1}).contiguous();
  const int64_t B = attributes.size(0), H = face_index.size(1), W = face_index.size(2);
  barycentrics.like(attributes).shaped({B, H, W, 3}).contiguous();
  out.like(attributes).shaped({B, attributes.size(2), H, W}).contiguous();
  auto run = attributes.is_float64() ? forward<double> : forward<float>;
  run(attributes, faces, face_index, barycentrics, out, threads);
}

template <class T>
void backward(const Tensor& grad, const Tensor& attributes, const Tensor& faces, const Tensor& offsets,
              const Tensor& corners, const Tensor& face_index, const Tensor& barycentrics,
              const Tensor& grad_attributes, const Tensor& grad_barycentrics, const Tensor& boxes, int threads) {
  InterpolateGradParams<T> p{grad.data<T>(),
                             attributes.data<T>(),
                             faces.data<int32_t>(),
                             offsets.data<int32_t>(),
                             corners.data<int32_t>(),
                             face_index.data<int32_t>(),
                             barycentrics.data<T>(),
                             grad_attributes.data<T>(),
                             grad_barycentrics.data<T>(),
                             boxes.data<int32_t>(),
                             attributes.size(0),
                             attributes.size(1),
                             attributes.size(2),
                             faces.size(0),
                             face_index.size(1),
                             face_index.size(2),
                             threads};
  FOCUS_LAUNCH(interpolate_grad, p, attributes);
}

void interpolate_grad(py::handle grad_, py::handle attributes_, py::handle faces_, py::handle offsets_,
                      py::handle corners_, py::handle face_index_, py::handle barycentrics_,
                      py::handle grad_attributes_, py::handle grad_barycentrics_, py::handle boxes_, int threads) {
  const char* op = "interpolate_grad";
  Tensor grad(op, "grad", grad_), attributes(op, "attributes", attributes_), faces(op, "faces", faces_);
  Tensor offsets(op, "offsets", offsets_), corners(op, "corners", corners_);
  Tensor face_index(op, "face_index", face_index_), barycentrics(op, "barycentrics", barycentrics_);
  Tensor grad_attributes(op, "grad_attributes", grad_attributes_);
  Tensor grad_barycentrics(op, "grad_barycentrics", grad_barycentrics_), boxes(op, "boxes", boxes_, true);
  attributes.floating().shaped({-1, -1, -1}).contiguous();
  const int64_t B = attributes.size(0), V = attributes.size(1), C = attributes.size(2);
  faces.int32().on(attributes).shaped({-1, 3}).contiguous();
  offsets.int32().on(attributes).shaped({V + 1}).contiguous();
  corners.int32().on(attributes).shaped({3 * faces.size(0)}).contiguous();
  face_index.int32().on(attributes).shaped({B, -1, -1}).contiguous();
  const int64_t H = face_index.size(1), W = face_index.size(2);
  grad.like(attributes).shaped({B, C, H, W}).contiguous();
  for (const Tensor* t : {&barycentrics, &grad_barycentrics}) t->like(attributes).shaped({B, H, W, 3}).contiguous();
  grad_attributes.like(attributes).shaped({B, V, C}).contiguous();
  boxes.int32().on(attributes).shaped({B, faces.size(0), 4}).contiguous();
  auto run = attributes.is_float64() ? backward<double> : backward<float>;
  run(grad, attributes, faces, offsets, corners, face_index, barycentrics, grad_attributes, grad_barycentrics, boxes,
      threads);
}

}  // namespace

void bind_interpolate(py::module_& m) {
  m.def("interpolate", &interpolate);
  m.def("interpolate_grad", &interpolate_grad);
}

}  // namespace focus
