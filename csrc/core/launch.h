// Sends one call to the CPU or the CUDA kernel. A CPU-only build keeps the names and throws; where CUDA is emulated,
// CPU tensors run the CUDA kernels.
#pragma once
#include "core/half.h"
#include "core/tensor.h"

namespace focus {

// Calls run(M{}), M the type in which the numbers of `tensor` lie in memory.
template <class Run>
void by_element(const Tensor& tensor, const Run& run) {
  switch (tensor.element()) {
    case Element::f32:
      return run(float{});
    case Element::f64:
      return run(double{});
    case Element::f16:
      return run(F16{});
    case Element::bf16:
      return run(Bf16{});
  }
}

// The CPU kernels run without the GIL, so that Python threads (data loaders, progress bars) go on.
#define FOCUS_LAUNCH_CPU(name, params)  \
  do {                                  \
    pybind11::gil_scoped_release nogil; \
    name##_cpu(params);                 \
  } while (0)

// An op whose GPU kernels are Triton's.
#define FOCUS_LAUNCH_CPU_ONLY(name, params, tensor)                                                                    \
  do {                                                                                                                 \
    if ((tensor).device().device_type != kDLCPU) throw std::runtime_error(#name "(): expected CPU tensors, got cuda"); \
    FOCUS_LAUNCH_CPU(name, params);                                                                                    \
  } while (0)

#ifdef FOCUS_CUDA_ARCHS
#define FOCUS_LAUNCH(name, params, tensor)                                 \
  do {                                                                     \
    if ((tensor).device().device_type == kDLCPU)                           \
      FOCUS_LAUNCH_CPU(name, params);                                      \
    else                                                                   \
      name##_cuda(params, (tensor).device().device_id, (tensor).stream()); \
  } while (0)
#elif defined(FOCUS_CUDA_EMULATION)
#define FOCUS_LAUNCH(name, params, tensor) \
  do {                                     \
    pybind11::gil_scoped_release nogil;    \
    (void)(tensor);                        \
    name##_cuda(params, 0, nullptr);       \
  } while (0)
#else
#define FOCUS_LAUNCH(name, params, tensor)                                                                  \
  do {                                                                                                      \
    if ((tensor).device().device_type != kDLCPU)                                                            \
      throw std::runtime_error(#name "(): expected CPU tensors, got cuda: this build has no CUDA kernels"); \
    FOCUS_LAUNCH_CPU(name, params);                                                                         \
  } while (0)
#endif

}  // namespace focus
