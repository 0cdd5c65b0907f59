#include "models/tokenizers/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "kernels/error.h"
#include "models/tokenizers/unicode_versions.h"
#include "models/utf8.h"

namespace stamp {
namespace {

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

int combining_class(utf8proc_int32_t c) {
  const int combining = utf8proc_get_property(c)->combining_class;
  return combining != 0 && is_sorted_mark(char32_t(c)) ? combining : 0;
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(utf8proc_int32_t(familiar_character(c)));
}

/// Composes `chars` in place. Returns their new number.
size_t compose(std::vector<utf8proc_int32_t>& chars) {
  constexpr utf8proc_int32_t kDivesAkuruAa = 0x11930;  // U+11935 takes it up since Unicode 13.0 only
  size_t size = 0;
  for (size_t begin = 0, end = 0; begin < chars.size(); begin = end) {
    end = size_t(std::find(chars.begin() + std::ptrdiff_t(begin) + 1, chars.end(), kDivesAkuruAa) -
                 chars.begin());
    const auto count = utf8proc_normalize_utf32(chars.data() + begin, utf8proc_ssize_t(end - begin),
                                                utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (count < 0) throw Error(std::string("Unicode normalisation: ") + utf8proc_errmsg(count));
    std::copy_n(chars.begin() + std::ptrdiff_t(begin), count, chars.begin() + std::ptrdiff_t(size));
    size += size_t(count);
  }
  return size;
}

/// Marks of one character, sorted by their class (Unicode 3.11, D109). utf8proc's own sort takes quadratic
/// time.
void sort_marks(std::vector<utf8proc_int32_t>& chars) {
  for (auto begin = chars.begin(); begin != chars.end();) {
    const auto is_mark = [](utf8proc_int32_t c) { return combining_class(c) != 0; };
    begin = std::find_if(begin, chars.end(), is_mark);
    const auto end = std::find_if_not(begin, chars.end(), is_mark);
    std::stable_sort(begin, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

}  // namespace

std::string normalize_unicode(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const auto decompose =
      utf8proc_option_t(int(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE) | (compatible ? UTF8PROC_COMPAT : 0));
  std::vector<utf8proc_int32_t> chars;
  chars.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto c = utf8proc_int32_t(next_code_point(text, at));
    if (c < 0x80 || !is_decomposed(char32_t(c))) {
      chars.push_back(c);
      continue;
    }
    utf8proc_int32_t parts[32];  // the longest decomposition has 18
    int boundary = 0;
    const auto count = utf8proc_decompose_char(c, parts, 32, decompose, &boundary);
    if (count < 0 || count > 32) throw Error(std::string("Unicode normalisation: ") + utf8proc_errmsg(count));
    chars.insert(chars.end(), parts, parts + count);
  }
  sort_marks(chars);
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) chars.resize(compose(chars));
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t c : chars) append_utf8(out, char32_t(c));
  return out;
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c == 0x130) {  // the one character whose full lower case is two
      out += "i\u0307";
    } else if (const char32_t newer = newer_lowercase(c); newer != 0) {
      append_utf8(out, newer);
    } else {
      append_utf8(out, char32_t(utf8proc_tolower(utf8proc_int32_t(c))));
    }
  }
  return out;
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  if ((c >= 0x11de0 && c <= 0x11de9) || (c >= 0x16ff4 && c <= 0x16ff6)) return true;  // since Unicode 17.0
  const utf8proc_category_t kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool is_word(char32_t c) {
  if (c < 0x80) return std::isalnum(int(c)) != 0 || c == '_';
  if (c == 0x200c || c == 0x200d) return true;  // Join_Control
  // Other_Alphabetic beyond the marks: letters in circles and squares.
  if ((c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
      (c >= 0x1f170 && c <= 0x1f189))
    return true;
  const utf8proc_category_t kind = category(c);
  return (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_NL) || kind == UTF8PROC_CATEGORY_PC;
}

}  // namespace stamp
