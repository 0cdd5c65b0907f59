#pragma once
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "models/tokenizers/added_tokens.h"

namespace stamp {

/// What tokenizer_config.json says about a SentencePiece tokenizer; the defaults are those of the Python
/// class LlamaTokenizer.
struct TokenizerConfig {
  bool add_bos = true, add_eos = false;
  bool legacy = false, add_prefix_space = true;
  std::optional<std::string> bos, eos, unk;
  std::set<std::string> named;  // contents of bos_token, pad_token and so on
  std::map<int32_t, AddedToken> added;

  /// Reads DIR/tokenizer_config.json if there is one; what it does not say stays. Throws InputError naming
  /// the file.
  void read(const std::filesystem::path& directory);
};

}  // namespace stamp
