# FOCUS_SANITIZE: a sanitizer over everything that this project compiles. scripts/check.py runs the tests on such builds.
set(FOCUS_SANITIZE
    ""
    CACHE STRING "Sanitizer: empty, address (with undefined behaviour), thread (with FOCUS_THREADS=std)")
set_property(CACHE FOCUS_SANITIZE PROPERTY STRINGS "" address thread)

# Division by zero is defined for IEEE numbers, so it is not among the checks; a cast that does not fit is not defined.
# Not the scopes of variables: with the small lambdas of a kernel they take minutes to compile.
set(sanitize_address -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all
                     -fno-sanitize-address-use-after-scope)
set(sanitize_thread -fsanitize=thread)

# FOCUS_SANITIZE_RUNTIME: what an uninstrumented python has to preload (LD_PRELOAD) before it can load the module.
function(focus_find_sanitizer)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(names_address libasan.so)
    set(names_thread libtsan.so)
  elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    set(names_address libclang_rt.asan-${CMAKE_SYSTEM_PROCESSOR}.so libclang_rt.asan.so)
    set(names_thread libclang_rt.tsan-${CMAKE_SYSTEM_PROCESSOR}.so libclang_rt.tsan.so)
  else()
    message(FATAL_ERROR "FOCUS_SANITIZE=${FOCUS_SANITIZE} is for gcc and clang, got ${CMAKE_CXX_COMPILER_ID}")
  endif()
  foreach(name ${names_${FOCUS_SANITIZE}})
    execute_process(
      COMMAND "${CMAKE_CXX_COMPILER}" -print-file-name=${name}
      OUTPUT_VARIABLE path
      OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(IS_ABSOLUTE "${path}")
      # The sanitizer looks up __cxa_throw as it starts, which python alone does not bring.
      execute_process(
        COMMAND "${CMAKE_CXX_COMPILER}" -print-file-name=libstdc++.so.6
        OUTPUT_VARIABLE standard
        OUTPUT_STRIP_TRAILING_WHITESPACE)
      set(FOCUS_SANITIZE_RUNTIME
          "${path}:${standard}"
          CACHE INTERNAL "What to preload")
      return()
    endif()
  endforeach()
  list(JOIN names_${FOCUS_SANITIZE} " or " names)
  message(FATAL_ERROR "FOCUS_SANITIZE=${FOCUS_SANITIZE}: ${CMAKE_CXX_COMPILER} has no ${names} "
                      "(Debian, Ubuntu: g++ brings them; for clang: libclang-rt-dev)")
endfunction()

# Compiles and links with the sanitizer whatever links `target`, an interface library.
function(focus_sanitize target)
  if(FOCUS_SANITIZE STREQUAL "")
    return()
  elseif(NOT DEFINED sanitize_${FOCUS_SANITIZE})
    message(FATAL_ERROR "FOCUS_SANITIZE: expected address, thread or nothing, got ${FOCUS_SANITIZE}")
  elseif(FOCUS_SANITIZE STREQUAL "thread" AND NOT FOCUS_THREADS STREQUAL "std")
    message(FATAL_ERROR "FOCUS_SANITIZE=thread needs FOCUS_THREADS=std: ThreadSanitizer does not see how OpenMP "
                        "synchronises its threads")
  endif()
  focus_find_sanitizer()
  set(flags ${sanitize_${FOCUS_SANITIZE}})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    list(APPEND flags -shared-libsan)
  endif()
  string(TOUPPER ${FOCUS_SANITIZE} name)
  target_compile_definitions(${target} INTERFACE FOCUS_SANITIZE_${name})
  # Enough to name the line; little optimisation, so that it is the right one.
  target_compile_options(${target} INTERFACE ${flags} -O1 -g1 -fno-omit-frame-pointer)
  target_link_options(${target} INTERFACE ${flags})
  add_library(planted_cpu MODULE EXCLUDE_FROM_ALL tests/sanitizers/planted.cpp)
  target_link_libraries(planted_cpu PRIVATE ${target})
  set_target_properties(planted_cpu PROPERTIES PREFIX "" SUFFIX ".so")
endfunction()
