#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer.h"

namespace stamp {

/// The bytes of all tokens that stand for text, as tries: what a constraint needs of a tokenizer. Immutable;
/// made once for a model, in some milliseconds.
class TokenVocabulary {
 public:
  /// `size` is the number of logits; further tokens are left out. `end_tokens` end a text.
  TokenVocabulary(const Tokenizer& tokenizer, std::vector<int32_t> end_tokens, int64_t size);

  /// The tokens by their bytes. Nodes are in the order of a depth-first walk; node 0 is the root.
  class Trie {
   public:
    struct Node {
      uint32_t end;          // the node behind this one's subtree
      uint32_t first_token;  // its tokens are tokens()[first_token, the next node's first_token)
      uint16_t depth;
      uint8_t byte;  // that leads here
    };
    /// `nodes()` has one more, for the end of the last one's tokens.
    std::span<const Node> nodes() const { return nodes_; }
    std::span<const int32_t> tokens() const { return tokens_; }

   private:
    friend class TokenVocabulary;
    explicit Trie(const std::vector<std::string>& bytes);
    std::vector<Node> nodes_;
    std::vector<int32_t> tokens_;
  };

  /// `first`: of a text's first token, which in some vocabularies has fewer bytes.
  const Trie& trie(bool first) const { return first && !first_.empty() ? first_trie_ : trie_; }
  std::string_view bytes(int32_t token, bool first) const {
    return (first && !first_.empty() ? first_ : bytes_)[size_t(token)];
  }
  /// Whether the byte is a token by itself.
  bool has_byte(uint8_t byte) const { return has_byte_[byte]; }
  std::span<const int32_t> end_tokens() const { return end_tokens_; }
  int64_t size() const { return int64_t(bytes_.size()); }

 private:
  std::vector<int32_t> end_tokens_;
  std::vector<std::string> bytes_;  // [size]; empty: stands for no text
  std::vector<std::string> first_;  // [size] as a text's first; empty if these are the same
  Trie trie_, first_trie_;
  std::array<bool, 256> has_byte_{};
};

}  // namespace stamp
