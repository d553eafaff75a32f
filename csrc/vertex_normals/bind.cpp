// vertex_normals as Python sees it: check every argument by name, fill the params, launch.
#include "core/launch.h"
#include "vertex_normals/vertex_normals.h"

namespace py = pybind11;

namespace focus {
namespace {

struct Mesh {
  Tensor faces, offsets, corners;
  Mesh(const char* op, py::handle faces_, py::handle offsets_, py::handle corners_, const Tensor& vertices)
      : faces(op, "faces", faces_), offsets(op, "offsets", offsets_), corners(op, "corners", corners_) {
    faces.int32().on(vertices).shaped({-1, 3}).contiguous();
    offsets.int32().on(vertices).shaped({vertices.size(1) + 1}).contiguous();
    corners.int32().on(vertices).shaped({3 * faces.size(0)}).contiguous();
  }
};

template <class T>
void forward(const Tensor& vertices, const Mesh& mesh, const Tensor& normals, bool normalize, int threads) {
  VertexNormalsParams<T> p{vertices.data<T>(),
                           mesh.faces.data<int32_t>(),
                           mesh.offsets.data<int32_t>(),
                           mesh.corners.data<int32_t>(),
                           normals.data<T>(),
                           vertices.size(0),
                           vertices.size(1),
                           mesh.faces.size(0),
                           normalize,
                           threads};
  FOCUS_LAUNCH(vertex_normals, p, vertices);
}

void vertex_normals(py::handle vertices_, py::handle faces_, py::handle offsets_, py::handle corners_,
                    py::handle normals_, bool normalize, int threads) {
  const char* op = "vertex_normals";
  Tensor vertices(op, "vertices", vertices_), normals(op, "normals", normals_);
  vertices.floating().shaped({-1, -1, 3}).contiguous();
  Mesh mesh(op, faces_, offsets_, corners_, vertices);
  normals.like(vertices).shaped({vertices.size(0), vertices.size(1), 3}).contiguous();
  (vertices.is_float64() ? forward<double> : forward<float>)(vertices, mesh, normals, normalize, threads);
}

template <class T>
void backward(const Tensor& grad, const Tensor& vertices, const Mesh& mesh, const Tensor& grad_vertices,
              const Tensor& grad_sums, bool normalize, int threads) {
  VertexNormalsGradParams<T> p{grad.data<T>(),
                               vertices.data<T>(),
                               mesh.faces.data<int32_t>(),
                               mesh.offsets.data<int32_t>(),
                               mesh.corners.data<int32_t>(),
                               grad_vertices.data<T>(),
                               grad_sums.data<T>(),
                               vertices.size(0),
                               vertices.size(1),
                               mesh.faces.size(0),
                               normalize,
                               threads};
  FOCUS_LAUNCH(vertex_normals_grad, p, vertices);
}

void vertex_normals_grad(py::handle grad_, py::handle vertices_, py::handle faces_, py::handle offsets_,
                         py::handle corners_, py::handle grad_vertices_, py::handle grad_sums_, bool normalize,
                         int threads) {
  const char* op = "vertex_normals_grad";
  Tensor grad(op, "grad", grad_), vertices(op, "vertices", vertices_);
  Tensor grad_vertices(op, "grad_vertices", grad_vertices_), grad_sums(op, "grad_sums", grad_sums_, true);
  vertices.floating().shaped({-1, -1, 3}).contiguous();
  Mesh mesh(op, faces_, offsets_, corners_, vertices);
  const int64_t B = vertices.size(0), V = vertices.size(1);
  grad.like(vertices).shaped({B, V, 3}).contiguous();
  grad_vertices.like(vertices).shaped({B, V, 3}).contiguous();
  grad_sums.like(vertices).shaped({B, V, 4}).contiguous();
  auto run = vertices.is_float64() ? backward<double> : backward<float>;
  run(grad, vertices, mesh, grad_vertices, grad_sums, normalize, threads);
}

}  // namespace

void bind_vertex_normals(py::module_& m) {
  m.def("vertex_normals", &vertex_normals);
  m.def("vertex_normals_grad", &vertex_normals_grad);
}

}  // namespace focus
