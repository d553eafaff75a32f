// The one extension module. Every op adds itself by one line.
#include <pybind11/pybind11.h>

#include <string>

#include "core/cpu.h"
#include "core/parallel.h"

namespace focus {
void bind_blend(pybind11::module_&);
void bind_vertex_normals(pybind11::module_&);
void bind_shade_sh(pybind11::module_&);
void bind_rasterize(pybind11::module_&);
void bind_rasterize_ndc(pybind11::module_&);
void bind_interpolate(pybind11::module_&);
void bind_render_sh(pybind11::module_&);
void bind_antialias(pybind11::module_&);
void bind_masked_pixel_loss(pybind11::module_&);
void bind_neighbor_min_loss(pybind11::module_&);
void bind_rasterize_clip(pybind11::module_&);
#ifdef FOCUS_CUDA_EMULATION
void bind_cuda_emulation(pybind11::module_&);
#endif
}  // namespace focus

PYBIND11_MODULE(_C, m) {
#ifdef FOCUS_CUDA_ARCHS
  m.attr("cuda_archs") = FOCUS_CUDA_ARCHS;
#else
  m.attr("cuda_archs") = pybind11::none();
#endif
#ifdef FOCUS_CUDA_EMULATION
  focus::bind_cuda_emulation(m);
#else
  m.attr("cuda_emulation") = pybind11::none();
#endif
  m.attr("threads_engine") = FOCUS_THREADS_NAME;
  m.def("cpu_isa", [] { return std::string(focus::isa_name(focus::isa())); });
  m.def("set_cpu_isa", [](const std::string& name) { focus::set_isa(name.c_str()); });
  focus::bind_blend(m);
  focus::bind_vertex_normals(m);
  focus::bind_shade_sh(m);
  focus::bind_rasterize(m);
  focus::bind_rasterize_ndc(m);
  focus::bind_interpolate(m);
  focus::bind_render_sh(m);
  focus::bind_antialias(m);
  focus::bind_masked_pixel_loss(m);
  focus::bind_neighbor_min_loss(m);
  focus::bind_rasterize_clip(m);
}
