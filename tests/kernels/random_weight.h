#pragma once
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/half.h"
#include "kernels/pack.h"

namespace stamp {

/// A quantised weight of random codes, scales and zeros.
inline PackedWeight random_weight(DType dtype, int64_t rows, int64_t cols, int64_t group, uint32_t seed) {
  std::mt19937 rng(seed);
  PackedWeight w = make_packed(dtype, rows, cols, group);
  const auto groups = size_t(w.view.groups());
  std::vector<int8_t> codes(static_cast<size_t>(cols));
  std::vector<uint16_t> scale(groups);
  std::vector<uint8_t> zero(groups);
  for (int64_t r = 0; r < rows; ++r) {
    for (auto& code : codes) code = dtype == DType::kQ4 ? int8_t(rng() % 16) : int8_t(int(rng() % 255) - 127);
    for (auto& s : scale) s = f32_to_f16(0.001f + float(rng() % 1000) * 1e-4f);
    for (auto& z : zero) z = uint8_t(64 + rng() % 128);
    pack_row(w, r, codes, scale, zero);
  }
  return w;
}

}  // namespace stamp
