# The CUDA kernels as plain C++ on tests/cuda_emulation, in place of the CPU kernels. scripts/check.py builds it.
set(FOCUS_HAS_CUDA OFF)
set(emulation tests/cuda_emulation)
if(FOCUS_CUDA STREQUAL "ON")
  message(FATAL_ERROR "FOCUS_CUDA=ON and FOCUS_CUDA_EMULATION=ON exclude each other")
endif()
if(FOCUS_SANITIZE STREQUAL "thread")
  message(FATAL_ERROR "FOCUS_CUDA_EMULATION has a log of accesses of its own, which takes the place of "
                      "FOCUS_SANITIZE=thread")
endif()

# An object library of .cu files. Every load and store calls the log of shadow.cpp, unless a sanitizer is at work.
function(focus_emulated name)
  add_library(${name} OBJECT ${ARGN})
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
  target_include_directories(${name} PRIVATE ${emulation})
  target_link_libraries(${name} PRIVATE focus_options)
  target_compile_options(${name} PRIVATE -g1 -Wno-unknown-pragmas)
  if(NOT FOCUS_SANITIZE)
    target_compile_options(${name} PRIVATE -fsanitize=thread)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(${name} PRIVATE --param=tsan-distinguish-volatile=1
                                             --param=tsan-instrument-func-entry-exit=0)
    else()
      target_compile_options(${name} PRIVATE "SHELL:-mllvm -tsan-distinguish-volatile"
                                             "SHELL:-mllvm -tsan-instrument-func-entry-exit=0")
    endif()
  endif()
endfunction()

function(focus_cuda_emulation)
  add_library(cuda_emulation OBJECT ${emulation}/emulation.cpp ${emulation}/shadow.cpp)
  target_link_libraries(cuda_emulation PRIVATE focus_options ${CMAKE_DL_LIBS})
  set_property(GLOBAL APPEND PROPERTY FOCUS_BINDINGS ${emulation}/bind.cpp)
  set_property(GLOBAL APPEND PROPERTY FOCUS_KERNELS cuda_emulation)
endfunction()

# The planted bugs that the emulation must find: not part of the module.
function(focus_planted)
  focus_emulated(planted_kernels ${emulation}/planted.cu)
  add_executable(planted EXCLUDE_FROM_ALL $<TARGET_OBJECTS:planted_kernels> $<TARGET_OBJECTS:cuda_emulation>)
  target_link_libraries(planted PRIVATE focus_options ${CMAKE_DL_LIBS})
  set_target_properties(planted PROPERTIES ENABLE_EXPORTS ON)
  set_target_properties(planted_kernels PROPERTIES EXCLUDE_FROM_ALL ON)
endfunction()
