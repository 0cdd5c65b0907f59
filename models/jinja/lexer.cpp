#include "models/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "models/jinja/ast.h"
#include "models/jinja/text.h"
#include "models/utf8.h"

namespace stamp::jinja {
namespace {

using Type = Token::Type;

/// Line ends become \n and the last one is dropped, as keep_trailing_newline=False does.
std::string normalise_lines(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    text += source[i] == '\r' ? '\n' : source[i];
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }
int digit_value(char c) {
  if (is_ascii_digit(c)) return c - '0';
  const char lower = char(c | 0x20);
  return lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
}

/// Undoes Python's escapes in the inside of a string literal.
std::string unescape(std::string_view raw, int line) {
  std::string out;
  const auto number = [&](size_t at, size_t digits, const char* what) {
    char32_t c = 0;
    for (size_t i = 0; i < digits; ++i) {
      const int d = at + i < raw.size() ? digit_value(raw[at + i]) : 99;
      if (d > 15) throw SyntaxError(std::string("truncated ") + what + " escape in a string", line);
      c = c * 16 + char32_t(d);
    }
    if (c > 0x10ffff) throw SyntaxError("illegal Unicode character in a string", line);
    if (c >= 0xd800 && c < 0xe000) throw SyntaxError("surrogates in a string are not supported", line);
    return c;
  };
  for (size_t i = 0; i < raw.size();) {
    if (raw[i] != '\\') {
      out += raw[i++];
      continue;
    }
    const char c = raw[i + 1];  // the scanner took the character after each backslash along
    i += 2;
    static constexpr std::string_view kPlain = "\\'\"abfnrtv", kMeaning = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t at = kPlain.find(c); at != std::string_view::npos) {
      out += kMeaning[at];
    } else if (c == '\n') {
    } else if (c >= '0' && c <= '7') {
      char32_t value = char32_t(c - '0');
      for (int n = 1; n < 3 && i < raw.size() && raw[i] >= '0' && raw[i] <= '7'; ++n)
        value = value * 8 + char32_t(raw[i++] - '0');
      append_utf8(out, value);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
      append_utf8(out, number(i, digits, c == 'x' ? "\\xXX" : c == 'u' ? "\\uXXXX" : "\\UXXXXXXXX"));
      i += digits;
    } else if (c == 'N') {
      throw SyntaxError("\\N escapes in strings are not supported", line);
    } else if (static_cast<unsigned char>(c) < 0x80) {
      out += {'\\', c};
    } else {
      // jinja2 goes over ASCII with backslash escapes here, so the backslash meets that of the character's
      // own escape.
      size_t at = i - 1;
      const char32_t point = next_code_point(raw, at);
      i = at;
      std::array<char, 16> buffer;
      std::snprintf(buffer.data(), buffer.size(),
                    point < 0x100     ? "\\x%02x"
                    : point < 0x10000 ? "\\u%04x"
                                      : "\\U%08x",
                    unsigned(point));
      out += buffer.data();
    }
  }
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalise_lines(source)), text_(source_) {}

  std::vector<Token> run() {
    while (position_ < text_.size()) root();
    return add(Type::kEnd, ""), std::move(tokens_);
  }

 private:
  char at(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }
  bool starts(size_t i, std::string_view part) const {
    return text_.substr(std::min(i, text_.size()), part.size()) == part;
  }
  size_t skip_spaces(size_t i) const {
    while (i < text_.size()) {
      size_t next = i;
      if (!text::is_space(next_code_point(text_, next))) break;
      i = next;
    }
    return i;
  }
  void add(Type type, std::string text) { tokens_.push_back({type, line_, std::move(text)}); }
  void move_to(size_t end) {
    line_ += int(std::count(text_.begin() + ptrdiff_t(position_), text_.begin() + ptrdiff_t(end), '\n'));
    if (end > position_) line_starting_ = text_[end - 1] == '\n';
    position_ = end;
  }

  /// End of a "{% raw %}" or "{% endraw %}" that begins at `i`; 0 if there is none.
  size_t raw_tag(size_t i, std::string_view word) const {
    if (!starts(i, "{%")) return 0;
    i += 2;
    if (at(i) == '-' || at(i) == '+') ++i;
    i = skip_spaces(i);
    if (!starts(i, word)) return 0;
    i = skip_spaces(i + word.size());
    const bool ends = word == "endraw";
    if (starts(i, "-%}")) return skip_spaces(i + 3);
    if (ends && starts(i, "+%}")) return i + 3;
    if (!starts(i, "%}")) return 0;
    return i + 2 + (ends && at(i + 2) == '\n' ? 1 : 0);
  }

