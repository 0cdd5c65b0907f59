#pragma once
#include <string_view>

#include "kernels/op_work.h"

namespace stamp {

/// What this machine does at most, measured: the best of some short passes of loops that do nothing else.
struct MachinePeaks {
  double read_bytes = 0;  // a second, from memory
  // Operations a second, a multiplication and an addition each one: of bytes with sums of 32 bits, of bytes
  // and 4-bit numbers, whose products may first be added up in 16 bits, and of float32.
  double int8_ops = 0, int4_ops = 0, float_ops = 0;
};

/// With the instructions that the Ops called `ops` (registry.cpp) are built for, on so many threads. Takes
/// about half a second and 256 MiB.
MachinePeaks measure_peaks(std::string_view ops, int threads);

/// What the work takes at least: its bytes from memory, or its arithmetic, whichever is slower.
double bound_seconds(const OpWork& work, const MachinePeaks& peaks);

}  // namespace stamp
