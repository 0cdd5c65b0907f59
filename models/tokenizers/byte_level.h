#pragma once
#include <string>
#include <string_view>

namespace stamp {

/// GPT-2's alphabet: every byte is written as a printable character, so that any text is a sequence of such
/// characters. Printable Latin-1 stands for itself, the others for U+0100 and up.
void append_byte_level(std::string_view bytes, std::string& out);

/// Appends the bytes that the characters of `token` stand for; the token itself if one of them stands for
/// none.
void append_byte_level_decoded(std::string_view token, std::string& out);

}  // namespace stamp
