#pragma once
// The half type for the host executor: what kernels/cuda/ uses of the toolkit's header.
#include <cuda_runtime.h>

#include "kernels/half.h"

struct __half {
  uint16_t bits;
};
inline __half __ushort_as_half(uint16_t bits) { return {bits}; }
inline uint16_t __half_as_ushort(__half h) { return h.bits; }
inline float __half2float(__half h) { return stamp::f16_to_f32(h.bits); }
inline __half __float2half_rn(float x) { return {stamp::f32_to_f16(x)}; }
