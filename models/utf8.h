#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace stamp {

/// The code point that begins at text[at], which moves past it. `text` must be valid UTF-8.
char32_t next_code_point(std::string_view text, size_t& at);
/// Bytes of the character whose first byte this is.
inline size_t utf8_length(unsigned char first) {
  return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}
void append_utf8(std::string& text, char32_t code_point);

/// The text with every maximal part that is not UTF-8 replaced by U+FFFD (Unicode 15, section 3.9, table
/// 3-8).
std::string to_valid_utf8(std::string_view bytes);
bool is_valid_utf8(std::string_view bytes);
/// Where an incomplete but so far valid character begins at the end of `bytes`; their size if there is none.
size_t incomplete_tail(std::string_view bytes);

/// As Unicode's White_Space property.
bool is_white_space(char32_t c);
/// The end of the white space that begins at text[at].
size_t skip_white_space(std::string_view text, size_t at);
/// The begin of the white space that ends before text[end].
size_t trim_end(std::string_view text, size_t end);
/// The begin of the character that ends before text[end], which is not 0.
size_t previous_character(std::string_view text, size_t end);

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";

}  // namespace stamp
