#pragma once
#include <cstdint>
#include <span>

namespace stamp {

/// Index of the largest value, the lowest on ties. Values are not none and finite.
int32_t argmax(std::span<const float> values);

bool all_finite(std::span<const float> values);

}  // namespace stamp
