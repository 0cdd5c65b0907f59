#include "models/jinja/text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "models/utf8.h"

namespace stamp::jinja::text {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(utf8proc_int32_t(c)); }

char32_t decode_last(std::string_view s, size_t& end) {
  do --end;
  while ((static_cast<unsigned char>(s[end]) & 0xc0) == 0x80);
  size_t at = end;
  return next_code_point(s, at);
}

template <class F>
std::string map_characters(std::string_view s, F add) {
  std::string out;
  out.reserve(s.size());
  for (size_t at = 0; at < s.size();) {
    const size_t begin = at;
    const char32_t c = next_code_point(s, at);
    add(out, c, begin, at);
  }
  return out;
}

/// Characters whose case mapping is several characters (Unicode's SpecialCasing.txt, unconditional rules).
struct Special {
  char32_t c;
  std::array<char32_t, 3> upper, title;
};
constexpr Special kSpecial[] = {
#include "models/jinja/special_casing.inc"
};

const Special* special(char32_t c) {
  const auto it = std::lower_bound(std::begin(kSpecial), std::end(kSpecial), c,
                                   [](const Special& s, char32_t x) { return s.c < x; });
  return it != std::end(kSpecial) && it->c == c ? it : nullptr;
}

void add_all(std::string& out, const std::array<char32_t, 3>& characters) {
  for (const char32_t c : characters)
    if (c != 0) append_utf8(out, c);
}
void add_upper(std::string& out, char32_t c) {
  if (const Special* s = special(c)) return add_all(out, s->upper);
  append_utf8(out, char32_t(utf8proc_toupper(utf8proc_int32_t(c))));
}
void add_title(std::string& out, char32_t c) {
  if (const Special* s = special(c)) return add_all(out, s->title);
  append_utf8(out, char32_t(utf8proc_totitle(utf8proc_int32_t(c))));
}

