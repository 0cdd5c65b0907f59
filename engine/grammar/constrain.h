#pragma once
#include <functional>
#include <memory>
#include <string_view>

#include "engine/constraint.h"
#include "engine/grammar/automaton.h"
#include "engine/grammar/token_vocabulary.h"
#include "models/nlohmann.h"

namespace stamp {

// Constraints on generated text, exact and incremental: a token may follow if and only if the text with it
// can be completed. `vocabulary` must outlive them. All throw InputError, one line that names what is wrong
// or not supported and where, also for what would need too much memory or time, and if the vocabulary has no
// end token; a constraint that exists never fails. A constraint and its clones share what they learn of the
// tokens, and may be used in several threads.

/// The whole text matches the expression: see engine/grammar/regex.h for what is supported.
std::unique_ptr<TokenConstraint> constrain_to_regex(const TokenVocabulary& vocabulary,
                                                    std::string_view pattern);

/// The text is a JSON value that is valid for the schema: see engine/grammar/json_schema.h.
std::unique_ptr<TokenConstraint> constrain_to_json_schema(const TokenVocabulary& vocabulary,
                                                          const nlohmann::ordered_json& schema);

/// The text is a JSON object. Syntax as of all constraints to JSON: between tokens at most a space, or a line
/// break with at most kMaxIndent spaces, so that white space ends; nested at most about 60 deep; numbers of
/// at most 20 digits before and behind the point, which fit a double.
std::unique_ptr<TokenConstraint> constrain_to_json_object(const TokenVocabulary& vocabulary);

/// The text is one of the grammar that `make` returns; the message of an InputError begins with `what`.
std::unique_ptr<TokenConstraint> constrain_to_grammar(const TokenVocabulary& vocabulary,
                                                      std::string_view what,
                                                      const std::function<grammar::Grammar()>& make);

}  // namespace stamp
