#pragma once
#include <cstdint>
#include <span>

namespace stamp {

/// Index of the largest of one or more values, none of them NaN; the lowest on ties.
int32_t argmax(std::span<const float> values);

bool all_finite(std::span<const float> values);

}  // namespace stamp
