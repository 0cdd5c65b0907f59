#pragma once
#include <cstdint>

namespace stamp {

/// Loops that keep one instruction set's units busy and do nothing else, for machine_peaks.h. Their results
/// are there to be used.
struct PeakLoops {
  float (*read)(const float* data, int64_t floats);  // a multiple of 128 on a 64-byte boundary
  float (*int8)(int64_t steps);
  float (*int4)(int64_t steps);
  float (*floats)(int64_t steps);
  double int8_ops, int4_ops, float_ops;  // of a step
};

const PeakLoops& scalar_peaks();
#if defined(__x86_64__)
const PeakLoops& avx2_peaks();
const PeakLoops& avxvnni_peaks();
const PeakLoops& avx512_peaks();
const PeakLoops& avx512vnni_peaks();
const PeakLoops& amx_peaks();
#elif defined(__aarch64__)
const PeakLoops& neon_peaks();
const PeakLoops& neoni8mm_peaks();
#endif

}  // namespace stamp
