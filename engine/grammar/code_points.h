#pragma once
#include <initializer_list>
#include <vector>

namespace stamp::grammar {

/// A set of Unicode scalar values. Surrogates are none.
class CodePoints {
 public:
  struct Range {
    char32_t low, high;  // both inside
  };

  CodePoints() = default;
  CodePoints(std::initializer_list<Range> ranges) {
    for (const Range& range : ranges) add(range.low, range.high);
  }
  static CodePoints all() { return CodePoints{{0, kLast}}; }
  static constexpr char32_t kLast = 0x10ffff;

  void add(char32_t low, char32_t high);
  void add(const CodePoints& other) {
    for (const Range& range : other.ranges_) add(range.low, range.high);
  }
  CodePoints complement() const;
  CodePoints intersection(const CodePoints& other) const;

  bool empty() const { return ranges_.empty(); }
  bool contains(char32_t c) const;
  /// In order, without gaps of no width between them.
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  std::vector<Range> ranges_;
};

}  // namespace stamp::grammar
