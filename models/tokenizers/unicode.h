#pragma once
#include <string>
#include <string_view>

namespace stamp {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// `text`, valid UTF-8, in a Unicode normalisation form. Linear in length but for sorting runs of combining
/// marks.
std::string normalize_unicode(std::string_view text, NormalForm form);

/// Each character's own lower case, whatever stands around it.
std::string lowercase(std::string_view text);

bool is_numeric(char32_t c);  // general category N
bool is_word(char32_t c);     // \w of Unicode's regular expressions (UTS 18, annex C)

}  // namespace stamp
