#include "models/rotation.h"

#include <cmath>

namespace stamp {
namespace {

/// SplitMix64 (Steele, Lea and Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t x = state_ += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  /// Roughly normal: the sum of twelve uniforms, whole numbers all the way, so that every machine agrees.
  double normal() {
    int64_t sum = 0;
    for (int i = 0; i < 12; ++i) sum += int64_t(next() >> 40);
    return double(sum - 6 * (int64_t{1} << 24)) * 0x1p-24;
  }

 private:
  uint64_t state_;
};

/// Gram-Schmidt, twice for accuracy, on random rows.
std::vector<float> random_orthogonal(int64_t n, Random& random) {
  std::vector<double> m(static_cast<size_t>(n * n));
  for (int64_t r = 0; r < n; ++r) {
    double* row = m.data() + r * n;
    for (int64_t c = 0; c < n; ++c) row[c] = random.normal();
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t before = 0; before < r; ++before) {
        const double* other = m.data() + before * n;
        double dot = 0;
        for (int64_t c = 0; c < n; ++c) dot += row[c] * other[c];
        for (int64_t c = 0; c < n; ++c) row[c] -= dot * other[c];
      }
      double square = 0;
      for (int64_t c = 0; c < n; ++c) square += row[c] * row[c];
      for (int64_t c = 0; c < n; ++c) row[c] /= std::sqrt(square);
    }
  }
  return {m.begin(), m.end()};
}

int64_t power_of_two_in(int64_t n) { return n & -n; }

}  // namespace

Rotation Rotation::hadamard(int64_t dim) {
  Rotation r;
  r.dim_ = dim;
  r.block_ = power_of_two_in(dim);
  return r;
}

Rotation Rotation::of_channels(int64_t dim) const {
  Rotation r;
  r.dim_ = dim;
  r.block_ = block_;
  return r;
}

Rotation Rotation::random(int64_t dim, uint64_t seed) {
  Rotation r = hadamard(dim);
  Random random(seed);
  r.signs_.resize(size_t(dim));
  for (float& sign : r.signs_) sign = (random.next() >> 63) != 0 ? -1.0f : 1.0f;
  if (dim > r.block_) r.mix_ = random_orthogonal(dim / r.block_, random);
  return r;
}

Rotation Rotation::restore(int64_t dim, std::vector<float> signs, std::vector<float> mix) {
  Rotation r = hadamard(dim);
  r.signs_ = std::move(signs);
  r.mix_ = std::move(mix);
  return r;
}

void Rotation::apply(std::span<double> x) const {
  const int64_t blocks = dim_ / block_;
  std::vector<double> mixed(static_cast<size_t>(dim_));
  for (double* row = x.data(); row < x.data() + x.size(); row += dim_) {
    for (size_t c = 0; c < signs_.size(); ++c) row[c] *= double(signs_[c]);
    for (int64_t h = 1; h < block_; h *= 2) {
      for (int64_t i = 0; i < dim_; i += 2 * h) {
        for (int64_t j = i; j < i + h; ++j) {
          const double a = row[j], b = row[j + h];
          row[j] = a + b;
          row[j + h] = a - b;
        }
      }
    }
    const double scale = 1 / std::sqrt(double(block_));
    for (int64_t c = 0; c < dim_; ++c) row[c] *= scale;
    if (mix_.empty()) continue;
    for (int64_t to = 0; to < blocks; ++to) {
      for (int64_t c = 0; c < block_; ++c) {
        double sum = 0;
        for (int64_t from = 0; from < blocks; ++from)
          sum += double(mix_[size_t(to * blocks + from)]) * row[from * block_ + c];
        mixed[size_t(to * block_ + c)] = sum;
      }
    }
    std::copy(mixed.begin(), mixed.end(), row);
  }
}

}  // namespace stamp
