#include "core/tensor.h"

namespace py = pybind11;

namespace focus {
namespace {

// The table is a constant of the tensor type: look it up once per type. The GIL guards the cache.
const DLPackExchangeAPI* exchange_api(PyTypeObject* type) {
  static PyTypeObject* last_type = nullptr;
  static const DLPackExchangeAPI* last_api = nullptr;
  if (type == last_type) return last_api;
  PyObject* capsule = PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
  if (capsule == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  auto api = static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  Py_DECREF(capsule);
  if (api == nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  while (api != nullptr && api->header.version.major != 1)
    api = reinterpret_cast<const DLPackExchangeAPI*>(api->header.prev_api);
  if (api == nullptr) return nullptr;
  Py_INCREF(type);  // a cached type must not be freed and its address used again
  Py_XDECREF(last_type);
  last_type = type;
  return last_api = api;
}

std::string dtype_name(DLDataType t) {
  const char* kind = t.code == kDLFloat    ? "float"
                     : t.code == kDLBfloat ? "bfloat"
                     : t.code == kDLInt    ? "int"
                     : t.code == kDLUInt   ? "uint"
                                           : "dtype";
  return kind + std::to_string(t.bits);
}

std::string device_name(DLDevice d) { return d.device_type == kDLCPU ? "cpu" : "cuda:" + std::to_string(d.device_id); }

}  // namespace

Tensor::Tensor(const char* op, const char* name, py::handle object, bool optional)
    : op_(op), name_(name), api_(nullptr), dl_{} {
  if (optional && object.is_none()) return;
  api_ = exchange_api(Py_TYPE(object.ptr()));
  if (api_ == nullptr) fail(PyExc_TypeError, "a torch.Tensor", Py_TYPE(object.ptr())->tp_name);
  if (api_->dltensor_from_py_object_no_sync(object.ptr(), &dl_) != 0) throw py::error_already_set();
  if (dl_.device.device_type != kDLCPU && dl_.device.device_type != kDLCUDA)
    fail(PyExc_ValueError, "a CPU or CUDA tensor", "DLPack device type " + std::to_string(dl_.device.device_type));
}

cudaStream_t Tensor::stream() const {
  void* stream = nullptr;
  if (api_->current_work_stream(dl_.device.device_type, dl_.device.device_id, &stream) != 0)
    throw py::error_already_set();
  return static_cast<cudaStream_t>(stream);
}

const Tensor& Tensor::floating() const {
  if (defined() && (dl_.dtype.code != kDLFloat || (dl_.dtype.bits != 32 && dl_.dtype.bits != 64)))
    fail(PyExc_TypeError, "float32 or float64", dtype_name(dl_.dtype));
  return *this;
}

Element Tensor::element() const {
  if (dl_.dtype.code == kDLBfloat) return Element::bf16;
  return dl_.dtype.bits == 64 ? Element::f64 : dl_.dtype.bits == 32 ? Element::f32 : Element::f16;
}

const Tensor& Tensor::image() const {
  const bool half = (dl_.dtype.code == kDLFloat || dl_.dtype.code == kDLBfloat) && dl_.dtype.bits == 16;
  if (!defined() || half) return *this;
  if (dl_.dtype.code != kDLFloat || (dl_.dtype.bits != 32 && dl_.dtype.bits != 64))
    fail(PyExc_TypeError, "float32, float64, float16 or bfloat16", dtype_name(dl_.dtype));
  return *this;
}

const Tensor& Tensor::float64() const { return floating_of(64); }

const Tensor& Tensor::sum_of(const Tensor& other) const {
  return floating_of(other.element() == Element::f64 ? 64 : 32);
}

const Tensor& Tensor::floating_of(int bits) const {
  if (defined() && (dl_.dtype.code != kDLFloat || dl_.dtype.bits != bits))
    fail(PyExc_TypeError, bits == 64 ? "float64" : "float32", dtype_name(dl_.dtype));
  return *this;
}

const Tensor& Tensor::uint8() const {
  if (defined() && (dl_.dtype.code != kDLUInt || dl_.dtype.bits != 8))
    fail(PyExc_TypeError, "uint8", dtype_name(dl_.dtype));
  return *this;
}

const Tensor& Tensor::int32() const {
  if (defined() && (dl_.dtype.code != kDLInt || dl_.dtype.bits != 32))
    fail(PyExc_TypeError, "int32", dtype_name(dl_.dtype));
  return *this;
}

const Tensor& Tensor::int64() const {
  if (defined() && (dl_.dtype.code != kDLInt || dl_.dtype.bits != 64))
    fail(PyExc_TypeError, "int64", dtype_name(dl_.dtype));
  return *this;
}

const Tensor& Tensor::shaped(std::initializer_list<int64_t> want) const {
  if (!defined()) return *this;
  bool ok = dl_.ndim == static_cast<int32_t>(want.size());
  int i = 0;
  for (int64_t w : want) {
    ok = ok && (w < 0 || dl_.shape[i] == w);
    ++i;
  }
  if (ok) return *this;
  std::string expected = "shape [";
  for (int64_t w : want)
    expected += (expected.back() == '[' ? "" : ", ") + (w < 0 ? std::string("*") : std::to_string(w));
  fail(PyExc_ValueError, expected + "]", sizes());
}

const Tensor& Tensor::contiguous() const { return closed_up(0); }

const Tensor& Tensor::rows() const { return closed_up(1); }

const Tensor& Tensor::closed_up(int first) const {
  if (!defined()) return *this;
  for (int i = 0; i < dl_.ndim; ++i)
    if (dl_.shape[i] == 0) return *this;
  int64_t run = 1;
  for (int i = dl_.ndim - 1; i >= first; run *= dl_.shape[i--])
    if (dl_.strides != nullptr && dl_.shape[i] > 1 && dl_.strides[i] != run)
      fail(PyExc_ValueError, first == 0 ? "a contiguous tensor" : "a tensor with contiguous rows",
           "strides that skip (call .contiguous())");
  return *this;
}

int64_t Tensor::stride(int dim) const {
  if (dl_.strides != nullptr) return dl_.strides[dim];
  int64_t run = 1;
  for (int i = dl_.ndim - 1; i > dim; --i) run *= dl_.shape[i];
  return run;
}

const Tensor& Tensor::like(const Tensor& other) const {
  if (!defined()) return *this;
  if (dl_.dtype.code != other.dl_.dtype.code || dl_.dtype.bits != other.dl_.dtype.bits)
    fail(PyExc_TypeError, dtype_name(other.dl_.dtype) + " as " + other.name_, dtype_name(dl_.dtype));
  return on(other);
}

const Tensor& Tensor::on(const Tensor& other) const {
  if (!defined()) return *this;
  if (dl_.device.device_type != other.dl_.device.device_type || dl_.device.device_id != other.dl_.device.device_id)
    fail(PyExc_ValueError, "on " + device_name(other.dl_.device) + " as " + other.name_, device_name(dl_.device));
  return *this;
}

std::string Tensor::sizes() const {
  std::string s = "[";
  for (int i = 0; i < dl_.ndim; ++i) s += (i ? ", " : "") + std::to_string(dl_.shape[i]);
  return s + "]";
}

void Tensor::fail(PyObject* kind, const std::string& expected, const std::string& got) const {
  PyErr_SetString(kind, (std::string(op_) + "(): expected " + name_ + " to be " + expected + ", got " + got).c_str());
  throw py::error_already_set();
}

}  // namespace focus
