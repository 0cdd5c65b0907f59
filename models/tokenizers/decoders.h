#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "models/json.h"

namespace stamp {

/// One step from tokens to text, at work on one stream of tokens. Tokens come in order, each whole or in
/// parts of whole characters; what a step knows for certain it hands on at once.
class TokenStream {
 public:
  explicit TokenStream(std::unique_ptr<TokenStream> next) : next_(std::move(next)) {}
  virtual ~TokenStream() = default;
  /// A part of a token. `first` and `last` mark the token's first and last part, which may be the same and
  /// may be empty.
  virtual void push(std::string_view part, bool first, bool last) = 0;
  /// No more tokens.
  virtual void finish() { next_->finish(); }

 protected:
  std::unique_ptr<TokenStream> next_;
};

/// How tokens become text.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// A fresh stream of this step that hands on to `next`.
  virtual std::unique_ptr<TokenStream> open(std::unique_ptr<TokenStream> next) const = 0;
  /// The bytes of a token that need not be whole characters; nothing if the step takes it for text.
  virtual std::optional<std::string> bytes_of(std::string_view token) const;

  /// Reads a decoder of a tokenizer.json: Sequence, ByteLevel, Metaspace, ByteFallback, Fuse, Replace or
  /// Strip. Throws InputError naming the file and an unknown type.
  static std::unique_ptr<Decoder> parse(const JsonFields& fields);
  /// The one of a tokenizer without a decoder: tokens with a space between them.
  static std::unique_ptr<Decoder> spaces();
};

}  // namespace stamp
