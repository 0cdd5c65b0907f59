#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "models/jinja/builtins.h"
#include "models/jinja/text.h"
#include "models/utf8.h"

namespace stamp::jinja {
namespace {

constexpr int64_t kMaxField = int64_t{1} << 16;  // widths and precisions

/// One field of either kind of formatting.
struct Spec {
  std::string fill = " ";
  char align = 0;   // < > = ^; 0: by type
  char sign = '-';  // - + or space
  bool has_sign = false;
  bool alternate = false;
  int64_t width = 0, precision = -1;
  char grouping = 0;  // , or _
  char type = 0;
};

/// A number before it is padded.
struct Digits {
  std::string sign, prefix, whole, rest;
};

std::string printf_real(const char* format, int64_t precision, double x) {
  const int size = std::snprintf(nullptr, 0, format, int(precision), x);
  std::string out(size_t(size), '\0');
  std::snprintf(out.data(), out.size() + 1, format, int(precision), x);
  return out;
}

std::string sign_of(bool negative, char sign) {
  return negative ? "-" : sign == '-' ? "" : std::string(1, sign);
}

Digits split_digits(const std::string& text) {
  const size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
  return {"", "", text.substr(0, end), text.substr(end)};
}

Digits real_digits(double x, const Spec& spec) {
  const char type = spec.type;
  const double size = std::fabs(type == '%' ? x * 100 : x);
  const int64_t precision = spec.precision < 0 ? 6 : spec.precision;
  std::string text;
  if (!std::isfinite(x)) {
    text = std::isnan(x) ? "nan" : "inf";
    if (type == 'E' || type == 'F' || type == 'G') text = text::upper(text);
  } else if (type == 0 && spec.precision < 0) {
    text = repr_float(size);
  } else if (type == 0) {  // like g, but a number without exponent keeps a digit after the point
    const int64_t digits = std::max<int64_t>(precision, 1);
    const std::string scientific = printf_real("%.*e", digits - 1, size);
    const int exponent = std::atoi(scientific.c_str() + scientific.find('e') + 1);
    text = exponent < -4 || exponent + 1 > digits - 1 ? printf_real("%.*e", digits - 1, size)
                                                      : printf_real("%.*f", digits - 1 - exponent, size);
    const size_t e = std::min(text.find('e'), text.size());
    std::string mantissa = text.substr(0, e);
    if (mantissa.find('.') != std::string::npos) {
      while (mantissa.back() == '0') mantissa.pop_back();
      if (mantissa.back() == '.') mantissa.pop_back();
    }
    if (e == text.size() && mantissa.find('.') == std::string::npos) mantissa += ".0";
    text = mantissa + text.substr(e);
  } else {
    const char kind = type == 'n' ? 'g' : type == '%' ? 'f' : type;
    const std::string format = std::string(spec.alternate ? "%#.*" : "%.*") + kind;
    text = printf_real(format.c_str(), precision, size);
  }
  if (type == '%') text += '%';
  Digits digits = split_digits(text);
  digits.sign = sign_of(std::signbit(x) && !std::isnan(x), spec.sign);
  return digits;
}

Digits integer_digits(int64_t x, const Spec& spec) {
  const uint64_t size = x < 0 ? uint64_t(0) - uint64_t(x) : uint64_t(x);
  const int base = spec.type == 'b'                       ? 2
                   : spec.type == 'o'                     ? 8
                   : spec.type == 'x' || spec.type == 'X' ? 16
                                                          : 10;
  std::string text;
  for (uint64_t rest = size; rest > 0 || text.empty(); rest /= uint64_t(base))
    text += "0123456789abcdef"[rest % uint64_t(base)];
  std::reverse(text.begin(), text.end());
  if (spec.type == 'X') text = text::upper(text);
  Digits digits{sign_of(x < 0, spec.sign), "", text, ""};
  if (spec.alternate && base != 10) digits.prefix = std::string("0") + spec.type;
  return digits;
}

std::string grouped(const std::string& digits, char separator, size_t every) {
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % every == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string padded(const std::string& text, const Spec& spec, char natural) {
  const int64_t room = spec.width - text::length(text);
  if (room <= 0) return text;
  const char align = spec.align != 0 ? spec.align : natural;
  const int64_t left = align == '<' ? 0 : align == '^' ? room / 2 : room;
  return times(spec.fill, left) + text + times(spec.fill, room - left);
}

std::string padded(Digits digits, const Spec& spec) {
  const size_t every = spec.type == 'b' || spec.type == 'o' || spec.type == 'x' || spec.type == 'X' ? 4 : 3;
  const auto whole = [&] {
    return spec.grouping != 0 ? grouped(digits.whole, spec.grouping, every) : digits.whole;
  };
  if (spec.align != '=') return padded(digits.sign + digits.prefix + whole() + digits.rest, spec, '>');
  const int64_t fixed = text::length(digits.sign + digits.prefix + digits.rest);
  if (spec.fill == "0" && spec.grouping != 0) {
    std::string zeros = digits.whole;
    while (fixed + int64_t(grouped(zeros, spec.grouping, every).size()) < spec.width) zeros.insert(0, 1, '0');
    digits.whole = zeros;
  }
  const std::string number = whole();
  const int64_t room = spec.width - fixed - int64_t(number.size());
  return digits.sign + digits.prefix + times(spec.fill, room) + number + digits.rest;
}

std::string truncated(const std::string& text, int64_t precision) {
  return precision < 0 ? text : text.substr(0, text::byte_of(text, precision));
}

/// ascii(value)
std::string ascii(Interpreter& in, const Value& value) {
  std::string out;
  const std::string text = repr(in.heap(), value);
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    std::array<char, 16> buffer;
    std::snprintf(buffer.data(), buffer.size(),
                  c < 0x80      ? "%c"
                  : c < 0x100   ? "\\x%02x"
                  : c < 0x10000 ? "\\u%04x"
                                : "\\U%08x",
                  unsigned(c));
    out += buffer.data();
  }
  return out;
}

/// Reads decimal digits at `at`; -1 if there are none.
int64_t read_number(std::string_view s, size_t& at) {
  if (at >= s.size() || s[at] < '0' || s[at] > '9') return -1;
  int64_t n = 0;
  for (; at < s.size() && s[at] >= '0' && s[at] <= '9'; ++at)
    if ((n = n * 10 + (s[at] - '0')) > kMaxField) throw Failure("a width or precision is too large");
  return n;
}

class PercentFormatter {
 public:
  PercentFormatter(Interpreter& in, std::string_view format, const Value& args, bool markup)
      : in_(in), format_(format), args_(args), markup_(markup) {}

