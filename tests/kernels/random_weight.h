#pragma once
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/pack.h"

namespace stamp {

/// A quantised weight of random codes, scales and zeros.
inline PackedWeight random_weight(DType dtype, int64_t rows, int64_t cols, int64_t group, uint32_t seed) {
  std::mt19937 rng(seed);
  PackedWeight w = make_packed(dtype, rows, cols, group);
  std::vector<int8_t> codes(static_cast<size_t>(cols));
  std::vector<uint8_t> group_scale(size_t(w.view.groups())), zero(group_scale.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (auto& code : codes) code = dtype == DType::kQ4 ? int8_t(rng() % 16) : int8_t(int(rng() % 255) - 127);
    for (size_t g = 0; g < zero.size(); ++g) {
      group_scale[g] = uint8_t(1 + rng() % kTopGroupScale);
      const int least = least_zero(group_scale[g]);
      zero[g] = uint8_t(least + int(rng() % uint32_t(kTopZero - least + 1)));
    }
    pack_row(w, r, codes, 0.0001f + float(rng() % 1000) * 1e-5f, group_scale, zero);
  }
  return w;
}

}  // namespace stamp
