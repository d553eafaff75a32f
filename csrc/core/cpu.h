// Which instruction set the CPU kernels use. Chosen once per process; FOCUS_CPU_ISA=baseline|avx2|avx512 lowers it.
#pragma once

namespace focus {

enum class Isa { baseline = 0, avx2 = 1, avx512 = 2 };

Isa isa();                  // in use
const char* isa_name(Isa);  // "baseline", "avx2", "avx512"
void set_isa(const char*);  // for tests: "" restores the choice; throws std::invalid_argument where it cannot run

}  // namespace focus
