#pragma once
#include "kernels/cuda/device.cuh"
#include "kernels/seq_transform.h"

/// The transform along the sequence of one channel, t[0 .. kBlock) its tokens, in registers: every index is
/// known after unrolling. Who multiplies rows by scales of their own does D (kernels/seq_transform.h) with
/// these. Additions and products are rounded one by one in the order of kernels/cpu/seq_transform.inl, so
/// that both give the same bits (nvcc runs with -fmad=false).
namespace stamp::cuda {

inline constexpr int kB = int(kBlock);

/// Sums and differences of neighbours of the first kN values.
template <int kN, int kSize>
__device__ __forceinline__ void haar_step(float (&t)[kSize]) {
  float next[kN];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) {
    next[i] = t[2 * i] + t[2 * i + 1];
    next[kN / 2 + i] = t[2 * i] - t[2 * i + 1];
  }
#pragma unroll
  for (int i = 0; i < kN; ++i) t[i] = next[i];
}
template <int kN, int kSize>
__device__ __forceinline__ void haar_step_transposed(float (&t)[kSize]) {
  float next[kN];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) {
    next[2 * i] = t[i] + t[kN / 2 + i];
    next[2 * i + 1] = t[i] - t[kN / 2 + i];
  }
#pragma unroll
  for (int i = 0; i < kN; ++i) t[i] = next[i];
}

/// Steps of the first kN values, then of the sums, down to kCoarse of them.
template <int kN, int kCoarse>
__device__ __forceinline__ void haar_sums(float (&t)[kB]) {
  if constexpr (kN > kCoarse) {
    haar_step<kN>(t);
    haar_sums<kN / 2, kCoarse>(t);
  }
}
/// The transpose of haar_sums.
template <int kN, int kCoarse>
__device__ __forceinline__ void haar_sums_transposed(float (&t)[kB]) {
  if constexpr (kN > kCoarse) {
    haar_sums_transposed<kN / 2, kCoarse>(t);
    haar_step_transposed<kN>(t);
  }
}

/// Row r of the Walsh matrix in sequency order is this row of Hadamard's: the Gray code of r, its bits
/// reversed.
STAMP_INLINE constexpr int walsh_row(int r) {
  const int gray = r ^ (r >> 1);
  return (gray & 1) << 5 | (gray & 2) << 3 | (gray & 4) << 1 | (gray & 8) >> 1 | (gray & 16) >> 3 |
         (gray & 32) >> 5;
}

__device__ __forceinline__ void butterflies(float (&t)[kB]) {
#pragma unroll
  for (int stage = 0; stage < 6; ++stage) {
#pragma unroll
    for (int pair = 0; pair < kB / 2; ++pair) {
      const int h = 1 << stage, i = pair / h * 2 * h + pair % h;
      const float a = t[i], b = t[i + h];
      t[i] = a + b;
      t[i + h] = a - b;
    }
  }
}

__device__ __forceinline__ void walsh_sums(float (&t)[kB]) {
  butterflies(t);
  float ordered[kB];
#pragma unroll
  for (int i = 0; i < kB; ++i) ordered[i] = t[walsh_row(i)];
#pragma unroll
  for (int i = 0; i < kB; ++i) t[i] = ordered[i];
}

__device__ __forceinline__ void walsh_sums_transposed(float (&t)[kB]) {
  float natural[kB];
#pragma unroll
  for (int i = 0; i < kB; ++i) natural[walsh_row(i)] = t[i];
#pragma unroll
  for (int i = 0; i < kB; ++i) t[i] = natural[i];
  butterflies(t);
}

/// Lee's recursion, see kernels/cpu/seq_transform.inl.
template <int kN>
__device__ __forceinline__ void dct_sums(float (&t)[kN], const DctTable* dct) {
  if constexpr (kN > 1) {
    constexpr int kHalf = kN / 2;
    float even[kHalf], odd[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      even[i] = t[i] + t[kN - 1 - i];
      odd[i] = (t[i] - t[kN - 1 - i]) * dct->secant[kHalf - 1 + i];
    }
    dct_sums(even, dct);
    dct_sums(odd, dct);
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      t[2 * i] = even[i];
      t[2 * i + 1] = i + 1 < kHalf ? odd[i] + odd[(i + 1) % kHalf] : odd[i];
    }
  }
}

/// The transpose of dct_sums, step by step backwards.
template <int kN>
__device__ __forceinline__ void dct_sums_transposed(float (&t)[kN], const DctTable* dct) {
  if constexpr (kN > 1) {
    constexpr int kHalf = kN / 2;
    float even[kHalf], odd[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      even[i] = t[2 * i];
      odd[i] = i > 0 ? t[2 * i + 1] + t[(2 * i + kN - 1) % kN] : t[1];
    }
    dct_sums_transposed(even, dct);
    dct_sums_transposed(odd, dct);
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float weighted = odd[i] * dct->secant[kHalf - 1 + i];
      t[i] = even[i] + weighted;
      t[kN - 1 - i] = even[i] - weighted;
    }
  }
}

/// run.operator()<levels>() of 1 to 6 levels.
template <class Run>
__device__ __forceinline__ void with_levels(int levels, const Run& run) {
  switch (levels) {
    case 1:
      return run.template operator()<1>();
    case 2:
      return run.template operator()<2>();
    case 3:
      return run.template operator()<3>();
    case 4:
      return run.template operator()<4>();
    case 5:
      return run.template operator()<5>();
    default:
      return run.template operator()<6>();
  }
}

/// t = S t, or S^T t.
template <bool kTransposed>
__device__ __forceinline__ void sums(float (&t)[kB], const BitPlan& plan, const DctTable* dct) {
  switch (plan.transform) {
    case SeqTransform::kIdentity:
      return;
    case SeqTransform::kHaar:
      return with_levels(plan.levels, [&]<int kLevels>() {
        if constexpr (kTransposed) haar_sums_transposed<kB, (kB >> kLevels)>(t);
        else haar_sums<kB, (kB >> kLevels)>(t);
      });
    case SeqTransform::kWalshHadamard:
      if constexpr (kTransposed) return walsh_sums_transposed(t);
      else return walsh_sums(t);
    case SeqTransform::kDct:
      if constexpr (kTransposed) return dct_sums_transposed(t, dct);
      else return dct_sums(t, dct);
  }
}

/// t = D t
__device__ __forceinline__ void scale_rows(float (&t)[kB], const BitPlan& plan) {
  if (plan.transform == SeqTransform::kHaar)
    return with_levels(plan.levels, [&]<int kLevels>() {
#pragma unroll
      for (int r = 0; r < kB; ++r) t[r] *= transform_scale(SeqTransform::kHaar, kLevels, r);
    });
  const float first = transform_scale(plan.transform, 0, 0), others = transform_scale(plan.transform, 0, 1);
#pragma unroll
  for (int r = 0; r < kB; ++r) t[r] *= r == 0 ? first : others;
}

/// sums() of a column in shared memory, its values `pitch` apart. A function of its own: kernels with many
/// instances need not contain all transforms each.
template <bool kTransposed>
__device__ __noinline__ void column_sums(float* column, int pitch, const BitPlan& plan, const DctTable* dct) {
  float t[kB];
#pragma unroll
  for (int r = 0; r < kB; ++r) t[r] = column[r * pitch];
  sums<kTransposed>(t, plan, dct);
#pragma unroll
  for (int r = 0; r < kB; ++r) column[r * pitch] = t[r];
}

}  // namespace stamp::cuda