  /// The text before a tag, without what the tag's sign or lstrip_blocks takes away.
  std::string_view before_tag(size_t begin, size_t tag, bool variable) const {
    const std::string_view text = text_.substr(begin, tag - begin);
    const char sign = at(tag + 2);
    if (sign == '-') return text::strip(text, std::nullopt, text::Side::kRight);
    if (sign == '+' || variable) return text;
    const size_t line = text.rfind('\n') + 1;  // npos + 1 is 0
    if (line == 0 && !line_starting_) return text;
    return text::strip(text.substr(line), std::nullopt, text::Side::kBoth).empty() ? text.substr(0, line)
                                                                                   : text;
  }
  void add_data(std::string_view data) {
    if (!data.empty()) add(Type::kData, std::string(data));
  }

  void root() {
    size_t tag = position_;
    while (tag < text_.size() &&
           !(text_[tag] == '{' && (at(tag + 1) == '%' || at(tag + 1) == '{' || at(tag + 1) == '#')))
      ++tag;
    if (tag == text_.size()) {
      add_data(text_.substr(position_));
      return move_to(tag);
    }
    const char kind = text_[tag + 1];
    add_data(before_tag(position_, tag, kind == '{'));
    if (const size_t end = kind == '%' ? raw_tag(tag, "raw") : 0; end > 0) {
      move_to(end);
      return raw();
    }
    const size_t end = tag + (at(tag + 2) == '-' || at(tag + 2) == '+' ? 3 : 2);
    move_to(tag);
    if (kind != '#') add(kind == '%' ? Type::kBlockBegin : Type::kVariableBegin, "");
    move_to(end);
    if (kind == '#') return comment();
    code(kind == '%');
  }

  void raw() {
    for (size_t i = position_; i < text_.size(); ++i) {
      const size_t end = raw_tag(i, "endraw");
      if (end == 0) continue;
      add_data(before_tag(position_, i, false));
      return move_to(end);
    }
    if (position_ < text_.size()) throw SyntaxError("Missing end of raw directive", line_);
  }

  void comment() {
    const size_t end = text_.find("#}", position_);
    if (end == std::string_view::npos) {
      if (position_ < text_.size()) throw SyntaxError("Missing end of comment tag", line_);
      return;
    }
    const char sign = end > position_ ? text_[end - 1] : '\0';
    if (sign == '-') return move_to(skip_spaces(end + 2));
    move_to(end + 2 + (sign != '+' && at(end + 2) == '\n' ? 1 : 0));
  }

  /// The inside of a {% %} or {{ }}, up to its end.
  void code(bool block) {
    const std::string_view close = block ? "%}" : "}}";
    std::string open;  // brackets that still have to be closed, as their closing ones
    while (position_ < text_.size()) {
      const char c = text_[position_];
      if (open.empty()) {
        size_t end = 0;
        if (c == '-' && starts(position_ + 1, close)) end = skip_spaces(position_ + 3);
        else if (block && c == '+' && starts(position_ + 1, close)) end = position_ + 3;
        else if (starts(position_, close)) end = position_ + 2 + (block && at(position_ + 2) == '\n' ? 1 : 0);
        if (end > 0) {
          add(block ? Type::kBlockEnd : Type::kVariableEnd, "");
          return move_to(end);
        }
      }
      if (const size_t end = skip_spaces(position_); end > position_) move_to(end);
      else if (is_ascii_digit(c)) number();
      else if ((c == '"' || c == '\'') && string(c)) continue;
      else if (!name()) operation(open);
    }
  }

