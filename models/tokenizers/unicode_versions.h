#pragma once
#include <string>
#include <string_view>

namespace stamp {

// Every Unicode library knows the characters of its version only. What `tokenizers` 0.23 is built from
// knows 16.0 in regular expressions, 17.0 in Rust's char, and 9.0 in normalisation forms; PCRE2 10.42
// knows 14.0, utf8proc 2.8 knows 15.0. Here are the differences.

/// A character that PCRE2 and utf8proc know, of the same category, script and length in UTF-8 as `c`, if `c`
/// came with Unicode 15.0 to 16.0; `c` itself otherwise.
char32_t familiar_character(char32_t c);

/// `text` with familiar characters. Where there is nothing to change `text` itself, else a view of `buffer`.
std::string_view familiar_text(std::string_view text, std::string& buffer);

/// False for the characters whose decomposition came after Unicode 9.0.
bool is_decomposed(char32_t c);
/// False for the marks that were not assigned in Unicode 9.0: the normalisation leaves them where they stand.
bool is_sorted_mark(char32_t c);

/// The lower case of a character that has it since a version after 15.0; 0 if there is none.
char32_t newer_lowercase(char32_t c);

}  // namespace stamp
