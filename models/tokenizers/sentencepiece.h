#pragma once
#include <filesystem>
#include <memory>
#include <string_view>

#include "models/tokenizer.h"

namespace stamp {

/// The bytes of a tokenizer.model through the SentencePiece library, with what tokenizer_config.json
/// (optional) next to `file` says of BOS, EOS and added tokens, as the Python class LlamaTokenizer does with
/// legacy=False. Throws InputError naming the file.
std::unique_ptr<Tokenizer> parse_sentencepiece(std::string_view model, const std::filesystem::path& file);

}  // namespace stamp
