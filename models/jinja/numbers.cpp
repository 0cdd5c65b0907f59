#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "models/jinja/builtins.h"
#include "models/jinja/text.h"

namespace stamp::jinja {
namespace {

/// Without the underscores that Python allows between digits; nothing if one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view s) {
  std::string out;
  const auto digit = [&](size_t i) {
    return i < s.size() && std::isalnum(static_cast<unsigned char>(s[i])) != 0;
  };
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '_') out += s[i];
    else if (i == 0 || !digit(i - 1) || !digit(i + 1)) return std::nullopt;
  }
  return out;
}

}  // namespace

std::optional<double> parse_float(std::string_view text) {
  const auto plain = without_underscores(text::strip(text, std::nullopt, text::Side::kBoth));
  if (!plain) return std::nullopt;
  const std::string& s = *plain;
  size_t at = s.starts_with('-') || s.starts_with('+') ? 1 : 0;
  const std::string word = text::lower(s.substr(at));
  const double sign = s.starts_with('-') ? -1 : 1;
  if (word == "inf" || word == "infinity") return sign * INFINITY;
  if (word == "nan") return NAN;
  const auto digits = [&] {
    const size_t begin = at;
    while (at < s.size() && s[at] >= '0' && s[at] <= '9') ++at;
    return at > begin;
  };
  bool any = digits();
  if (at < s.size() && s[at] == '.') {
    ++at;
    any |= digits();
  }
  if (any && at < s.size() && (s[at] == 'e' || s[at] == 'E')) {
    ++at;
    if (at < s.size() && (s[at] == '-' || s[at] == '+')) ++at;
    any = digits();
  }
  if (!any || at != s.size()) return std::nullopt;
  return std::strtod(s.c_str(), nullptr);
}

std::optional<int64_t> parse_int(std::string_view text, int base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  std::string_view s = text::strip(text, std::nullopt, text::Side::kBoth);
  const bool negative = s.starts_with('-');
  if (negative || s.starts_with('+')) s.remove_prefix(1);
  bool prefixed = false;
  if (s.size() > 1 && s[0] == '0') {
    const char mark = char(s[1] | 0x20);
    const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && (base == 0 || base == marked)) {
      base = marked;
      prefixed = true;
      s.remove_prefix(2);
      if (s.starts_with('_')) s.remove_prefix(1);
    }
  }
  const auto plain = without_underscores(s);
  if (!plain || plain->empty()) return std::nullopt;
  const bool old_octal = base == 0 && !prefixed && (*plain)[0] == '0';  // 012 is an error with base 0
  int64_t value = 0;
  for (const char c : *plain) {
    const int digit = c >= '0' && c <= '9'                          ? c - '0'
                      : std::isalpha(static_cast<unsigned char>(c)) ? (c | 0x20) - 'a' + 10
                                                                    : 99;
    if (digit >= (base == 0 ? 10 : base) || (old_octal && digit != 0)) return std::nullopt;
    if (__builtin_mul_overflow(value, int64_t(base == 0 ? 10 : base), &value) ||
        __builtin_add_overflow(value, int64_t(negative ? -digit : digit), &value))
      throw Failure("the number " + text::quote(text.substr(0, 40)) +
                    " does not fit 64 bits, which is not supported");
  }
  return value;
}

int64_t truncate(double x) {
  if (!std::isfinite(x)) throw Failure("cannot convert float " + repr_float(x) + " to integer");
  if (x >= 0x1p63 || x < -0x1p63) throw Failure("a number does not fit 64 bits, which is not supported");
  return int64_t(x);
}

double round_real(double x, int64_t digits) {
  if (!std::isfinite(x) || digits > 323) return x;
  if (digits < -308) return std::copysign(0.0, x);
  if (digits >= 0) {  // printf rounds the exact decimal value, half to even, as Python does
    std::array<char, 800> buffer;
    std::snprintf(buffer.data(), buffer.size(), "%.*f", int(digits), x);
    return std::strtod(buffer.data(), nullptr);
  }
  const double scale = std::pow(10.0, double(-digits));
  const double rounded = std::nearbyint(x / scale) * scale;
  if (std::isinf(rounded)) throw Failure("rounded value too large to represent");
  return rounded;
}

int64_t round_integer(int64_t x, int64_t digits) {
  if (digits >= 0) return x;
  int64_t scale = 1;
  for (int64_t i = 0; i < -digits; ++i)
    if (__builtin_mul_overflow(scale, int64_t{10}, &scale)) return 0;
  const int64_t rest = ((x % scale) + scale) % scale, low = x - rest;
  const int64_t half = scale / 2;
  const bool up = rest > half || (rest == half && (low / scale) % 2 != 0);
  int64_t result = low;
  if (up && __builtin_add_overflow(low, scale, &result))
    throw Failure("a number does not fit 64 bits, which is not supported");
  return result;
}

}  // namespace stamp::jinja
