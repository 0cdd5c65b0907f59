#pragma once
#include <cstdint>
#include <optional>

#include "engine/grammar/expression.h"

namespace stamp::grammar {

/// Whole numbers from `low` to `high`, as JSON writes them.
Expression integers_between(int64_t low, int64_t high);

struct Bound {
  double value;
  bool inclusive;
};
/// Numbers without an exponent within the bounds, with at most 18 digits before and 20 behind the point. With
/// a bound that is not inclusive there are fewer: all of 15 significant ones, so that no number is rounded to
/// the bound when it is read as a double.
Expression numbers_between(const std::optional<Bound>& low, const std::optional<Bound>& high, Budget& budget);

}  // namespace stamp::grammar
