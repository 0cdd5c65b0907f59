#pragma once
#include <cstdint>
#include <vector>

#include "engine/grammar/expression.h"

namespace stamp::grammar {

/// One way to write some characters: the bytes that each place may have.
struct ByteRange {
  uint8_t low, high;
};
using ByteRanges = std::vector<std::vector<ByteRange>>;

/// All ways to write one character of the set.
std::vector<ByteRanges> spell(const CodePoints& set, Spelling spelling);

/// A range of digits for each place, most significant first.
struct DigitRange {
  uint32_t low, high;
};
/// The numbers from `low` to `high`, written with as many digits of the base as these have: each number is in
/// exactly one of the results.
std::vector<std::vector<DigitRange>> digit_ranges(const std::vector<uint32_t>& low,
                                                  const std::vector<uint32_t>& high, uint32_t base);

}  // namespace stamp::grammar