bool is_lower_character(char32_t c) { return utf8proc_islower(utf8proc_int32_t(c)) != 0; }
bool is_upper_character(char32_t c) { return utf8proc_isupper(utf8proc_int32_t(c)) != 0; }
bool is_title_character(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
bool is_cased(char32_t c) { return is_lower_character(c) || is_upper_character(c) || is_title_character(c); }
bool is_case_ignorable(char32_t c) {
  static constexpr char32_t kOthers[] = {'\'',   '.',    ':',    '^',    '`',    0xa8,   0xad,   0xaf,
                                         0xb4,   0xb7,   0xb8,   0x387,  0x55f,  0x5f4,  0x2018, 0x2019,
                                         0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
         k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK ||
         std::find(std::begin(kOthers), std::end(kOthers), c) != std::end(kOthers);
}

/// A capital sigma at the end of a word becomes the final small one.
bool is_final_sigma(std::string_view s, size_t begin, size_t end) {
  char32_t c = 0;
  size_t before = begin;
  while (before > 0 && is_case_ignorable(c = decode_last(s, before))) c = 0;
  if (c == 0 || !is_cased(c)) return false;
  for (size_t at = end; at < s.size();) {
    c = next_code_point(s, at);
    if (!is_case_ignorable(c)) return !is_cased(c);
  }
  return true;
}
void add_lower(std::string& out, std::string_view s, char32_t c, size_t begin, size_t end) {
  if (c == 0x3a3) return append_utf8(out, is_final_sigma(s, begin, end) ? 0x3c2 : 0x3c3);
  if (c == 0x130) return append_utf8(out, 'i'), append_utf8(out, 0x307);
  append_utf8(out, char32_t(utf8proc_tolower(utf8proc_int32_t(c))));
}

bool is_line_end(char32_t c) {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool is_printable(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    case UTF8PROC_CATEGORY_ZS:
      return c == ' ';
    default:
      return true;
  }
}

}  // namespace

bool is_ascii(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

int64_t length(std::string_view s) {
  return std::count_if(s.begin(), s.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

size_t byte_of(std::string_view s, int64_t index) {
  size_t at = 0;
  for (; index > 0 && at < s.size(); --index) at += utf8_length(static_cast<unsigned char>(s[at]));
  return std::min(at, s.size());
}

std::vector<std::string_view> characters(std::string_view s) {
  std::vector<std::string_view> all;
  for (size_t at = 0; at < s.size();) {
    const size_t n = utf8_length(static_cast<unsigned char>(s[at]));
    all.push_back(s.substr(at, n));
    at += n;
  }
  return all;
}

bool is_space(char32_t c) { return is_white_space(c) || (c >= 0x1c && c <= 0x1f); }

std::string_view strip(std::string_view s, std::optional<std::string_view> chars, Side side) {
  const auto goes = [&](char32_t c) {
    if (!chars) return is_space(c);
    for (size_t at = 0; at < chars->size();)
      if (next_code_point(*chars, at) == c) return true;
    return false;
  };
  size_t begin = 0, end = s.size();
  while (side != Side::kRight && begin < end) {
    size_t at = begin;
    if (!goes(next_code_point(s, at))) break;
    begin = at;
  }
  while (side != Side::kLeft && end > begin) {
    size_t at = end;
    if (!goes(decode_last(s, at))) break;
    end = at;
  }
  return s.substr(begin, end - begin);
}

std::vector<std::string_view> split(std::string_view s, std::optional<std::string_view> separator,
                                    int64_t limit) {
  std::vector<std::string_view> parts;
  if (separator) {
    size_t begin = 0;
    for (size_t at; (limit < 0 || int64_t(parts.size()) < limit) &&
                    (at = find(s, *separator, begin)) != std::string_view::npos;
         begin = at + separator->size())
      parts.push_back(s.substr(begin, at - begin));
    parts.push_back(s.substr(begin));
    return parts;
  }
  for (std::string_view rest = strip(s, std::nullopt, Side::kLeft); !rest.empty();) {
    if (limit >= 0 && int64_t(parts.size()) == limit) {
      parts.push_back(rest);
      break;
    }
    size_t end = 0;
    for (size_t at = 0; at < rest.size() && !is_space(next_code_point(rest, at));) end = at;
    parts.push_back(rest.substr(0, end));
    rest = strip(rest.substr(end), std::nullopt, Side::kLeft);
  }
  return parts;
}

std::vector<std::string_view> rsplit(std::string_view s, std::optional<std::string_view> separator,
                                     int64_t limit) {
  std::vector<std::string_view> parts;
  if (separator) {
    size_t end = s.size();
    for (size_t at; (limit < 0 || int64_t(parts.size()) < limit) && end >= separator->size() &&
                    (at = s.rfind(*separator, end - separator->size())) != std::string_view::npos;
         end = at)
      parts.push_back(s.substr(at + separator->size(), end - at - separator->size()));
    parts.push_back(s.substr(0, end));
  } else {
    for (std::string_view rest = strip(s, std::nullopt, Side::kRight); !rest.empty();) {
      if (limit >= 0 && int64_t(parts.size()) == limit) {
        parts.push_back(rest);
        break;
      }
      size_t begin = rest.size();
      for (size_t at = rest.size(); at > 0 && !is_space(decode_last(rest, at));) begin = at;
      parts.push_back(rest.substr(begin));
      rest = strip(rest.substr(0, begin), std::nullopt, Side::kRight);
    }
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends) {
  std::vector<std::string_view> lines;
  for (size_t at = 0, begin = 0; at < s.size();) {
    const size_t end = at;
    const char32_t c = next_code_point(s, at);
    const bool ends = is_line_end(c);
    if (c == '\r' && at < s.size() && s[at] == '\n') ++at;
    if (ends || at == s.size()) {
      lines.push_back(s.substr(begin, (ends && !keep_ends ? end : at) - begin));
      begin = at;
    }
  }
  return lines;
}

size_t find(std::string_view s, std::string_view part, size_t from) {
  if (from > s.size()) return std::string_view::npos;
  if (part.empty()) return from;
  // string_view::find takes the product of both lengths at worst, memmem their sum.
  const void* at = memmem(s.data() + from, s.size() - from, part.data(), part.size());
  return at == nullptr ? std::string_view::npos : size_t(static_cast<const char*>(at) - s.data());
}

int64_t count(std::string_view s, std::string_view part) {
  if (part.empty()) return length(s) + 1;
  int64_t n = 0;
  for (size_t at = 0; (at = find(s, part, at)) != std::string_view::npos; at += part.size()) ++n;
  return n;
}

std::string replace(std::string_view s, std::string_view from, std::string_view to, int64_t limit) {
  std::string out;
  size_t begin = 0;
  if (from.empty()) {  // before every character, and at the end
    for (; limit != 0; --limit) {
      out += to;
      if (begin == s.size()) return out;
      const size_t n = utf8_length(static_cast<unsigned char>(s[begin]));
      out += s.substr(begin, n);
      begin += n;
    }
    return out += s.substr(begin);
  }
  for (size_t at; limit != 0 && (at = find(s, from, begin)) != std::string_view::npos; --limit) {
    out += s.substr(begin, at - begin);
    out += to;
    begin = at + from.size();
  }
  return out += s.substr(begin);
}

std::string upper(std::string_view s) {
  return map_characters(s, [](std::string& out, char32_t c, size_t, size_t) { add_upper(out, c); });
}
std::string lower(std::string_view s) {
  return map_characters(
      s, [s](std::string& out, char32_t c, size_t begin, size_t end) { add_lower(out, s, c, begin, end); });
}
std::string title(std::string_view s) {
  bool in_word = false;
  return map_characters(s, [&](std::string& out, char32_t c, size_t begin, size_t end) {
    if (in_word) add_lower(out, s, c, begin, end);
    else add_title(out, c);
    in_word = is_cased(c);
  });
}
std::string capitalize(std::string_view s) {
  return map_characters(s, [s](std::string& out, char32_t c, size_t begin, size_t end) {
    if (begin == 0) add_title(out, c);
    else add_lower(out, s, c, begin, end);
  });
}
std::string swap_case(std::string_view s) {
  return map_characters(s, [s](std::string& out, char32_t c, size_t begin, size_t end) {
    if (is_upper_character(c)) add_lower(out, s, c, begin, end);
    else if (is_lower_character(c)) add_upper(out, c);
    else append_utf8(out, c);
  });
}
std::string case_fold(std::string_view s) {
  return map_characters(s, [](std::string& out, char32_t c, size_t, size_t) {
    std::array<utf8proc_int32_t, 4> folded{};
    int boundary = 0;
    const auto n = utf8proc_decompose_char(utf8proc_int32_t(c), folded.data(), folded.size(),
                                           UTF8PROC_CASEFOLD, &boundary);
    if (n <= 0 || n > 4) return append_utf8(out, c);
    for (size_t i = 0; i < size_t(n); ++i) append_utf8(out, char32_t(folded[i]));
  });
}

bool is_alpha(char32_t c) {
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
bool is_decimal(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_digit(char32_t c) {
  // Decimal digits, and superscript, subscript, circled and the like.
  static constexpr std::pair<char32_t, char32_t> kDigits[] = {
      {0xb2, 0xb3},     {0xb9, 0xb9},       {0x1369, 0x1371},   {0x19da, 0x19da},   {0x2070, 0x2070},
      {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247c},   {0x2488, 0x2490},
      {0x24ea, 0x24ea}, {0x24f5, 0x24fd},   {0x24ff, 0x24ff},   {0x2776, 0x277e},   {0x2780, 0x2788},
      {0x278a, 0x2792}, {0x10a40, 0x10a43}, {0x10e60, 0x10e68}, {0x11052, 0x1105a}, {0x1f100, 0x1f10a}};
  return is_decimal(c) || std::any_of(std::begin(kDigits), std::end(kDigits),
                                      [c](auto r) { return c >= r.first && c <= r.second; });
}
bool is_numeric(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_upper(std::string_view s) {
  bool cased = false;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_code_point(s, at);
    if (is_lower_character(c) || is_title_character(c)) return false;
    cased |= is_upper_character(c);
  }
  return cased;
}
bool is_lower(std::string_view s) {
  bool cased = false;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_code_point(s, at);
    if (is_upper_character(c) || is_title_character(c)) return false;
    cased |= is_lower_character(c);
  }
  return cased;
}
bool is_title(std::string_view s) {
  bool cased = false, in_word = false;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_code_point(s, at);
    const bool capital = is_upper_character(c) || is_title_character(c), small = is_lower_character(c);
    if ((capital && in_word) || (small && !in_word)) return false;
    in_word = capital || small;
    cased |= in_word;
  }
  return cased;
}

bool is_printable(std::string_view s) {
  for (size_t at = 0; at < s.size();)
    if (!is_printable(next_code_point(s, at))) return false;
  return true;
}

bool is_identifier_start(char32_t c) {
  return c == '_' || is_alpha(c) || category(c) == UTF8PROC_CATEGORY_NL;
}
bool is_identifier_part(char32_t c) {
  const auto k = category(c);
  return is_identifier_start(c) || k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_MN ||
         k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_PC;
}

std::string quote(std::string_view s) {
  const bool doubled = s.find('\'') != std::string_view::npos && s.find('"') == std::string_view::npos;
  const char mark = doubled ? '"' : '\'';
  std::string out(1, mark);
  for (size_t at = 0; at < s.size();) {
    const size_t begin = at;
    const char32_t c = next_code_point(s, at);
    if (c == '\n') out += "\\n";
    else if (c == '\r') out += "\\r";
    else if (c == '\t') out += "\\t";
    else if (c == '\\' || c == char32_t(mark)) out += {'\\', char(c)};
    else if (is_printable(c)) out += s.substr(begin, at - begin);
    else {
      std::array<char, 16> buffer;
      std::snprintf(buffer.data(), buffer.size(),
                    c < 0x100     ? "\\x%02x"
                    : c < 0x10000 ? "\\u%04x"
                                  : "\\U%08x",
                    unsigned(c));
      out += buffer.data();
    }
  }
  return out += mark;
}

std::string escape_html(std::string_view s) {
  std::string out;
  out.reserve(s.size());
  for (const char c : s) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace stamp::jinja::text