  std::string run() {
    while (at_ < format_.size()) {
      const size_t next = std::min(format_.find('%', at_), format_.size());
      append(in_, out_, format_.substr(at_, next - at_));
      at_ = next + 1;
      if (next < format_.size()) field();
    }
    const bool mapping =
        args_.is(Kind::kDict) || args_.is(Kind::kList) || args_.is(Kind::kRange) || args_.is_undefined();
    const size_t given = args_.is(Kind::kTuple) ? args_.as<List>().items.size() : 1;
    if (used_ < given && !mapping) throw Failure("not all arguments converted during string formatting");
    return std::move(out_);
  }

 private:
  char take() {
    if (at_ >= format_.size()) throw Failure("incomplete format");
    return format_[at_++];
  }
  Value next_argument() {
    if (args_.is(Kind::kTuple) && used_ < args_.as<List>().items.size())
      return args_.as<List>().items[used_++];
    if (args_.is(Kind::kTuple) || used_ > 0) throw Failure("not enough arguments for format string");
    ++used_;
    return args_;
  }
  Value named_argument() {
    if (args_.is_undefined()) throw Failure(undefined_message(args_));
    if (!args_.is(Kind::kDict)) throw Failure("format requires a mapping");
    const size_t begin = at_;
    for (int depth = 1; depth > 0;) {
      const char c = take();
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    }
    const std::string_view key = format_.substr(begin, at_ - 1 - begin);
    const Value* value = args_.as<Dict>().find(in_.heap(), key);
    if (value == nullptr) throw Failure("the mapping of a format has no key " + text::quote(key));
    return *value;
  }
  int64_t star() {
    const Value value = next_argument();
    if (!value.is_integral()) throw Failure("* wants int");
    if (std::abs(value.integer()) > kMaxField) throw Failure("a width or precision is too large");
    return value.integer();
  }

