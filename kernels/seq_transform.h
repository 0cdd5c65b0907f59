#pragma once
#include "kernels/quant_format.h"

/// What the fast transforms along the sequence share on all devices. L = D S: S of sums and differences (and
/// DCT's secants), D one scale for each row; L^-1 = S^T D.
namespace stamp {

/// Row r of D, which makes L's rows orthonormal. Haar: 2^(-level / 2) for the details of a level (1 is the
/// finest), the coarse band as the last level's details; the details of n tokens are rows [n / 2, n).
STAMP_INLINE constexpr float transform_scale(SeqTransform kind, int levels, int r) {
  constexpr float kRootHalf = 0.70710678118654752f;
  switch (kind) {
    case SeqTransform::kIdentity:
      return 1.0f;
    case SeqTransform::kHaar: {
      float scale = kRootHalf;
      for (int level = 1; level < levels && r < int(kBlock) >> level; ++level) scale *= kRootHalf;
      return scale;
    }
    case SeqTransform::kWalshHadamard:
      return 0.125f;          // sqrt(1/64)
    case SeqTransform::kDct:  // sqrt(1/64) for the first, sqrt(2/64) for the others
      return r == 0 ? 0.125f : 0.125f * 1.41421356237309505f;
  }
  return 1.0f;
}

/// All of them: of each transform, and of Haar of each number of levels.
struct RowScales {
  static constexpr int kKinds = int(SeqTransform::kWalshHadamard) + 1, kMostLevels = 6;
  float scales[kKinds][kMostLevels + 1][kBlock];
};
extern const RowScales kRowScales;

/// 1 / (2 cos((i + 1/2) pi / n)) for n = 2, 4, ..., kBlock, one table after another: that of n begins at n /
/// 2 - 1.
struct DctTable {
  float secant[kBlock - 1];
};
extern const DctTable kDct;

}  // namespace stamp
