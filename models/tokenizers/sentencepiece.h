#pragma once
#include <filesystem>
#include <memory>

#include "models/tokenizer.h"

namespace stamp {

/// A tokenizer.model through the SentencePiece library, with what tokenizer_config.json (optional) next to it
/// says of BOS, EOS and added tokens, as the Python class LlamaTokenizer does with legacy=False. Throws
/// InputError naming the file.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& file);

}  // namespace stamp
