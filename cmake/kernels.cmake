# What all kernels are compiled with, and how an op becomes part of the module.
include(CheckCXXCompilerFlag)

if(NOT FOCUS_THREADS STREQUAL "std")
  find_package(OpenMP COMPONENTS CXX)
  if(FOCUS_THREADS STREQUAL "openmp" AND NOT OpenMP_CXX_FOUND)
    message(FATAL_ERROR "FOCUS_THREADS=openmp, but this compiler has no OpenMP (Debian, Ubuntu with clang: libomp-dev)")
  endif()
endif()

add_library(focus_options INTERFACE)
target_include_directories(focus_options INTERFACE csrc)
# No contraction: face ids must be equal, bit for bit, on every CPU and GPU. The last two change no value;
# they let loops with square roots and comparisons become vector code.
set(cxx_flags -Wall -Wextra -ffp-contract=off -fno-math-errno -fno-trapping-math)
set(cuda_flags -fmad=false -Xcompiler=-Wall,-Wextra,-ffp-contract=off)
if(FOCUS_WERROR)
  list(APPEND cxx_flags -Werror)
  list(APPEND cuda_flags -Werror=all-warnings -Xcompiler=-Werror)
endif()
target_compile_options(focus_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${cxx_flags}>"
                                               "$<$<COMPILE_LANGUAGE:CUDA>:${cuda_flags}>")
target_link_libraries(focus_options INTERFACE Threads::Threads)
focus_sanitize(focus_options)
if(OpenMP_CXX_FOUND)
  target_compile_definitions(focus_options INTERFACE FOCUS_OPENMP)
  target_compile_options(focus_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${OpenMP_CXX_FLAGS}>")
  target_link_libraries(focus_options INTERFACE ${OpenMP_CXX_LIBRARIES})
endif()
if(FOCUS_CUDA_EMULATION)
  target_compile_definitions(focus_options INTERFACE FOCUS_CUDA_EMULATION)
elseif(FOCUS_HAS_CUDA)
  target_compile_definitions(focus_options INTERFACE "FOCUS_CUDA_ARCHS=\"${FOCUS_CUDA_ARCHS}\"")
endif()

set(FOCUS_ISAS baseline)
# Emulated CUDA leaves nothing to the vectors of a processor.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$"
   AND CMAKE_SIZEOF_VOID_P EQUAL 8
   AND NOT FOCUS_CUDA_EMULATION)
  set(FOCUS_FLAGS_avx2 -mavx2 -mfma -mf16c)
  set(FOCUS_FLAGS_avx512 -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mf16c)
  check_cxx_compiler_flag("-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx2 -mfma -mf16c" FOCUS_X86_SIMD)
  if(FOCUS_X86_SIMD)
    list(APPEND FOCUS_ISAS avx2 avx512)
    target_compile_definitions(focus_options INTERFACE FOCUS_X86_SIMD)
    if(FOCUS_AVX512_EMULATION)
      set(FOCUS_FLAGS_avx512 ${FOCUS_FLAGS_avx2} "SHELL:-include ${CMAKE_SOURCE_DIR}/tests/avx512_emulation/avx512.h")
      target_compile_definitions(focus_options INTERFACE FOCUS_AVX512_EMULATION)
    endif()
  endif()
endif()

# The kernels do not see pybind11: its path changes with each isolated build, and they need not be compiled again.
function(focus_op op)
  cmake_parse_arguments(arg "SIMD;CPU_ONLY" "" "" ${ARGN})
  if(FOCUS_CUDA_EMULATION AND NOT arg_CPU_ONLY)
    focus_emulated(${op} csrc/${op}/${op}_cuda.cu)
    set_property(GLOBAL APPEND PROPERTY FOCUS_BINDINGS csrc/${op}/bind.cpp)
    set_property(GLOBAL APPEND PROPERTY FOCUS_KERNELS ${op})
    return()
  endif()
  set(sources csrc/${op}/${op}_cpu.cpp)
  if(FOCUS_HAS_CUDA AND NOT arg_CPU_ONLY)
    list(APPEND sources csrc/${op}/${op}_cuda.cu)
  endif()
  add_library(${op} OBJECT ${sources})
  target_link_libraries(${op} PRIVATE focus_options)
  set_property(GLOBAL APPEND PROPERTY FOCUS_BINDINGS csrc/${op}/bind.cpp)
  set_property(GLOBAL APPEND PROPERTY FOCUS_KERNELS ${op})
  if(NOT arg_SIMD)
    return()
  endif()
  foreach(isa ${FOCUS_ISAS})
    add_library(${op}_${isa} OBJECT csrc/${op}/${op}_simd.cpp)
    target_link_libraries(${op}_${isa} PRIVATE focus_options)
    target_compile_definitions(${op}_${isa} PRIVATE FOCUS_ISA=${isa})
    target_compile_options(${op}_${isa} PRIVATE ${FOCUS_FLAGS_${isa}})
    set_property(GLOBAL APPEND PROPERTY FOCUS_SIMD_${isa} ${op}_${isa})
  endforeach()
endfunction()

# The order of linking is part of the dispatch: of an inline function that several objects carry, the linker keeps
# the first, so code for a wider machine must come after code for a narrower one.
function(focus_module)
  get_property(bindings GLOBAL PROPERTY FOCUS_BINDINGS)
  get_property(libraries GLOBAL PROPERTY FOCUS_KERNELS)
  foreach(isa ${FOCUS_ISAS})
    get_property(simd GLOBAL PROPERTY FOCUS_SIMD_${isa})
    list(APPEND libraries ${simd})
  endforeach()
  pybind11_add_module(_C MODULE NO_EXTRAS ${ARGN} ${bindings})
  target_link_libraries(_C PRIVATE focus_options)
  foreach(library ${libraries})
    target_sources(_C PRIVATE $<TARGET_OBJECTS:${library}>)
  endforeach()
  set_target_properties(
    _C
    PROPERTIES PREFIX ""
               SUFFIX ""
               OUTPUT_NAME "_C.so"
               LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}")
endfunction()
