#pragma once
#include <memory>

#include "models/json.h"
#include "models/tokenizers/pieces.h"

namespace stamp {

/// A step that cuts the normalised text into pieces, and may rewrite them.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Pieces& pieces) const = 0;

  /// Reads a pre-tokeniser of a tokenizer.json: Sequence, ByteLevel, Digits, Split, Metaspace, Whitespace or
  /// WhitespaceSplit. Throws InputError naming the file and an unknown type.
  static std::unique_ptr<PreTokenizer> parse(const JsonFields& fields);
};

}  // namespace stamp
