#include "engine/grammar/regex.h"

#include <algorithm>
#include <string>

#include "kernels/error.h"
#include "models/utf8.h"

namespace stamp::grammar {
namespace {

constexpr uint32_t kMaxCount = 100'000;
constexpr int kMaxNesting = 200;

CodePoints line_ends() { return {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}; }
CodePoints digits() { return {{'0', '9'}}; }
CodePoints word_characters() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
CodePoints spaces() {
  return {{'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680}, {0x2000, 0x200a},
          {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
}

bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }

class Parser {
 public:
  explicit Parser(std::string_view pattern) {
    if (!is_valid_utf8(pattern)) throw InputError("is not valid UTF-8");
    for (size_t at = 0; at < pattern.size();) text_.push_back(next_code_point(pattern, at));
  }

  Expression parse(RegexMatch match) {
    std::vector<Expression> branches;
    do {
      const bool at_start = take('^');
      Expression body = sequence_of_atoms();
      const bool at_end = take('$');
      if (match == RegexMatch::kAnywhere) {
        const Expression anything = repeat(characters(CodePoints::all()), 0);
        body = sequence({at_start ? empty() : anything, std::move(body), at_end ? empty() : anything});
      }
      branches.push_back(std::move(body));
    } while (take('|'));
    if (!done())
      fail(peek() == ')' ? "a ) without its (" : "an anchor is supported at the ends of an alternative only");
    return choice(std::move(branches));
  }

 private:
  [[noreturn]] void fail(const std::string& what, size_t at) const {
    throw InputError(what + " at position " + std::to_string(at + 1));
  }
  [[noreturn]] void fail(const std::string& what) const { fail(what, at_); }

  bool done() const { return at_ == text_.size(); }
  /// 0 behind the end: the character itself never is one of the syntax.
  char32_t peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : 0; }
  bool take(char32_t c) {
    if (done() || peek() != c) return false;
    ++at_;
    return true;
  }

  Expression alternatives() {
    std::vector<Expression> branches;
    do branches.push_back(sequence_of_atoms());
    while (take('|'));
    return choice(std::move(branches));
  }

  Expression sequence_of_atoms() {
    std::vector<Expression> parts;
    while (!done() && peek() != '|' && peek() != ')' && peek() != '$' && peek() != '^')
      parts.push_back(quantified(atom()));
    return sequence(std::move(parts));
  }

  /// Whether a { here is a count; otherwise it is a character.
  bool at_count() const {
    size_t ahead = 1;
    while (is_digit(peek(ahead))) ++ahead;
    if (ahead == 1) return false;
    if (peek(ahead) == ',') ++ahead;
    while (is_digit(peek(ahead))) ++ahead;
    return peek(ahead) == '}';
  }

  uint32_t number() {
    uint32_t x = 0;
    const size_t begin = at_;
    for (; is_digit(peek()); ++at_)
      if ((x = 10 * x + uint32_t(peek() - '0')) > kMaxCount)
        fail("a count above " + std::to_string(kMaxCount), begin);
    return x;
  }

  Expression quantified(Expression part) {
    const size_t begin = at_;
    if (take('*')) part = repeat(std::move(part), 0);
    else if (take('+')) part = repeat(std::move(part), 1);
    else if (take('?')) part = optional(std::move(part));
    else if (peek() == '{' && at_count()) {
      ++at_;
      const uint32_t least = number();
      const uint32_t most = take(',') ? (is_digit(peek()) ? number() : Expression::kNoLimit) : least;
      ++at_;
      if (most < least) fail("a count whose bounds are out of order", begin);
      part = repeat(std::move(part), least, most);
    } else {
      return part;
    }
    take('?');  // lazy: which of several ways is taken is no matter
    if (peek() == '+') fail("a possessive quantifier, which is not supported,");
    if (peek() == '*' || peek() == '?' || (peek() == '{' && at_count())) fail("a quantifier of a quantifier");
    return part;
  }

  Expression atom() {
    const size_t begin = at_;
    const char32_t c = text_[at_++];
    switch (c) {
      case '(':
        return group(begin);
      case '[':
        return characters(character_class(begin));
      case '.':
        return characters(line_ends().complement());
      case '\\':
        return characters(escape(false));
      case '*':
      case '+':
      case '?':
        fail("a quantifier without anything before it", begin);
      case '{':
        --at_;
        if (at_count()) fail("a quantifier without anything before it", begin);
        ++at_;
        [[fallthrough]];
      default:
        return characters({{c, c}});
    }
  }

  Expression group(size_t begin) {
    if (++nesting_ > kMaxNesting) fail("groups nested deeper than " + std::to_string(kMaxNesting), begin);
    if (take('?')) group_kind(begin);
    Expression inside = alternatives();
    if (!take(')')) {
      if (done()) fail("a ( without its )", begin);
      fail("an anchor within a group, which is not supported,");
    }
    --nesting_;
    return inside;
  }

  /// Behind "(?".
  void group_kind(size_t begin) {
    if (take(':')) return;
    const char32_t kind = peek(), next = peek(1);
    if (kind == '=' || kind == '!') fail("look-ahead, which is not supported,", begin);
    if (kind == '<' && (next == '=' || next == '!')) fail("look-behind, which is not supported,", begin);
    if (kind == '>') fail("an atomic group, which is not supported,", begin);
    if (kind == '#') fail("a comment, which is not supported,", begin);
    if (kind == 'P' && next == '=') fail("a back-reference, which is not supported,", begin);
    take('P');
    if (!take('<')) fail("flags or an unknown kind of group, which are not supported,", begin);
    const size_t name = at_;
    while (!done() && peek() != '>') {
      const char32_t c = peek();
      if (!word_characters().contains(c) && c < 0x80) fail("a character that is not for names");
      ++at_;
    }
    if (at_ == name || !take('>')) fail("a group's name without its end", begin);
  }

  CodePoints character_class(size_t begin) {
    const bool negated = take('^');
    if (peek() == ']') fail("an empty class", begin);
    CodePoints set;
    while (!take(']')) {
      if (done()) fail("a [ without its ]", begin);
      const size_t item = at_;
      const CodePoints low = class_item();
      const bool single = low.ranges().size() == 1 && low.ranges()[0].low == low.ranges()[0].high;
      if (peek() != '-' || peek(1) == ']' || at_ + 1 >= text_.size()) {
        set.add(low);
        continue;
      }
      ++at_;
      const CodePoints high = class_item();
      if (!single || high.ranges().size() != 1 || high.ranges()[0].low != high.ranges()[0].high)
        fail("a range between classes", item);
      if (high.ranges()[0].low < low.ranges()[0].low) fail("a range that is out of order", item);
      set.add(low.ranges()[0].low, high.ranges()[0].low);
    }
    return negated ? set.complement() : set;
  }

  CodePoints class_item() {
    const char32_t c = text_[at_++];
    if (c == '\\') return escape(true);
    return {{c, c}};
  }

  /// Behind a backslash.
  CodePoints escape(bool in_class) {
    const size_t begin = at_ - 1;
    if (done()) fail("a \\ without anything behind it", begin);
    const char32_t c = text_[at_++];
    const auto one = [](char32_t x) { return CodePoints{{x, x}}; };
    switch (c) {
      case 'd':
        return digits();
      case 'D':
        return digits().complement();
      case 'w':
        return word_characters();
      case 'W':
        return word_characters().complement();
      case 's':
        return spaces();
      case 'S':
        return spaces().complement();
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 't':
        return one('\t');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case '0':
        if (is_digit(peek())) fail("an octal escape, which is not supported,", begin);
        return one(0);
      case 'x':
        return one(hexadecimal(2, begin));
      case 'u':
        return one(take('{') ? braced(begin) : unit(begin));
      default:
        break;
    }
    if (is_digit(c) || c == 'k') fail("a back-reference, which is not supported,", begin);
    if (c == 'b' && in_class) return one('\b');
    if (c == 'b' || c == 'B' || c == 'A' || c == 'Z' || c == 'z')
      fail("an assertion, which is not supported,", begin);
    if (c == 'p' || c == 'P') fail("a Unicode property, which is not supported,", begin);
    if (word_characters().contains(c)) fail("an unknown escape", begin);
    return one(c);
  }

  char32_t hex_digit(size_t begin) {
    const char32_t c = peek();
    const char32_t digit = is_digit(c)            ? c - '0'
                           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                  : 16;
    if (digit == 16) fail("an escape without its hexadecimal digits", begin);
    ++at_;
    return digit;
  }
  char32_t hexadecimal(int count, size_t begin) {
    char32_t x = 0;
    for (; count > 0; --count) x = 16 * x + hex_digit(begin);
    return x;
  }
  /// The UTF-16 of \uHHHH, which may be one half of a pair.
  char32_t unit(size_t begin) {
    const char32_t high = hexadecimal(4, begin);
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || !take('\\') || !take('u')) fail("a surrogate on its own", begin);
    const char32_t low = hexadecimal(4, begin);
    if (low < 0xdc00 || low > 0xdfff) fail("a surrogate on its own", begin);
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  }
  char32_t braced(size_t begin) {
    char32_t x = 0;
    do
      if ((x = 16 * x + hex_digit(begin)) > CodePoints::kLast) fail("a code point above U+10FFFF", begin);
    while (!take('}'));
    if (x >= 0xd800 && x <= 0xdfff) fail("a surrogate on its own", begin);
    return x;
  }

  std::vector<char32_t> text_;
  size_t at_ = 0;
  int nesting_ = 0;
};

}  // namespace

Expression parse_regex(std::string_view pattern, RegexMatch match) { return Parser(pattern).parse(match); }

}  // namespace stamp::grammar
