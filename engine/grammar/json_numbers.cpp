#include "engine/grammar/json_numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>

#include "engine/grammar/regex.h"
#include "engine/grammar/spelling.h"
#include "kernels/error.h"

namespace stamp::grammar {
namespace {

Expression digits(uint32_t low, uint32_t high) {
  return low > high ? nothing() : characters({{char32_t('0' + low), char32_t('0' + high)}});
}

std::vector<uint32_t> digits_of(const std::string& text) {
  std::vector<uint32_t> result;
  for (const char c : text) result.push_back(uint32_t(c - '0'));
  return result;
}

/// Natural numbers of the same count of digits, or of more.
void append_naturals(uint64_t low, uint64_t high, std::vector<Expression>& out) {
  while (low <= high) {
    const std::string first = std::to_string(low);
    const std::string nines(first.size(), '9');
    const bool longer = std::to_string(high).size() > first.size();
    for (const auto& places :
         digit_ranges(digits_of(first), digits_of(longer ? nines : std::to_string(high)), 10)) {
      std::vector<Expression> number;
      for (const DigitRange& place : places) number.push_back(digits(place.low, place.high));
      out.push_back(sequence(std::move(number)));
    }
    if (!longer) return;
    low = std::stoull(nines) + 1;
  }
}

Expression naturals(uint64_t low, uint64_t high) {
  std::vector<Expression> parts;
  append_naturals(low, high, parts);
  return choice(std::move(parts));
}

constexpr uint64_t kLargest = 999'999'999'999'999'999;

/// A number below 1e18 without its sign: whole.fraction, without zeros at the fraction's end.
struct Magnitude {
  uint64_t whole = 0;
  std::string fraction;
  bool negative = false;

  explicit Magnitude(double x) : negative(x < 0) {
    char buffer[400];  // the shortest decimal that reads as x
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, std::abs(x), std::chars_format::fixed).ptr;
    const std::string_view decimal(buffer, end);
    const size_t point = std::min(decimal.find('.'), decimal.size());
    whole = std::stoull(std::string(decimal.substr(0, point)));
    fraction = decimal.substr(std::min(point + 1, decimal.size()));
    while (fraction.ends_with('0')) fraction.pop_back();
  }
};

Expression any_digits() { return repeat(digits(0, 9), 0); }
Expression any_fraction() { return optional(sequence({literal("."), any_digits()})); }

/// Numbers whose magnitude is at least or at most `m`; without `inclusive` not `m` itself.
Expression at_least(const Magnitude& m, bool inclusive) {
  std::vector<Expression> parts{sequence({naturals(m.whole + 1, kLargest), any_fraction()})};
  const Expression whole = literal(std::to_string(m.whole));
  const auto behind = [&](std::string_view prefix, Expression rest) {
    parts.push_back(sequence({whole, literal("." + std::string(prefix)), std::move(rest)}));
  };
  for (size_t i = 0; i < m.fraction.size(); ++i)
    behind(m.fraction.substr(0, i), sequence({digits(uint32_t(m.fraction[i] - '0') + 1, 9), any_digits()}));
  behind(m.fraction, sequence({any_digits(), digits(1, 9), any_digits()}));
  if (inclusive) {
    behind(m.fraction, repeat(literal("0"), 0));
    if (m.fraction.empty()) parts.push_back(whole);
  }
  return choice(std::move(parts));
}

Expression at_most(const Magnitude& m, bool inclusive) {
  std::vector<Expression> parts;
  if (m.whole > 0) parts.push_back(sequence({naturals(0, m.whole - 1), any_fraction()}));
  const Expression whole = literal(std::to_string(m.whole));
  const auto behind = [&](std::string_view prefix, Expression rest) {
    parts.push_back(sequence({whole, literal("." + std::string(prefix)), std::move(rest)}));
  };
  if (!m.fraction.empty()) parts.push_back(whole);
  for (size_t i = 0; i < m.fraction.size(); ++i) {
    behind(m.fraction.substr(0, i), empty());
    if (m.fraction[i] > '0')
      behind(m.fraction.substr(0, i), sequence({digits(0, uint32_t(m.fraction[i] - '0') - 1), any_digits()}));
  }
  if (inclusive) {
    behind(m.fraction, repeat(literal("0"), 0));
    if (m.fraction.empty()) parts.push_back(whole);
  }
  return choice(std::move(parts));
}

Expression minus(Expression magnitude) { return sequence({literal("-"), std::move(magnitude)}); }

Expression not_below(const Bound& bound) {
  const Magnitude m(bound.value);
  const Expression natural = sequence({naturals(0, kLargest), any_fraction()});
  return m.negative ? choice({natural, minus(at_most(m, bound.inclusive))}) : at_least(m, bound.inclusive);
}

Expression not_above(const Bound& bound) {
  const Magnitude m(bound.value);
  const Expression natural = sequence({naturals(0, kLargest), any_fraction()});
  if (m.negative) return minus(at_least(m, bound.inclusive));
  const bool zero = m.whole == 0 && m.fraction.empty();
  // Below zero a minus sign must come with something else than zero.
  const Expression below = zero ? minus(at_least(m, false)) : minus(natural);
  return choice({below, at_most(m, bound.inclusive)});
}

}  // namespace

Expression integers_between(int64_t low, int64_t high) {
  std::vector<Expression> parts;
  const auto magnitude = [](int64_t x) { return x < 0 ? uint64_t{0} - uint64_t(x) : uint64_t(x); };
  if (high >= 0 && low <= high) append_naturals(uint64_t(std::max<int64_t>(low, 0)), uint64_t(high), parts);
  Expression result = choice(std::move(parts));
  if (low >= 0 || low > high) return result;
  return choice({std::move(result), minus(naturals(magnitude(std::min<int64_t>(high, -1)), magnitude(low)))});
}

Expression numbers_between(const std::optional<Bound>& low, const std::optional<Bound>& high,
                           Budget& budget) {
  constexpr double kLimit = 1e18;
  size_t places = 20;
  for (const auto& bound : {low, high})
    if (bound && !bound->inclusive && std::abs(bound->value) < kLimit) {
      const uint64_t whole = Magnitude(bound->value).whole;
      const size_t digits = whole == 0 ? 0 : std::to_string(whole).size();
      if (digits > 14) throw InputError("a bound of more than 14 digits that is exclusive is not supported");
      places = std::min(places, 15 - digits);
    }
  const std::string shape = R"(-?(0|[1-9]\d{0,17})(\.\d{1,)" + std::to_string(places) + "})?";
  Dfa dfa = compile(parse_regex(shape, RegexMatch::kWhole), budget);
  const auto limit = [&](const std::optional<Bound>& bound, bool from_below) {
    if (!bound) return;
    if (std::abs(bound->value) < kLimit)
      dfa = intersect(dfa, compile(from_below ? not_below(*bound) : not_above(*bound), budget));
    else if ((bound->value > 0) == from_below) dfa = {};  // all that have 18 digits are on the wrong side
  };
  limit(low, true);
  limit(high, false);
  return machine(std::move(dfa));
}

}  // namespace stamp::grammar
