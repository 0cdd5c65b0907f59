#include "models/tokenizers/oniguruma.h"

#include <cctype>
#include <string_view>
#include <vector>

#include "kernels/error.h"
#include "models/json.h"

namespace stamp {
namespace {

// \s is White_Space; PCRE2 counts U+180E, too.
constexpr std::string_view kSpace =
    R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}!-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e})"
    R"(\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
// \w: letters, marks, decimal and letter numbers, connectors, and the letters in circles.
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
// Outside of brackets Oniguruma looks at Latin-1 first, where it counts superscripts and fractions, too.
constexpr std::string_view kWordAlone = R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr std::string_view kHexDigit = "0-9A-Fa-f";
constexpr std::string_view kCategories[] = {"Any", "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm",
                                            "Lo",  "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl",
                                            "No",  "P",  "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S",
                                            "Sc",  "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};

class Translator {
 public:
  Translator(std::string_view in, const std::string& file) : in_(in), file_(file) {}

  std::string translate() {
    while (at_ < in_.size()) {
      const char c = in_[at_++];
      if (in_brackets_) {
        c == '\\' ? escape() : bracket_item(c);
        continue;
      }
      if (std::string_view("*+?{)").find(c) == std::string_view::npos) item_ = out_.size();
      if (c == '\\') escape();
      else if (c == '[') open_brackets();
      else if (c == '(') open_group();
      else if (c == ')') close_group();
      else if (c == '{') interval();
      else out_ += c;
    }
    return out_;
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }

  [[noreturn]] void refuse(const std::string& what) const {
    throw InputError(file_ + ": the regular expression " + printable(in_) + " has " + printable(what) +
                     ", which is not supported");
  }

  /// A set of characters, where it stands; `negated` is the complement.
  void set(std::string_view items, bool negated = false) {
    if (!in_brackets_) out_ += negated ? "[^" : "[";
    out_ += items;
    if (!in_brackets_) out_ += ']';
  }

  void escape() {
    if (at_ == in_.size()) refuse("a backslash at its end");
    const char c = in_[at_++];
    switch (c) {
      case 's':
        return set(kSpace);
      case 'S':
        return in_brackets_ ? set(kNotSpace) : set(kSpace, true);
      case 'w':
        return set(in_brackets_ ? std::string(kWord) : std::string(kWord).append(kWordAlone));
      case 'W':
        if (in_brackets_) refuse("\\W in brackets");
        return set(std::string(kWord).append(kWordAlone), true);
      case 'h':
        return set(kHexDigit);
      case 'H':
        if (in_brackets_) refuse("\\H in brackets");
        return set(kHexDigit, true);
      case 'b':
      case 'B':
        if (!in_brackets_) return word_boundary(c == 'B');
        break;
      case 'p':
      case 'P':
        return property(c);
      case 'u':
        return code_point();
      case 'v':
        return set("\\x{b}");  // in PCRE2 it is any vertical space
      case 'x':
        if (peek() == '{') return code_point_in_braces();
        break;
      case 'd':
      case 'D':
      case 't':
      case 'n':
      case 'r':
      case 'f':
      case 'a':
      case 'e':
      case 'A':
      case 'z':
      case 'Z':
        break;
      default:
        if (std::isalnum(static_cast<unsigned char>(c))) refuse(std::string("\\") + c);
    }
    out_ += {'\\', c};
  }

  void word_boundary(bool negated) {
    const std::string word = "[" + std::string(kWord).append(kWordAlone) + "]";
    const std::string before = "(?<=" + word + ")", not_before = "(?<!" + word + ")";
    const std::string behind = "(?=" + word + ")", not_behind = "(?!" + word + ")";
    out_ += negated ? "(?:" + before + behind + "|" + not_before + not_behind + ")"
                    : "(?:" + before + not_behind + "|" + not_before + behind + ")";
  }

  /// \p{Name}: a general category, else a script; of scripts PCRE2 would take the extensions, too.
  void property(char letter) {
    const size_t end = in_.find('}', at_);
    if (peek() != '{' || end == in_.npos) refuse("\\p without a name in braces");
    std::string_view name = in_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    bool negated = letter == 'P';
    if (name.starts_with('^')) {
      name.remove_prefix(1);
      negated = !negated;
    }
    bool category = false;
    for (const std::string_view known : kCategories) category = category || known == name;
    out_.append(negated ? "\\P{" : "\\p{").append(category ? "" : "sc:").append(name).append("}");
  }

  void code_point() {
    for (size_t i = 0; i < 4; ++i)
      if (std::isxdigit(static_cast<unsigned char>(peek(i))) == 0)
        refuse("\\u without four hexadecimal digits");
    out_.append("\\x{").append(in_.substr(at_, 4)).append("}");
    at_ += 4;
  }

  void code_point_in_braces() {
    const size_t end = in_.find('}', at_);
    if (end == in_.npos) refuse("\\x{ without its end");
    out_.append("\\x").append(in_.substr(at_, end + 1 - at_));
    at_ = end + 1;
  }

  void open_brackets() {
    in_brackets_ = true;
    out_ += '[';
    if (peek() == '^') out_ += in_[at_++];
    if (peek() == ']') {
      out_ += "\\]";
      ++at_;
    }
  }

  void bracket_item(char c) {
    if (c == '[') refuse("brackets within brackets");
    if (c == '&' && peek() == '&') refuse("&& in brackets");
    if (c == ']') in_brackets_ = false;
    out_ += c;
  }

  void open_group() {
    groups_.push_back(out_.size());
    if (peek() == '?') return special_group();
    out_ += '(';
  }

  void close_group() {
    out_ += ')';
    if (groups_.empty()) return;  // PCRE2 will say so
    item_ = groups_.back();
    groups_.pop_back();
  }

  /// What begins with "(?".
  void special_group() {
    size_t end = at_ + 1;
    while (end < in_.size() && (std::isalpha(static_cast<unsigned char>(in_[end])) != 0 || in_[end] == '-'))
      ++end;
    const std::string_view flags = in_.substr(at_ + 1, end - at_ - 1);
    if (flags.empty()) {  // (?: (?= (?! (?> (?<= (?<! (?<name>
      if (std::string_view(":=!>").find(peek(1)) == std::string_view::npos &&
          !(peek(1) == '<' && (peek(2) == '=' || peek(2) == '!')))
        refuse("a group (?" + std::string(1, peek(1)));
    } else if (end == in_.size() || (in_[end] != ':' && in_[end] != ')')) {
      refuse("a group (?" + std::string(flags));
    }
    out_ += "(?";
    for (const char flag : flags) {
      if (flag != 'i' && flag != 'm' && flag != 'x' && flag != '-') refuse(std::string("the flag ") + flag);
      out_ += flag == 'm' ? 's' : flag;  // Ruby's m: a dot matches line ends
    }
    at_ += 1 + flags.size();
  }

  /// {n}, {n,}, {n,m} or {,m}. Other braces are text.
  void interval() {
    size_t end = at_;
    while (std::isdigit(static_cast<unsigned char>(end < in_.size() ? in_[end] : '\0')) != 0) ++end;
    const bool low = end > at_;
    bool high = false;
    const bool comma = end < in_.size() && in_[end] == ',';
    if (comma) {
      const size_t begin = ++end;
      while (std::isdigit(static_cast<unsigned char>(end < in_.size() ? in_[end] : '\0')) != 0) ++end;
      high = end > begin;
    }
    if ((!low && !high) || end >= in_.size() || in_[end] != '}') {
      out_ += "\\{";
      return;
    }
    const std::string repeat = "{" + std::string(low ? "" : "0").append(in_.substr(at_, end + 1 - at_));
    at_ = end + 1;
    // {n,m}+ is that repeated, while in PCRE2 it is possessive, and {n}? is optional, while there it is lazy.
    if (peek() == '+' || (peek() == '?' && !comma)) {
      out_.insert(item_, "(?:").append(repeat).append(")");
    } else {
      out_ += repeat;
    }
  }

  std::string_view in_;
  const std::string& file_;
  size_t at_ = 0;
  bool in_brackets_ = false;
  std::string out_;
  size_t item_ = 0;             // where in out_ begins what a quantifier here would repeat
  std::vector<size_t> groups_;  // where in out_ the open groups begin
};

}  // namespace

std::string to_pcre2(const std::string& pattern, const std::string& file) {
  return Translator(pattern, file).translate();
}

}  // namespace stamp
