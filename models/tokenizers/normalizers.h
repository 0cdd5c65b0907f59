#pragma once
#include <memory>
#include <string>

#include "models/json.h"

namespace stamp {

/// A step that changes the text before it is cut.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// Throws InputError if a step makes the text longer than `limit`.
  virtual void normalize(std::string& text, size_t limit) const = 0;

  /// Reads a normaliser of a tokenizer.json: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, Replace,
  /// Prepend or ByteLevel. Throws InputError naming the file and an unknown type.
  static std::unique_ptr<Normalizer> parse(const JsonFields& fields);
};

}  // namespace stamp
