#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "models/tokenizer.h"

namespace stamp {

/// A tokenizer.json with a BPE model. Throws InputError "<file>: ..." on anything that is not understood.
std::unique_ptr<Tokenizer> parse_json_tokenizer(std::string_view text, const std::string& file);

}  // namespace stamp