  void number() {
    const auto digits = [&](size_t i) {  // end of (\d+_)*\d+ at i
      size_t end = i;
      while (is_ascii_digit(at(end)) || (end > i && at(end) == '_' && is_ascii_digit(at(end + 1)))) ++end;
      return end;
    };
    const size_t begin = position_, whole = digits(begin);
    size_t end = whole;
    bool real = false;
    if (at(whole) == '.' && digits(whole + 1) > whole + 1) {
      end = digits(whole + 1);
      real = true;
    }
    if ((at(end) | 0x20) == 'e') {
      const size_t exponent = end + 1 + (at(end + 1) == '+' || at(end + 1) == '-' ? 1 : 0);
      if (digits(exponent) > exponent) {
        end = digits(exponent);
        real = true;
      }
    }
    if (real && !(begin > 0 && text_[begin - 1] == '.')) {
      std::string plain(text_.substr(begin, end - begin));
      std::erase(plain, '_');
      add(Type::kFloat, plain);
      tokens_.back().real = std::strtod(plain.c_str(), nullptr);
      return move_to(end);
    }
    integer(begin);
  }

  void integer(size_t begin) {
    int base = 10;
    size_t i = begin;
    if (text_[begin] == '0') {
      const char mark = char(at(begin + 1) | 0x20);
      const int marked = mark == 'b' ? 2 : mark == 'o' ? 8 : mark == 'x' ? 16 : 0;
      const size_t first = begin + 2 + (at(begin + 2) == '_' ? 1 : 0);
      if (marked > 0 && digit_value(at(first)) < marked) {
        base = marked;
        i = begin + 2;
      }
    }
    const bool zeros = base == 10 && text_[begin] == '0';  // 0 and 00, but never 012
    uint64_t value = 0;
    const auto fits = [&](char c) { return zeros ? c == '0' : digit_value(c) < base; };
    for (; fits(at(i)) || ((i > begin) && at(i) == '_' && fits(at(i + 1))); ++i) {
      if (at(i) == '_') continue;
      if (value > (uint64_t(INT64_MAX) - uint64_t(digit_value(at(i)))) / uint64_t(base))
        throw SyntaxError("the number does not fit 64 bits, which is not supported", line_);
      value = value * uint64_t(base) + uint64_t(digit_value(at(i)));
    }
    add(Type::kInteger, std::string(text_.substr(begin, i - begin)));
    tokens_.back().integer = int64_t(value);
    move_to(i);
  }

  bool string(char quote) {
    size_t i = position_ + 1;
    while (i < text_.size() && text_[i] != quote) i += text_[i] == '\\' ? 2 : 1;
    if (i >= text_.size())
      throw SyntaxError(std::string("the string that ") + quote + " begins does not end", line_);
    add(Type::kString, unescape(text_.substr(position_ + 1, i - position_ - 1), line_));
    move_to(i + 1);
    return true;
  }

  bool name() {
    size_t end = position_;
    while (end < text_.size()) {
      size_t next = end;
      const char32_t c = next_code_point(text_, next);
      if (!(end == position_ ? text::is_identifier_start(c) : text::is_identifier_part(c))) break;
      end = next;
    }
    if (end == position_) return false;
    add(Type::kName, std::string(text_.substr(position_, end - position_)));
    move_to(end);
    return true;
  }

  void operation(std::string& open) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    const auto op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                 [&](auto o) { return starts(position_, o); });
    if (op == std::end(kOperators)) {
      size_t end = position_;
      next_code_point(text_, end);
      throw SyntaxError("unexpected char " + text::quote(text_.substr(position_, end - position_)), line_);
    }
    const char c = (*op)[0];
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) throw SyntaxError(std::string("unexpected '") + c + "'", line_);
      if (open.back() != c)
        throw SyntaxError(std::string("unexpected '") + c + "', expected '" + open.back() + "'", line_);
      open.pop_back();
    }
    add(Type::kOperator, std::string(*op));
    move_to(position_ + op->size());
  }

  std::string source_;
  std::string_view text_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last token ended with a line end
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

std::string describe(const Token& token) {
  switch (token.type) {
    case Type::kData:
      return "template data / text";
    case Type::kVariableBegin:
      return "begin of print statement";
    case Type::kVariableEnd:
      return "end of print statement";
    case Type::kBlockBegin:
      return "begin of statement block";
    case Type::kBlockEnd:
      return "end of statement block";
    case Type::kString:
      return "string";
    case Type::kInteger:
      return "integer";
    case Type::kFloat:
      return "float";
    case Type::kEnd:
      return "end of template";
    default:
      return token.text;
  }
}

}  // namespace stamp::jinja
