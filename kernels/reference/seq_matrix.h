#pragma once
#include <cstdint>
#include <vector>

#include "kernels/views.h"

namespace stamp {

/// The transform of a block as the dense orthonormal matrix of its definition, in double: what the fast ones
/// are tested against.
///   Haar: row 0.. of the coarse band, then the details of each level, coarse to fine (Mallat's pyramid).
///   DCT-II: sqrt(2/B) cos((i + 1/2) k pi / B), the first row divided by sqrt(2).
///   Walsh-Hadamard: the rows of Sylvester's matrix ordered by their number of sign changes.
class SeqMatrix {
 public:
  SeqMatrix(SeqTransform kind, int levels);

  double at(int64_t coefficient, int64_t token) const { return rows_[size_t(coefficient * kBlock + token)]; }
  /// out = L in, or L^-1 in; [kBlock, cols], may be the same.
  void apply(Mat<float> out, Mat<const float> in, bool inverse) const;
  /// The same for one vector, in place.
  void apply(double* x, bool inverse) const;

 private:
  std::vector<double> rows_;  // [coefficient, token]
};

}  // namespace stamp
