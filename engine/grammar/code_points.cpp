#include "engine/grammar/code_points.h"

#include <algorithm>

namespace stamp::grammar {
namespace {

constexpr char32_t kFirstSurrogate = 0xd800, kLastSurrogate = 0xdfff;

}  // namespace

void CodePoints::add(char32_t low, char32_t high) {
  if (low <= kLastSurrogate && high >= kFirstSurrogate) {
    if (low < kFirstSurrogate) add(low, kFirstSurrogate - 1);
    if (high > kLastSurrogate) add(kLastSurrogate + 1, high);
    return;
  }
  if (low > high) return;
  const auto begin = std::find_if(ranges_.begin(), ranges_.end(),
                                  [low](const Range& range) { return range.high + 1 >= low; });
  auto end = begin;
  for (; end != ranges_.end() && end->low <= high + 1; ++end) {
    low = std::min(low, end->low);
    high = std::max(high, end->high);
  }
  ranges_.insert(ranges_.erase(begin, end), Range{low, high});
}

CodePoints CodePoints::complement() const {
  CodePoints result;
  char32_t next = 0;
  for (const Range& range : ranges_) {
    if (range.low > next) result.add(next, range.low - 1);
    next = range.high + 1;
  }
  if (next <= kLast) result.add(next, kLast);
  return result;
}

CodePoints CodePoints::intersection(const CodePoints& other) const {
  CodePoints both = complement();
  both.add(other.complement());
  return both.complement();
}

bool CodePoints::contains(char32_t c) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [c](const Range& range) { return range.low <= c && c <= range.high; });
}

}  // namespace stamp::grammar
