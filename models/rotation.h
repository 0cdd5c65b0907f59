#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/views.h"

namespace stamp {

/// An orthogonal map M of `dim` channels, Hadamard (x) small orthogonal (RotationView), that owns its
/// numbers.
class Rotation {
 public:
  Rotation() = default;

  /// Random: signs, Hadamard in blocks of the largest power of two that divides `dim`, and, if there is more
  /// than one block, a random orthogonal mix of them. The same seed gives the same bits on every machine.
  static Rotation random(int64_t dim, uint64_t seed);
  /// Hadamard blocks alone, for online use.
  static Rotation hadamard(int64_t dim);
  /// This one's blocks for `dim` channels, a multiple of them. It has neither signs nor a mix.
  Rotation of_channels(int64_t dim) const;
  /// From stored numbers.
  static Rotation restore(int64_t dim, std::vector<float> signs, std::vector<float> mix);

  int64_t dim() const { return dim_; }
  bool empty() const { return dim_ == 0; }
  RotationView view() const { return {.block = block_, .signs = signs_, .mix = mix_}; }

  /// x = M x for every `dim` consecutive values, in double.
  void apply(std::span<double> x) const;

 private:
  int64_t dim_ = 0, block_ = 1;
  std::vector<float> signs_, mix_;
};

}  // namespace stamp
