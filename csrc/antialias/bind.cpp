// antialias as Python sees it: check every argument by name, fill the params, launch.
#include "antialias/antialias.h"
#include "core/launch.h"

namespace py = pybind11;

namespace focus {
namespace {

AntialiasMesh mesh_of(const Tensor& image, const Tensor& positions, const Tensor& faces) {
  image.floating().shaped({-1, -1, -1, -1}).contiguous();
  positions.like(image).shaped({image.size(0), -1, 3}).contiguous();
  faces.int32().on(image).shaped({-1, 3}).contiguous();
  return {faces.data<int32_t>(), image.size(0), positions.size(1), faces.size(0), image.size(2), image.size(3)};
}

template <class T>
void forward(const AntialiasMesh& mesh, const Tensor& image, const Tensor& positions, const Tensor& opposite,
             const Tensor& face_index, const Tensor& depth, const Tensor& out, const Tensor& edges, int threads) {
  AntialiasParams<T> p{mesh,
                       image.data<T>(),
                       positions.data<T>(),
                       opposite.data<int32_t>(),
                       face_index.data<int32_t>(),
                       depth.data<T>(),
                       out.data<T>(),
                       edges.data<int32_t>(),
                       image.size(1),
                       threads};
  FOCUS_LAUNCH(antialias, p, image);
}

void antialias(py::handle image_, py::handle positions_, py::handle faces_, py::handle opposite_,
               py::handle face_index_, py::handle depth_, py::handle out_, py::handle edges_, int threads) {
  const char* op = "antialias";
  Tensor image(op, "image", image_), positions(op, "positions", positions_), faces(op, "faces", faces_);
  Tensor opposite(op, "opposite", opposite_), face_index(op, "face_index", face_index_), depth(op, "depth", depth_);
  Tensor out(op, "out", out_), edges(op, "edges", edges_);
  const AntialiasMesh m = mesh_of(image, positions, faces);
  opposite.int32().on(image).shaped({3 * m.F}).contiguous();
  face_index.int32().on(image).shaped({m.B, m.H, m.W}).contiguous();
  depth.like(image).shaped({m.B, m.H, m.W}).contiguous();
  out.like(image).shaped({m.B, image.size(1), m.H, m.W}).contiguous();
  edges.int32().on(image).shaped({m.B, 2, m.H, m.W}).contiguous();
  auto run = image.is_float64() ? forward<double> : forward<float>;
  run(m, image, positions, opposite, face_index, depth, out, edges, threads);
}

template <class T>
void backward(const AntialiasMesh& mesh, const Tensor& grad, const Tensor& image, const Tensor& positions,
              const Tensor& offsets, const Tensor& corners, const Tensor& edges, const Tensor& grad_image,
              const Tensor& grad_positions, const Tensor& seen, int threads) {
  AntialiasGradParams<T> p{mesh,
                           grad.data<T>(),
                           image.data<T>(),
                           positions.data<T>(),
                           offsets.data<int32_t>(),
                           corners.data<int32_t>(),
                           edges.data<int32_t>(),
                           grad_image.data<T>(),
                           grad_positions.data<T>(),
                           seen.data<uint32_t>(),
                           image.size(1),
                           threads};
  FOCUS_LAUNCH(antialias_grad, p, image);
}

void antialias_grad(py::handle grad_, py::handle image_, py::handle positions_, py::handle faces_, py::handle offsets_,
                    py::handle corners_, py::handle edges_, py::handle grad_image_, py::handle grad_positions_,
                    py::handle seen_, int threads) {
  const char* op = "antialias_grad";
  Tensor grad(op, "grad", grad_), image(op, "image", image_), positions(op, "positions", positions_);
  Tensor faces(op, "faces", faces_), offsets(op, "offsets", offsets_), corners(op, "corners", corners_);
  Tensor edges(op, "edges", edges_), grad_image(op, "grad_image", grad_image_, true);
  Tensor grad_positions(op, "grad_positions", grad_positions_, true), seen(op, "seen", seen_, true);
  const AntialiasMesh m = mesh_of(image, positions, faces);
  for (const Tensor* t : {&grad, &grad_image}) t->like(image).shaped({m.B, image.size(1), m.H, m.W}).contiguous();
  offsets.int32().on(image).shaped({m.V + 1}).contiguous();
  corners.int32().on(image).shaped({3 * m.F}).contiguous();
  edges.int32().on(image).shaped({m.B, 2, m.H, m.W}).contiguous();
  grad_positions.like(image).shaped({m.B, m.V, 3}).contiguous();
  seen.int32().on(image).shaped({m.B, m.F}).contiguous();
  auto run = image.is_float64() ? backward<double> : backward<float>;
  run(m, grad, image, positions, offsets, corners, edges, grad_image, grad_positions, seen, threads);
}

}  // namespace

void bind_antialias(py::module_& m) {
  m.def("antialias", &antialias);
  m.def("antialias_grad", &antialias_grad);
}

}  // namespace focus
