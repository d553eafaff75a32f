// render_sh as Python sees it: check every argument by name, fill the params, launch.
#include "core/launch.h"
#include "render_sh/render_sh.h"

namespace py = pybind11;

namespace focus {
namespace {

struct SceneArgs {
  Tensor vertices, albedo, sh_coeffs, faces, offsets, corners, K, R, t;
  SceneArgs(const char* op, const py::tuple& scene)
      : vertices(op, "vertices", scene[0]),
        albedo(op, "albedo", scene[1]),
        sh_coeffs(op, "sh_coeffs", scene[2]),
        faces(op, "faces", scene[3]),
        offsets(op, "offsets", scene[4]),
        corners(op, "corners", scene[5]),
        K(op, "K", scene[6]),
        R(op, "R", scene[7]),
        t(op, "t", scene[8]) {
    vertices.floating().shaped({-1, -1, 3}).contiguous();
    const int64_t B = vertices.size(0), V = vertices.size(1);
    albedo.like(vertices).shaped({B, V, 3}).contiguous();
    sh_coeffs.like(vertices).shaped({B, 3, 9}).contiguous();
    faces.int32().on(vertices).shaped({-1, 3}).contiguous();
    offsets.int32().on(vertices).shaped({V + 1}).contiguous();
    corners.int32().on(vertices).shaped({3 * faces.size(0)}).contiguous();
    K.like(vertices).shaped({B, 3, 3}).contiguous();
    R.like(vertices).shaped({B, 3, 3}).contiguous();
    t.like(vertices).shaped({B, 3}).contiguous();
  }
  template <class T>
  Scene<T> fill(int64_t H, int64_t W, bool orthographic, bool focus, int threads) const {
    return {vertices.data<T>(),
            albedo.data<T>(),
            sh_coeffs.data<T>(),
            K.data<T>(),
            R.data<T>(),
            t.data<T>(),
            faces.data<int32_t>(),
            offsets.data<int32_t>(),
            corners.data<int32_t>(),
            vertices.size(0),
            vertices.size(1),
            faces.size(0),
            H,
            W,
            orthographic,
            focus,
            threads};
  }
};

void render_sh(const py::tuple& scene_, py::handle image_, py::handle mask_, py::handle face_index_,
               py::handle barycentrics_, py::handle depth_, py::handle positions_, py::handle colors_, py::handle keys_,
               py::handle spill_, int coverage, int cull, bool perspective, bool highest, bool orthographic, bool focus,
               int threads) {
  const char* op = "render_sh";
  SceneArgs scene(op, scene_);
  const Tensor& vertices = scene.vertices;
  const int64_t B = vertices.size(0), V = vertices.size(1), F = scene.faces.size(0);
  Tensor image(op, "image", image_), mask(op, "mask", mask_), face_index(op, "face_index", face_index_);
  Tensor barycentrics(op, "barycentrics", barycentrics_), depth(op, "depth", depth_);
  Tensor positions(op, "positions", positions_), colors(op, "colors", colors_, true);
  Tensor keys(op, "keys", keys_, true), spill(op, "spill", spill_, true);
  face_index.int32().on(vertices).shaped({B, -1, -1}).contiguous();
  const int64_t H = face_index.size(1), W = face_index.size(2);
  image.like(vertices).shaped({B, 3, H, W}).contiguous();
  mask.like(vertices).shaped({B, 1, H, W}).contiguous();
  barycentrics.like(vertices).shaped({B, H, W, 3}).contiguous();
  depth.like(vertices).shaped({B, H, W}).contiguous();
  positions.like(vertices).shaped({B, V, 3}).contiguous();
  colors.like(vertices).shaped({B, V, 4}).contiguous();
  keys.int64().on(vertices).shaped({B, H, W}).contiguous();
  spill.int64().on(vertices).shaped({B * F + 1}).contiguous();
  auto go = [&](auto zero) {
    using T = decltype(zero);
    RenderShParams<T> p{scene.fill<T>(H, W, orthographic, focus, threads),
                        image.data<T>(),
                        mask.data<T>(),
                        face_index.data<int32_t>(),
                        barycentrics.data<T>(),
                        depth.data<T>(),
                        positions.data<T>(),
                        {coverage, cull, perspective, highest},
                        colors.data<T>(),
                        keys.data<uint64_t>(),
                        spill.data<int64_t>()};
    FOCUS_LAUNCH(render_sh, p, vertices);
  };
  vertices.is_float64() ? go(0.0) : go(0.0f);
}

void render_sh_grad(const py::tuple& grads_, const py::tuple& scene_, py::handle positions_, py::handle face_index_,
                    const py::tuple& outs_, py::handle colors_, py::handle grad_sums_, py::handle partial_,
                    bool perspective, bool orthographic, bool focus, int threads, const py::args& scratch) {
  const char* op = "render_sh_grad";
  SceneArgs scene(op, scene_);
  const Tensor& vertices = scene.vertices;
  const int64_t B = vertices.size(0), V = vertices.size(1);
  Tensor positions(op, "positions", positions_), face_index(op, "face_index", face_index_);
  face_index.int32().on(vertices).shaped({B, -1, -1}).contiguous();
  const int64_t H = face_index.size(1), W = face_index.size(2);
  positions.like(vertices).shaped({B, V, 3}).contiguous();
  Tensor grad_image(op, "grad_image", grads_[0], true), grad_barycentrics(op, "grad_barycentrics", grads_[1], true);
  Tensor grad_depth(op, "grad_depth", grads_[2], true), grad_positions(op, "grad_positions", grads_[3], true);
  grad_image.like(vertices).shaped({B, 3, H, W}).contiguous();
  grad_barycentrics.like(vertices).shaped({B, H, W, 3}).contiguous();
  grad_depth.like(vertices).shaped({B, H, W}).contiguous();
  grad_positions.like(vertices).shaped({B, V, 3}).contiguous();
  Tensor grad_vertices(op, "grad_vertices", outs_[0]), grad_albedo(op, "grad_albedo", outs_[1]);
  Tensor grad_sh_coeffs(op, "grad_sh_coeffs", outs_[2]), grad_K(op, "grad_K", outs_[3]);
  Tensor grad_R(op, "grad_R", outs_[4]), grad_t(op, "grad_t", outs_[5]);
  grad_vertices.like(vertices).shaped({B, V, 3}).contiguous();
  grad_albedo.like(vertices).shaped({B, V, 3}).contiguous();
  grad_sh_coeffs.like(vertices).shaped({B, 3, 9}).contiguous();
  grad_K.like(vertices).shaped({B, 3, 3}).contiguous();
  grad_R.like(vertices).shaped({B, 3, 3}).contiguous();
  grad_t.like(vertices).shaped({B, 3}).contiguous();
  Tensor colors(op, "colors", colors_, true), grad_sums(op, "grad_sums", grad_sums_, true);
  const auto given = [&](size_t i) { return i < scratch.size() ? py::handle(scratch[i]) : py::handle(Py_None); };
  Tensor partial(op, "partial", partial_, true);
  Tensor first(op, "first", given(0), true), sums(op, "sums", given(1), true);
  colors.like(vertices).shaped({B, V, 4}).contiguous();
  grad_sums.like(vertices).shaped({B, V, 4}).contiguous();
  partial.like(vertices).shaped({B, (V + kRenderPart - 1) / kRenderPart, kRenderSums}).contiguous();
  first.int32().on(vertices).shaped({B, scene.faces.size(0)}).contiguous();
  sums.like(vertices).shaped({B, 18, H, W}).contiguous();
  auto go = [&](auto zero) {
    using T = decltype(zero);
    RenderShGradParams<T> p{scene.fill<T>(H, W, orthographic, focus, threads),
                            grad_image.data<T>(),
                            grad_barycentrics.data<T>(),
                            grad_depth.data<T>(),
                            grad_positions.data<T>(),
                            positions.data<T>(),
                            face_index.data<int32_t>(),
                            perspective,
                            grad_vertices.data<T>(),
                            grad_albedo.data<T>(),
                            grad_sh_coeffs.data<T>(),
                            grad_K.data<T>(),
                            grad_R.data<T>(),
                            grad_t.data<T>(),
                            colors.data<T>(),
                            grad_sums.data<T>(),
                            partial.data<T>(),
                            first.data<uint32_t>(),
                            sums.data<T>()};
    FOCUS_LAUNCH(render_sh_grad, p, vertices);
  };
  vertices.is_float64() ? go(0.0) : go(0.0f);
}

}  // namespace

void bind_render_sh(py::module_& m) {
  m.def("render_sh", &render_sh);
  m.def("render_sh_grad", &render_sh_grad);
}

}  // namespace focus