  void field() {
    if (at_ < format_.size() && format_[at_] == '%') {
      ++at_;
      return append(in_, out_, "%");
    }
    std::optional<Value> named;
    if (at_ < format_.size() && format_[at_] == '(') {
      ++at_;
      named = named_argument();
    }
    Spec spec;
    bool zero = false, left = false;
    char c = take();
    for (; std::string_view("-+ #0").find(c) != std::string_view::npos; c = take()) {
      if (c == '-') left = true;
      else if (c == '#') spec.alternate = true;
      else if (c == '0') zero = true;
      else if (spec.sign != '+') spec.sign = c;
    }
    --at_;
    if (c == '*') {
      ++at_;
      spec.width = star();
      if (spec.width < 0) left = true, spec.width = -spec.width;
    } else {
      spec.width = std::max<int64_t>(read_number(format_, at_), 0);
    }
    c = take();
    if (c == '.') {
      if (at_ < format_.size() && format_[at_] == '*') {
        ++at_;
        spec.precision = std::max<int64_t>(star(), 0);
      } else {
        spec.precision = std::max<int64_t>(read_number(format_, at_), 0);
      }
      c = take();
    }
    if (c == 'h' || c == 'l' || c == 'L') c = take();
    const Value value = named ? *named : next_argument();
    spec.align = left ? '<' : '>';
    append(in_, out_, converted(value, c, spec, zero && !left));
  }

  std::string converted(const Value& value, char type, Spec spec, bool zero) {
    const auto number = [&](Digits digits) {
      if (zero) spec.align = '=', spec.fill.assign(1, '0');
      return padded(std::move(digits), spec);
    };
    const auto escaped = [&](const std::string& text, bool already) {
      return markup_ && !already ? text::escape_html(text) : text;
    };
    switch (type) {
      case 's':
        return padded(truncated(escaped(in_.string(value), value.is_markup()), spec.precision), spec, '>');
      case 'r':
        return padded(truncated(escaped(repr(in_.heap(), value), false), spec.precision), spec, '>');
      case 'a':
        return padded(truncated(escaped(ascii(in_, value), false), spec.precision), spec, '>');
      case 'c':
        return padded(character(value), spec, '>');
      case 'd':
      case 'i':
      case 'u':
        require_number(value, type);
        spec.type = 'd';
        return number(with_precision(
            integer_digits(value.is(Kind::kFloat) ? truncate(value.real()) : value.integer(), spec), spec));
      case 'o':
      case 'x':
      case 'X':
        if (!value.is_integral())
          throw Failure(std::string("%") + type + " format: an integer is required, not " +
                        std::string(type_name(value.kind())));
        spec.type = type;
        return number(with_precision(integer_digits(value.integer(), spec), spec));
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        require_number(value, type);
        spec.type = type;
        return number(real_digits(value.real(), spec));
      default:
        throw Failure(std::string("unsupported format character '") + type + "'");
    }
  }
  static void require_number(const Value& value, char type) {
    if (value.is_undefined()) throw Failure(undefined_message(value));
    if (!value.is_number())
      throw Failure(std::string("%") + type + " format: a real number is required, not " +
                    std::string(type_name(value.kind())));
  }
  static Digits with_precision(Digits digits, const Spec& spec) {
    digits.whole = times("0", spec.precision - int64_t(digits.whole.size())) + digits.whole;
    return digits;
  }
  static std::string character(const Value& value) {
    if (value.is_string() && text::length(value.text()) == 1) return std::string(value.text());
    if (!value.is_integral()) throw Failure("%c requires int or char");
    const int64_t c = value.integer();
    if (c < 0 || c > 0x10ffff) throw Failure("%c arg not in range(0x110000)");
    if (c >= 0xd800 && c < 0xe000) throw Failure("surrogates are not supported");
    std::string out;
    append_utf8(out, char32_t(c));
    return out;
  }

  Interpreter& in_;
  std::string_view format_;
  const Value& args_;
  bool markup_;
  size_t at_ = 0, used_ = 0;
  std::string out_;
};

Spec parse_spec(std::string_view s) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < s.size() && std::string_view("<>=^").find(s[i]) != std::string_view::npos;
  };
  const size_t first = s.empty() ? 0 : utf8_length(static_cast<unsigned char>(s[0]));
  bool filled = false;
  if (is_align(first)) {
    spec.fill = s.substr(0, first);
    spec.align = s[first];
    at = first + 1;
    filled = true;
  } else if (is_align(0)) {
    spec.align = s[at++];
  }
  const auto skip = [&](char c) { return at < s.size() && s[at] == c && (++at, true); };
  spec.has_sign = at < s.size() && std::string_view("+- ").find(s[at]) != std::string_view::npos;
  if (spec.has_sign) spec.sign = s[at++];
  spec.alternate = skip('#');
  if (!filled && skip('0')) {
    spec.fill.assign(1, '0');
    if (spec.align == 0) spec.align = '=';
  }
  spec.width = std::max<int64_t>(read_number(s, at), 0);
  if (skip(',')) spec.grouping = ',';
  if (skip('_')) {
    if (spec.grouping != 0) throw Failure("Cannot specify both ',' and '_'.");
    spec.grouping = '_';
  }
  if (skip('.')) {
    spec.precision = read_number(s, at);
    if (spec.precision < 0) throw Failure("Format specifier missing precision");
  }
  if (at + 1 < s.size()) throw Failure("Invalid format specifier");
  if (at < s.size()) spec.type = s[at];
  return spec;
}

