# Sets FOCUS_HAS_CUDA and enables the language, or says why the build is without CUDA.
set(FOCUS_HAS_CUDA OFF)
if(NOT FOCUS_CUDA)
  message(STATUS "Building without CUDA kernels: FOCUS_CUDA=${FOCUS_CUDA}")
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER AND NOT "$ENV{CUDACXX}" STREQUAL "")
  set(CMAKE_CUDA_COMPILER "$ENV{CUDACXX}")
elseif(NOT CMAKE_CUDA_COMPILER)
  find_program(
    FOCUS_NVCC nvcc
    HINTS ENV CUDA_HOME ENV CUDA_PATH
    PATHS /usr/local/cuda
    PATH_SUFFIXES bin)
  if(FOCUS_NVCC)
    set(CMAKE_CUDA_COMPILER "${FOCUS_NVCC}")
  endif()
endif()
# Later GPUs run the PTX, which the driver compiles at the first use. 100-real would make the CUDA build 1.6 times as long
# and 1.3 MB larger, and needs nvcc 12.8; that all kernels compile for it is checked in tests/test_kernel_resources.py.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
endif()
string(REPLACE ";" " " FOCUS_CUDA_ARCHS "${CMAKE_CUDA_ARCHITECTURES}")
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)

# nvcc itself compiles and links a kernel, so that a broken toolkit is an answer here and not the end of the build.
function(focus_check_cuda)
  set(flags -std=c++17 -cudart static)
  foreach(arch ${CMAKE_CUDA_ARCHITECTURES})
    if(arch MATCHES "^([0-9]+[af]?)(-real|-virtual)?$")
      set(number ${CMAKE_MATCH_1})
      if(NOT arch MATCHES "-virtual$")
        list(APPEND flags -gencode arch=compute_${number},code=sm_${number})
      endif()
      if(NOT arch MATCHES "-real$")
        list(APPEND flags -gencode arch=compute_${number},code=compute_${number})
      endif()
    else()
      list(APPEND flags -arch=${arch})
    endif()
  endforeach()
  if(CMAKE_CUDA_HOST_COMPILER)
    list(APPEND flags -ccbin ${CMAKE_CUDA_HOST_COMPILER})
  elseif(NOT "$ENV{CUDAHOSTCXX}" STREQUAL "")
    list(APPEND flags -ccbin "$ENV{CUDAHOSTCXX}")
  endif()
  message(STATUS "Checking that ${CMAKE_CUDA_COMPILER} works")
  execute_process(
    COMMAND "${CMAKE_CUDA_COMPILER}" ${flags} "${CMAKE_SOURCE_DIR}/cmake/cuda_check.cu" -o
            "${CMAKE_BINARY_DIR}/cuda_check"
    RESULT_VARIABLE failed
    OUTPUT_VARIABLE log
    ERROR_VARIABLE log)
  if(failed)
    string(REPLACE "\n" "\n    " log "${failed}\n${log}")
    set(problem
        "${CMAKE_CUDA_COMPILER} cannot build a kernel for ${FOCUS_CUDA_ARCHS}: ${log}"
        PARENT_SCOPE)
  else()
    set(FOCUS_CUDA_WORKS
        ON
        CACHE INTERNAL "nvcc builds and links a kernel for the architectures asked for")
  endif()
endfunction()

set(problem "")
if(NOT CMAKE_CUDA_COMPILER)
  set(problem "nvcc was not found (install the CUDA toolkit, or set CUDACXX=/path/to/nvcc)")
elseif(NOT FOCUS_CUDA_WORKS)
  focus_check_cuda()
endif()

if(NOT problem)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(FOCUS_HAS_CUDA ON)
  message(STATUS "CUDA kernels for ${FOCUS_CUDA_ARCHS}")
elseif(NOT FOCUS_CUDA STREQUAL "AUTO")
  message(FATAL_ERROR "FOCUS_CUDA=${FOCUS_CUDA}, but ${problem}")
elseif(CMAKE_CUDA_COMPILER)
  message(WARNING "Building without CUDA kernels: ${problem}")
else()
  message(STATUS "Building without CUDA kernels: ${problem}")
endif()
