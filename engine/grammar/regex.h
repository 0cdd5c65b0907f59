#pragma once
#include <string_view>

#include "engine/grammar/expression.h"

namespace stamp::grammar {

/// Reads a regular expression with ECMAScript's meaning: literals, `.` (all but line ends), classes with
/// ranges and negation, \d \w \s \D \W \S (ASCII; \s has Unicode's spaces), escapes (\n \r \t \f \v \0 \xHH
/// \uHHHH \u{H...} and escaped punctuation), groups (plain, (?:...), named), alternation, the quantifiers * +
/// ? {n} {n,} {n,m} and their lazy forms, which match the same texts. ^ and $ may stand at the ends of the
/// whole expression or of an alternative of it. Throws InputError "... at position <n>" (in characters, from
/// 1) for everything else: look-around, back-references, \b, \p, flags, atomic groups.
///
/// Of the whole text, where anchors change nothing, or of any part of it (as JSON Schema's "pattern").
enum class RegexMatch { kWhole, kAnywhere };
Expression parse_regex(std::string_view pattern, RegexMatch match);

}  // namespace stamp::grammar