std::string format_value(Interpreter& in, const Value& value, std::string_view text) {
  if (text.empty()) return in.string(value);
  if (!value.is_string() && !value.is_number())
    throw Failure("unsupported format string passed to " + std::string(type_name(value.kind())) +
                  ".__format__");
  Spec spec = parse_spec(text);
  const auto unknown = [&] {
    throw Failure(std::string("Unknown format code '") + spec.type + "' for object of type '" +
                  std::string(type_name(value.kind())) + "'");
  };
  if (value.is_string()) {
    if (spec.type != 0 && spec.type != 's') unknown();
    if (spec.has_sign) throw Failure("Sign not allowed in string format specifier");
    if (spec.alternate) throw Failure("Alternate form (#) not allowed in string format specifier");
    if (spec.align == '=' && spec.fill == "0" && text.find('=') == std::string_view::npos) spec.align = '<';
    if (spec.align == '=') throw Failure("'=' alignment not allowed in string format specifier");
    if (spec.grouping != 0) throw Failure(std::string("Cannot specify '") + spec.grouping + "' with 's'.");
    return padded(truncated(std::string(value.text()), spec.precision), spec, '<');
  }
  static constexpr std::string_view kReal = "eEfFgG%n", kInteger = "bcdoxXn";
  const bool real =
      value.is(Kind::kFloat) || (spec.type != 0 && kInteger.find(spec.type) == std::string_view::npos);
  if (real) {
    if (spec.type != 0 && kReal.find(spec.type) == std::string_view::npos) unknown();
    return padded(real_digits(value.real(), spec), spec);
  }
  if (spec.precision >= 0) throw Failure("Precision not allowed in integer format specifier");
  if (spec.type == 'c') throw Failure("the format code 'c' is not supported");
  if (spec.grouping == ',' && spec.type != 0 && spec.type != 'd')
    throw Failure(std::string("Cannot specify ',' with '") + spec.type + "'.");
  return padded(integer_digits(value.integer(), spec), spec);
}

class BraceFormatter {
 public:
  BraceFormatter(Interpreter& in, const CallArguments& args) : in_(in), args_(args) {}

  std::string run(std::string_view format, int depth) {
    if (depth < 0) throw Failure("Max string recursion exceeded");
    std::string out;
    for (size_t at = 0; at < format.size();) {
      const size_t brace = std::min(format.find_first_of("{}", at), format.size());
      append(in_, out, format.substr(at, brace - at));
      at = brace + 1;
      if (brace == format.size()) break;
      const bool doubled = at < format.size() && format[at] == format[brace];
      if (doubled) {
        append(in_, out, format.substr(at++, 1));
      } else if (format[brace] == '}') {
        throw Failure("Single '}' encountered in format string");
      } else {
        append(in_, out, field(format, at, depth));
      }
    }
    return out;
  }

 private:
  /// The field whose brace ends before `at`, which moves behind its closing one.
  std::string field(std::string_view format, size_t& at, int depth) {
    if (at >= format.size()) throw Failure("Single '{' encountered in format string");
    const size_t begin = at;
    size_t end = begin;
    for (int open = 1; end < format.size(); ++end) {
      open += format[end] == '{' ? 1 : format[end] == '}' ? -1 : 0;
      if (open == 0) break;
    }
    if (end == format.size()) throw Failure("expected '}' before end of string");
    at = end + 1;
    const std::string_view inside = format.substr(begin, end - begin);
    size_t name_end = 0;  // brackets hide ! and :
    for (bool bracket = false; name_end < inside.size(); ++name_end) {
      const char c = inside[name_end];
      if (c == '{') throw Failure("unexpected '{' in field name");
      if (c == '[') bracket = true;
      if (c == ']') bracket = false;
      if (!bracket && (c == '!' || c == ':')) break;
    }
    Value value = lookup(inside.substr(0, name_end));
    std::string_view rest = inside.substr(name_end);
    if (rest.starts_with('!')) {
      if (rest.size() < 2) throw Failure("end of string while looking for conversion specifier");
      if (rest.size() > 2 && rest[2] != ':') throw Failure("expected ':' after conversion specifier");
      value = convert(value, rest[1]);
      rest.remove_prefix(2);
    }
    const std::string spec = rest.empty() ? "" : run(rest.substr(1), depth - 1);
    return format_value(in_, value, spec);
  }

