// _C.cuda_emulation: the seed of the order, and which kernels have run.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "emulation.h"

namespace focus {

void bind_cuda_emulation(pybind11::module_& m) {
  pybind11::module_ emulation = m.def_submodule("cuda_emulation");
  emulation.def("set_seed", [](uint64_t seed) { cuda_emulation::set_seed(seed); });
  emulation.def("launches", [] { return cuda_emulation::launches(); });
}

}  // namespace focus
