// A Python tensor seen from C++: borrowed for one call, checked by name.
// The only header that knows Python; kernels never include it.
#pragma once
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <string>

#include "core/dlpack_abi.h"

struct CUstream_st;
using cudaStream_t = CUstream_st*;

namespace focus {

enum class Element { f32, f64, f16, bf16 };

class Tensor {
 public:
  // Throws TypeError if `object` is no strided CPU/CUDA tensor. None is legal where `optional`: then defined() is
  // false, data() is nullptr and every check passes.
  Tensor(const char* op, const char* name, pybind11::handle object, bool optional = false);

  bool defined() const { return api_ != nullptr; }
  int64_t size(int dim) const { return dl_.shape[dim]; }
  DLDevice device() const { return dl_.device; }
  int64_t stride(int dim) const;  // in elements
  bool is_float64() const { return dl_.dtype.bits == 64; }
  Element element() const;  // after floating() or image()
  cudaStream_t stream() const;

  // Each check returns *this, so an argument is checked in one readable line.
  const Tensor& floating() const;                                   // float32 or float64
  const Tensor& image() const;                                      // or float16 or bfloat16
  const Tensor& float64() const;                                    // float64
  const Tensor& sum_of(const Tensor& other) const;                  // float64 for float64, float32 for the others
  const Tensor& uint8() const;                                      // uint8
  const Tensor& int32() const;                                      // int32
  const Tensor& int64() const;                                      // int64
  const Tensor& shaped(std::initializer_list<int64_t> want) const;  // -1 matches any size
  const Tensor& contiguous() const;
  const Tensor& rows() const;                     // contiguous but for the first dimension, which may have any stride
  const Tensor& like(const Tensor& other) const;  // same dtype and device
  const Tensor& on(const Tensor& other) const;    // same device

  template <class T>
  T* data() const {
    return defined() ? reinterpret_cast<T*>(static_cast<char*>(dl_.data) + dl_.byte_offset) : nullptr;
  }

 private:
  [[noreturn]] void fail(PyObject* kind, const std::string& expected, const std::string& got) const;
  const Tensor& floating_of(int bits) const;
  const Tensor& closed_up(int first) const;  // no gaps in dimensions `first` and up
  std::string sizes() const;
  const char* op_;
  const char* name_;
  const DLPackExchangeAPI* api_;
  DLTensor dl_;
};

}  // namespace focus