  Value convert(const Value& value, char how) {
    if (how == 's') return in_.text(in_.string(value));
    if (how == 'r') return in_.text(repr(in_.heap(), value));
    if (how == 'a') return in_.text(ascii(in_, value));
    throw Failure(std::string("Unknown conversion specifier ") + how);
  }

  Value lookup(std::string_view name) {
    const size_t first = std::min(name.find_first_of(".["), name.size());
    Value value = argument(name.substr(0, first));
    for (size_t at = first; at < name.size();) {
      const bool item = name[at] == '[';
      const size_t begin = at + 1;
      const size_t end =
          item ? name.find(']', begin) : std::min(name.find_first_of(".[", begin), name.size());
      if (end == std::string_view::npos) throw Failure("Missing ']' in format string");
      const std::string_view part = name.substr(begin, end - begin);
      if (part.empty()) throw Failure("Empty attribute in format string");
      const std::string_view stored = in_.heap().store(part);
      size_t digits = 0;
      const int64_t number = read_number(part, digits);
      if (!item) value = get_attribute(in_, value, stored);
      else
        value = get_item(in_, value,
                         number >= 0 && digits == part.size() ? Value::integer(number) : Value::text(stored));
      at = item ? end + 1 : end;
      if (item && at < name.size() && name[at] != '.' && name[at] != '[')
        throw Failure("Only '.' or '[' may follow ']' in format field specifier");
    }
    return value;
  }

  Value argument(std::string_view name) {
    size_t at = 0;
    const int64_t number = read_number(name, at);
    const bool numbered = number >= 0 && at == name.size();
    if (name.empty() || numbered) {
      if ((name.empty() && manual_) || (numbered && automatic_ > 0))
        throw Failure("cannot switch between manual field specification and automatic field numbering");
      manual_ |= numbered;
      const size_t index = numbered ? size_t(number) : automatic_++;
      if (index >= args_.positional.size())
        throw Failure("Replacement index " + std::to_string(index) +
                      " out of range for positional args tuple");
      return args_.positional[index];
    }
    for (const auto& [known, value] : args_.named)
      if (known == name) return value;
    throw Failure("the format has no argument " + text::quote(name));
  }

  Interpreter& in_;
  const CallArguments& args_;
  size_t automatic_ = 0;
  bool manual_ = false;
};

}  // namespace

std::string format_percent(Interpreter& in, std::string_view format, const Value& args, bool markup) {
  return PercentFormatter(in, format, args, markup).run();
}

std::string format_braces(Interpreter& in, std::string_view format, const CallArguments& args) {
  return BraceFormatter(in, args).run(format, 2);
}

std::string format_time(std::chrono::system_clock::time_point time, std::string_view format) {
  const auto since = time.time_since_epoch();
  const int64_t seconds = std::chrono::floor<std::chrono::seconds>(since).count();
  const int64_t micro = std::chrono::floor<std::chrono::microseconds>(since).count() - seconds * 1000000;
  const std::time_t at = std::time_t(seconds);
  std::tm local{};
  localtime_r(&at, &local);
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out += format[i];
      continue;
    }
    // glibc's flags and width, then a modifier, then the letter.
    const size_t begin = i++;
    i = std::min(format.find_first_not_of("_-0^#", i), format.size());
    i = std::min(format.find_first_not_of("0123456789", i), format.size());
    if (i < format.size() && (format[i] == 'E' || format[i] == 'O')) ++i;
    const std::string directive(format.substr(begin, i + 1 - begin));
    std::array<char, 1024> buffer{};
    if (directive == "%f") std::snprintf(buffer.data(), buffer.size(), "%06d", int(micro));
    else if (directive != "%z" && directive != "%Z")
      std::strftime(buffer.data(), buffer.size(), directive.c_str(), &local);  // no zone
    out += buffer.data();
  }
  return out;
}

}  // namespace stamp::jinja
