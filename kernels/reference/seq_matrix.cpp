#include "kernels/reference/seq_matrix.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace stamp {
namespace {

double haar(int64_t row, int64_t token, int levels) {
  const int64_t coarse = kBlock >> levels;
  if (row < coarse) {
    const int64_t width = kBlock / coarse;
    return token / width == row ? 1 / std::sqrt(double(width)) : 0;
  }
  int64_t band = coarse;  // rows of the detail band that begins at row `band`
  while (row >= 2 * band) band *= 2;
  const int64_t width = kBlock / band, at = row - band;
  if (token / width != at) return 0;
  return (token % width < width / 2 ? 1 : -1) / std::sqrt(double(width));
}

double dct(int64_t row, int64_t token) {
  const double scale = std::sqrt((row == 0 ? 1.0 : 2.0) / double(kBlock));
  return scale * std::cos((double(token) + 0.5) * double(row) * std::numbers::pi / double(kBlock));
}

int sylvester(int64_t row, int64_t col) {
  return __builtin_popcountll(uint64_t(row & col)) % 2 != 0 ? -1 : 1;
}

int sign_changes(int64_t row) {
  int changes = 0;
  for (int64_t i = 1; i < kBlock; ++i) changes += sylvester(row, i) != sylvester(row, i - 1);
  return changes;
}

}  // namespace

SeqMatrix::SeqMatrix(SeqTransform kind, int levels) : rows_(size_t(kBlock * kBlock)) {
  std::vector<int64_t> by_sequency(size_t(kBlock), 0);
  for (int64_t row = 0; row < kBlock; ++row) by_sequency[size_t(sign_changes(row))] = row;
  for (int64_t r = 0; r < kBlock; ++r) {
    for (int64_t t = 0; t < kBlock; ++t) {
      double& x = rows_[size_t(r * kBlock + t)];
      switch (kind) {
        case SeqTransform::kIdentity:
          x = r == t;
          break;
        case SeqTransform::kHaar:
          x = haar(r, t, levels);
          break;
        case SeqTransform::kDct:
          x = dct(r, t);
          break;
        case SeqTransform::kWalshHadamard:
          x = sylvester(by_sequency[size_t(r)], t) / 8.0;
          break;
      }
    }
  }
}

void SeqMatrix::apply(Mat<float> out, Mat<const float> in, bool inverse) const {
  std::vector<double> column(static_cast<size_t>(kBlock));
  for (int64_t c = 0; c < in.cols; ++c) {
    for (int64_t t = 0; t < kBlock; ++t) column[size_t(t)] = in.row(t)[c];
    apply(column.data(), inverse);
    for (int64_t t = 0; t < kBlock; ++t) out.row(t)[c] = float(column[size_t(t)]);
  }
}

void SeqMatrix::apply(double* x, bool inverse) const {
  const std::vector<double> in(x, x + kBlock);
  for (int64_t i = 0; i < kBlock; ++i) {
    x[i] = 0;
    for (int64_t j = 0; j < kBlock; ++j) x[i] += (inverse ? at(j, i) : at(i, j)) * in[size_t(j)];
  }
}

}  // namespace stamp
