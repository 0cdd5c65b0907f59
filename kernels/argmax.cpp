#include "kernels/argmax.h"

#include <algorithm>
#include <array>
#include <bit>

namespace stamp {

int32_t argmax(std::span<const float> values) {
  // Maxima side by side become vectors; std::max_element goes one by one.
  std::array<float, 16> peaks;
  peaks.fill(values.front());
  size_t i = 0;
  for (; i + peaks.size() <= values.size(); i += peaks.size())
    for (size_t j = 0; j < peaks.size(); ++j) peaks[j] = values[i + j] > peaks[j] ? values[i + j] : peaks[j];
  float peak = *std::max_element(peaks.begin(), peaks.end());
  for (; i < values.size(); ++i) peak = std::max(peak, values[i]);
  return int32_t(std::find(values.begin(), values.end(), peak) - values.begin());
}

/// By exponents, so that the loop is a plain maximum over integers.
bool all_finite(std::span<const float> values) {
  uint32_t largest = 0;
  for (float x : values) largest = std::max(largest, std::bit_cast<uint32_t>(x) & 0x7fffffffu);
  return largest < 0x7f800000u;
}

}  // namespace stamp
