#pragma once
#include "kernels/cuda/device.cuh"
#include "kernels/dct_table.h"

/// The transform along the sequence of one channel, t[0 .. kBlock) its tokens, in registers: every index is
/// known after unrolling. Additions and products are rounded one by one in the order of
/// kernels/cpu/seq_transform.inl, so that both give the same bits (nvcc runs with -fmad=false).
namespace stamp::cuda {

inline constexpr int kB = int(kBlock);
inline constexpr float kRootHalf = 0.70710678118654752f;

/// Scales Haar's rows: 2^(-level / 2) for the details of a level (1 is the finest) and for the last coarse
/// band.
template <int kLevels, int kLevel = 1>
__device__ __forceinline__ void haar_scale(float (&t)[kB], float scale = kRootHalf) {
  constexpr int kN = 2 * kB >> kLevel;
#pragma unroll
  for (int i = kLevel == kLevels ? 0 : kN / 2; i < kN; ++i) t[i] *= scale;
  if constexpr (kLevel < kLevels) haar_scale<kLevels, kLevel + 1>(t, scale * kRootHalf);
}

/// Sums and differences of neighbours of the first kN values, then of the sums, down to kCoarse of them.
template <int kN, int kCoarse>
__device__ __forceinline__ void haar_sums(float (&t)[kB]) {
  if constexpr (kN > kCoarse) {
    float next[kN];
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) {
      next[i] = t[2 * i] + t[2 * i + 1];
      next[kN / 2 + i] = t[2 * i] - t[2 * i + 1];
    }
#pragma unroll
    for (int i = 0; i < kN; ++i) t[i] = next[i];
    haar_sums<kN / 2, kCoarse>(t);
  }
}

/// The transpose of haar_sums.
template <int kN, int kCoarse>
__device__ __forceinline__ void haar_sums_transposed(float (&t)[kB]) {
  if constexpr (kN > kCoarse) {
    haar_sums_transposed<kN / 2, kCoarse>(t);
    float next[kN];
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) {
      next[2 * i] = t[i] + t[kN / 2 + i];
      next[2 * i + 1] = t[i] - t[kN / 2 + i];
    }
#pragma unroll
    for (int i = 0; i < kN; ++i) t[i] = next[i];
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

__device__ __forceinline__ void walsh_forward(float (&t)[kB]) {
  butterflies(t);
  float ordered[kB];
#pragma unroll
  for (int i = 0; i < kB; ++i) ordered[i] = t[walsh_row(i)] * 0.125f;
#pragma unroll
  for (int i = 0; i < kB; ++i) t[i] = ordered[i];
}

__device__ __forceinline__ void walsh_inverse(float (&t)[kB]) {
  float natural[kB];
#pragma unroll
  for (int i = 0; i < kB; ++i) natural[walsh_row(i)] = t[i] * 0.125f;
#pragma unroll
  for (int i = 0; i < kB; ++i) t[i] = natural[i];
  butterflies(t);
}

/// Lee's recursion, see kernels/cpu/seq_transform.inl.
template <int kN>
__device__ __forceinline__ void dct_forward(float (&t)[kN], const DctTable* dct) {
  if constexpr (kN > 1) {
    constexpr int kHalf = kN / 2;
    float even[kHalf], odd[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      even[i] = t[i] + t[kN - 1 - i];
      odd[i] = (t[i] - t[kN - 1 - i]) * dct->secant[kHalf - 1 + i];
    }
    dct_forward(even, dct);
    dct_forward(odd, dct);
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      t[2 * i] = even[i];
      t[2 * i + 1] = i + 1 < kHalf ? odd[i] + odd[(i + 1) % kHalf] : odd[i];
    }
  }
}

/// The transpose of dct_forward, step by step backwards.
template <int kN>
__device__ __forceinline__ void dct_transposed(float (&t)[kN], const DctTable* dct) {
  if constexpr (kN > 1) {
    constexpr int kHalf = kN / 2;
    float even[kHalf], odd[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      even[i] = t[2 * i];
      odd[i] = i > 0 ? t[2 * i + 1] + t[(2 * i + kN - 1) % kN] : t[1];
    }
    dct_transposed(even, dct);
    dct_transposed(odd, dct);
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float weighted = odd[i] * dct->secant[kHalf - 1 + i];
      t[i] = even[i] + weighted;
      t[kN - 1 - i] = even[i] - weighted;
    }
  }
}

/// Makes the rows orthonormal: sqrt(1/64) for the first, sqrt(2/64) for the others.
__device__ __forceinline__ void dct_scale(float (&t)[kB]) {
  t[0] *= 0.125f;
#pragma unroll
  for (int i = 1; i < kB; ++i) t[i] *= 0.125f * 1.41421356237309505f;
}

template <bool kInverse, int kLevels>
__device__ __forceinline__ void haar(float (&t)[kB]) {
  if constexpr (kInverse) {
    haar_scale<kLevels>(t);
    haar_sums_transposed<kB, (kB >> kLevels)>(t);
  } else {
    haar_sums<kB, (kB >> kLevels)>(t);
    haar_scale<kLevels>(t);
  }
}

/// t = L t, or L^-1 t, which is L^T t.
template <bool kInverse>
__device__ __forceinline__ void transform(float (&t)[kB], const BitPlan& plan, const DctTable* dct) {
  switch (plan.transform) {
    case SeqTransform::kIdentity:
      return;
    case SeqTransform::kHaar:
      switch (plan.levels) {
        case 1:
          return haar<kInverse, 1>(t);
        case 2:
          return haar<kInverse, 2>(t);
        case 3:
          return haar<kInverse, 3>(t);
        case 4:
          return haar<kInverse, 4>(t);
        case 5:
          return haar<kInverse, 5>(t);
        default:
          return haar<kInverse, 6>(t);
      }
    case SeqTransform::kWalshHadamard:
      if constexpr (kInverse) return walsh_inverse(t);
      else return walsh_forward(t);
    case SeqTransform::kDct:
      if constexpr (kInverse) {
        dct_scale(t);
        return dct_transposed(t, dct);
      } else {
        dct_forward(t, dct);
        return dct_scale(t);
      }
  }
}

/// The same for a column in shared memory, its values `pitch` apart. A function of its own: kernels with many
/// instances need not contain all transforms each.
template <bool kInverse>
__device__ __noinline__ void transform_column(float* column, int pitch, const BitPlan& plan,
                                              const DctTable* dct) {
  float t[kB];
#pragma unroll
  for (int r = 0; r < kB; ++r) t[r] = column[r * pitch];
  transform<kInverse>(t, plan, dct);
#pragma unroll
  for (int r = 0; r < kB; ++r) column[r * pitch] = t[r];
}

}  // namespace stamp::cuda
