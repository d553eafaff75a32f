#include "core/cpu.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace focus {
namespace {

Isa best() {
#if defined(FOCUS_AVX512_EMULATION)  // for tests, on a machine with AVX2
  return Isa::avx512;
#elif defined(FOCUS_X86_SIMD)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return Isa::avx512;
  // All of these have F16C, too, a name that clang does not know here.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::baseline;
}

Isa parse(const char* name, const char* source) {
  for (Isa i : {Isa::baseline, Isa::avx2, Isa::avx512})
    if (std::strcmp(name, isa_name(i)) == 0) {
      if (i > best())
        throw std::invalid_argument(std::string(source) + ": expected at most " + isa_name(best()) +
                                    ", which this CPU and build have, got " + name);
      return i;
    }
  throw std::invalid_argument(std::string(source) + ": expected baseline, avx2 or avx512, got " + name);
}

Isa choose() {
  const char* wanted = std::getenv("FOCUS_CPU_ISA");
  return wanted != nullptr && *wanted != 0 ? parse(wanted, "FOCUS_CPU_ISA") : best();
}

std::atomic<int> forced{-1};

}  // namespace

Isa isa() {
  int f = forced.load(std::memory_order_relaxed);
  if (f >= 0) return static_cast<Isa>(f);
  static const Isa chosen = choose();
  return chosen;
}

const char* isa_name(Isa i) { return i == Isa::avx512 ? "avx512" : i == Isa::avx2 ? "avx2" : "baseline"; }

void set_isa(const char* name) {
  if (*name == 0)
    forced = -1;
  else
    forced = static_cast<int>(parse(name, "set_isa()"));
}

}  // namespace focus
