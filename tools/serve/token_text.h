#pragma once
#include <cstdint>
#include <string>

#include "models/tokenizer.h"

namespace stamp {

/// What a token adds to a text; a special token's is its name.
std::string token_bytes(const Tokenizer& tokenizer, int32_t token);
/// The same as logprobs show it, which must be UTF-8: "bytes:\xe2\x80" if it is only a part of a character.
std::string token_text(const Tokenizer& tokenizer, int32_t token);

}  // namespace stamp
