#include "engine/grammar/spelling.h"

#include <algorithm>
#include <string>

namespace stamp::grammar {
namespace {

using Digits = std::vector<uint32_t>;

/// Appends the numbers of `low` and `high` from place `at` on, behind `prefix`.
void append_digit_ranges(const Digits& low, const Digits& high, size_t at, uint32_t base,
                         std::vector<DigitRange>& prefix, std::vector<std::vector<DigitRange>>& out) {
  const size_t places = low.size();
  const auto with = [&](DigitRange digit, const Digits& rest_low, const Digits& rest_high) {
    prefix.push_back(digit);
    append_digit_ranges(rest_low, rest_high, at + 1, base, prefix, out);
    prefix.pop_back();
  };
  if (at == places) {
    out.push_back(prefix);
    return;
  }
  if (low[at] == high[at]) return with({low[at], low[at]}, low, high);
  const auto rest_is = [&](const Digits& digits, uint32_t digit) {
    return std::all_of(digits.begin() + long(at) + 1, digits.end(),
                       [digit](uint32_t d) { return d == digit; });
  };
  const Digits least(places, 0), most(places, base - 1);
  uint32_t first = low[at], last = high[at];
  if (!rest_is(low, 0)) with({first, first}, low, most), ++first;
  const bool cut = !rest_is(high, base - 1);
  if (cut) --last;
  if (first <= last) with({first, last}, least, most);
  if (cut) with({high[at], high[at]}, least, high);
}

Digits digits_of(uint32_t x, size_t places, uint32_t base) {
  Digits digits(places);
  for (size_t i = places; i-- > 0; x /= base) digits[i] = x % base;
  return digits;
}

void append_utf8(char32_t low, char32_t high, std::vector<ByteRanges>& out) {
  struct Length {
    char32_t last;
    uint8_t lead;
  };
  constexpr Length kLengths[] = {{0x7f, 0}, {0x7ff, 0xc0}, {0xffff, 0xe0}, {CodePoints::kLast, 0xf0}};
  for (size_t length = 1; length <= 4 && low <= high; ++length) {
    const auto [last, lead] = kLengths[length - 1];
    if (low > last) continue;
    const char32_t end = std::min(high, last);
    // As numbers of base 64 the places are the bytes but for their fixed bits; an ASCII character is a byte.
    const uint32_t base = length == 1 ? 128 : 64;
    for (const auto& places :
         digit_ranges(digits_of(low, length, base), digits_of(end, length, base), base)) {
      ByteRanges bytes;
      for (size_t i = 0; i < length; ++i) {
        const uint8_t fixed = i == 0 ? lead : 0x80;
        bytes.push_back({{uint8_t(fixed | places[i].low), uint8_t(fixed | places[i].high)}});
      }
      out.push_back(std::move(bytes));
    }
    low = end + 1;
  }
}

ByteRanges one(std::string_view text) {
  ByteRanges bytes;
  for (const char c : text) bytes.push_back({{uint8_t(c), uint8_t(c)}});
  return bytes;
}

/// A hexadecimal digit in either case.
std::vector<ByteRange> hex(const DigitRange& digit) {
  std::vector<ByteRange> bytes;
  const auto append = [&](uint32_t first, uint32_t last, char zero) {
    const uint32_t low = std::max(digit.low, first), high = std::min(digit.high, last);
    if (low <= high)
      bytes.push_back({uint8_t(uint8_t(zero) + low - first), uint8_t(uint8_t(zero) + high - first)});
  };
  append(0, 9, '0');
  append(10, 15, 'a');
  append(10, 15, 'A');
  return bytes;
}

/// Each of `prefixes` with \uXXXX for each of these UTF-16 units behind it.
std::vector<ByteRanges> with_unit(const std::vector<ByteRanges>& prefixes, uint32_t low, uint32_t high) {
  std::vector<ByteRanges> result;
  for (const auto& places : digit_ranges(digits_of(low, 4, 16), digits_of(high, 4, 16), 16))
    for (ByteRanges bytes : prefixes) {
      for (auto& escape : one("\\u")) bytes.push_back(std::move(escape));
      for (const DigitRange& place : places) bytes.push_back(hex(place));
      result.push_back(std::move(bytes));
    }
  return result;
}

void append_escaped(char32_t low, char32_t high, std::vector<ByteRanges>& out) {
  constexpr char32_t kFirstPair = 0x10000;
  if (low < kFirstPair)
    for (auto& bytes : with_unit({ByteRanges{}}, low, std::min(high, char32_t(kFirstPair - 1))))
      out.push_back(std::move(bytes));
  if (high < kFirstPair) return;
  const char32_t first = std::max(low, kFirstPair) - kFirstPair, last = high - kFirstPair;
  for (const auto& units : digit_ranges(digits_of(first, 2, 1024), digits_of(last, 2, 1024), 1024)) {
    const auto halves = with_unit({ByteRanges{}}, 0xd800 + units[0].low, 0xd800 + units[0].high);
    for (auto& bytes : with_unit(halves, 0xdc00 + units[1].low, 0xdc00 + units[1].high))
      out.push_back(std::move(bytes));
  }
}

}  // namespace

std::vector<std::vector<DigitRange>> digit_ranges(const Digits& low, const Digits& high, uint32_t base) {
  std::vector<std::vector<DigitRange>> out;
  std::vector<DigitRange> prefix;
  append_digit_ranges(low, high, 0, base, prefix, out);
  return out;
}

std::vector<ByteRanges> spell(const CodePoints& set, Spelling spelling) {
  std::vector<ByteRanges> out;
  const bool json = spelling != Spelling::kUtf8, free = spelling == Spelling::kJsonFree;
  const CodePoints plain = json ? set.intersection({{0x20, '!'}, {'#', '['}, {']', CodePoints::kLast}}) : set;
  for (const auto& range : plain.ranges()) append_utf8(range.low, range.high, out);
  if (!json) return out;
  constexpr std::string_view kShort = "\"\"\\\\//\bb\ff\nn\rr\tt";  // the character, the letter for it
  for (size_t i = 0; i < kShort.size(); i += 2) {
    const auto c = char32_t(kShort[i]);
    if (!set.contains(c) || (c == '/' && !free)) continue;
    out.push_back(one(std::string{'\\', kShort[i + 1]}));
  }
  const CodePoints escaped = free ? set : set.intersection({{0, 0x1f}, {0x80, CodePoints::kLast}});
  for (const auto& range : escaped.ranges()) append_escaped(range.low, range.high, out);
  return out;
}

}  // namespace stamp::grammar
