#include "models/utf8.h"

namespace stamp {
namespace {

/// Length of the valid character at `text[at]`; 0 if there is none, and then `bad` is the length of the
/// maximal part that could have begun one.
size_t valid_length(std::string_view text, size_t at, size_t& bad) {
  const auto byte = [&](size_t i) {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const unsigned first = byte(0);
  bad = 1;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const size_t length = utf8_length(static_cast<unsigned char>(first));
  // The second byte excludes overlong forms, surrogates and code points above U+10FFFF.
  const unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xbf) {
      bad = i;
      return 0;
    }
  }
  return length;
}

}  // namespace

char32_t next_code_point(std::string_view text, size_t& at) {
  const auto first = static_cast<unsigned char>(text[at]);
  const size_t length = utf8_length(first);
  char32_t c = length == 1 ? first : first & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) c = c << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3fu);
  at += length;
  return c;
}

void append_utf8(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += char(c);
  } else if (c < 0x800) {
    text += {char(0xc0 | c >> 6), char(0x80 | (c & 0x3f))};
  } else if (c < 0x10000) {
    text += {char(0xe0 | c >> 12), char(0x80 | (c >> 6 & 0x3f)), char(0x80 | (c & 0x3f))};
  } else {
    text += {char(0xf0 | c >> 18), char(0x80 | (c >> 12 & 0x3f)), char(0x80 | (c >> 6 & 0x3f)),
             char(0x80 | (c & 0x3f))};
  }
}

std::string to_valid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0, bad = 0; at < bytes.size();) {
    const size_t length = valid_length(bytes, at, bad);
    text += length > 0 ? bytes.substr(at, length) : kReplacementCharacter;
    at += length > 0 ? length : bad;
  }
  return text;
}

bool is_valid_utf8(std::string_view bytes) {
  for (size_t at = 0, bad = 0; at < bytes.size();) {
    const size_t length = valid_length(bytes, at, bad);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

size_t incomplete_tail(std::string_view bytes) {
  // A character has at most four bytes: its first is one of the last three.
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const size_t at = bytes.size() - back;
    if ((static_cast<unsigned char>(bytes[at]) & 0xc0) == 0x80) continue;
    size_t bad = 0;
    const bool incomplete = valid_length(bytes, at, bad) == 0 && bad == back &&
                            utf8_length(static_cast<unsigned char>(bytes[at])) > back &&
                            static_cast<unsigned char>(bytes[at]) >= 0xc2 &&
                            static_cast<unsigned char>(bytes[at]) <= 0xf4;
    return incomplete ? at : bytes.size();
  }
  return bytes.size();
}

bool is_white_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

size_t skip_white_space(std::string_view text, size_t at) {
  for (size_t next = at; next < text.size() && is_white_space(next_code_point(text, next));) at = next;
  return at;
}

size_t previous_character(std::string_view text, size_t end) {
  do --end;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80);
  return end;
}

size_t trim_end(std::string_view text, size_t end) {
  while (end > 0) {
    const size_t begin = previous_character(text, end);
    size_t at = begin;
    if (!is_white_space(next_code_point(text, at))) break;
    end = begin;
  }
  return end;
}

}  // namespace stamp
