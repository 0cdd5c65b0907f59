#pragma once
#include <string>

namespace stamp {

/// A regular expression in Oniguruma's dialect (Ruby's syntax), which tokenizer.json uses, in the dialect of
/// PCRE2 with its options UTF, UCP and MULTILINE. One thing is not translated: under (?i) "ss" also matches
/// one ß there. Throws InputError "<file>: ..." on what has no counterpart.
std::string to_pcre2(const std::string& pattern, const std::string& file);

}  // namespace stamp
