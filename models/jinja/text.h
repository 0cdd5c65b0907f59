#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Python's str methods on valid UTF-8. Positions and lengths count code points.
namespace stamp::jinja::text {

bool is_ascii(std::string_view s);
int64_t length(std::string_view s);
/// Byte at which code point `index` begins; s.size() past the end.
size_t byte_of(std::string_view s, int64_t index);
std::vector<std::string_view> characters(std::string_view s);

/// str.isspace() of one character; also what strip(), split() and regular expressions take for white space.
bool is_space(char32_t c);

enum class Side { kBoth, kLeft, kRight };
/// Without `chars`, white space.
std::string_view strip(std::string_view s, std::optional<std::string_view> chars, Side side);
/// Without `separator`, at runs of white space. `limit` < 0: no limit.
std::vector<std::string_view> split(std::string_view s, std::optional<std::string_view> separator,
                                    int64_t limit);
std::vector<std::string_view> rsplit(std::string_view s, std::optional<std::string_view> separator,
                                     int64_t limit);
std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends);

/// Byte of the first `part` at or after byte `from`; npos if there is none.
size_t find(std::string_view s, std::string_view part, size_t from = 0);
int64_t count(std::string_view s, std::string_view part);
/// `limit` < 0: all.
std::string replace(std::string_view s, std::string_view from, std::string_view to, int64_t limit);

std::string upper(std::string_view s);
std::string lower(std::string_view s);
std::string title(std::string_view s);
std::string capitalize(std::string_view s);
std::string swap_case(std::string_view s);
std::string case_fold(std::string_view s);

bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_upper(std::string_view s);
bool is_lower(std::string_view s);
bool is_title(std::string_view s);
bool is_printable(std::string_view s);
/// May begin, or go on in, an identifier.
bool is_identifier_start(char32_t c);
bool is_identifier_part(char32_t c);

/// repr(s)
std::string quote(std::string_view s);
/// markupsafe.escape
std::string escape_html(std::string_view s);

}  // namespace stamp::jinja::text
