#include "kernels/argmax.h"

#include <algorithm>
#include <array>
#include <bit>

namespace stamp {

int32_t argmax(std::span<const float> values) {
  // Maxima side by side become vectors; std::max_element goes one by one.
  std::array<float, 32> peaks;
  peaks.fill(values.front());
  size_t i = 0;
  for (; i + peaks.size() <= values.size(); i += peaks.size())
    for (size_t j = 0; j < peaks.size(); ++j) peaks[j] = values[i + j] > peaks[j] ? values[i + j] : peaks[j];
  float peak = *std::max_element(peaks.begin(), peaks.end());
  for (; i < values.size(); ++i) peak = std::max(peak, values[i]);
  return int32_t(std::find(values.begin(), values.end(), peak) - values.begin());
}

/// By exponents, so that the loop is plain integers, whose comparisons every vector unit has.
bool all_finite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7f800000u;
  uint32_t found = 0;
  for (float x : values) found |= uint32_t((std::bit_cast<uint32_t>(x) & kExponent) == kExponent);
  return found == 0;
}

}  // namespace stamp
