#pragma once
#include <cstdint>
#include <span>

namespace stamp {

/// Normalised mean squared error: sum (a - b)^2 / sum b^2, b the truth.
inline double nmse(std::span<const float> a, std::span<const float> b) {
  double error = 0, power = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double difference = double(a[i]) - double(b[i]);
    error += difference * difference;
    power += double(b[i]) * double(b[i]);
  }
  return power > 0 ? error / power : error;
}

}  // namespace stamp
