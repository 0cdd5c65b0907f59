#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "models/json.h"
#include "models/tokenizers/bpe.h"
#include "models/tokenizers/normalizers.h"
#include "models/tokenizers/pieces.h"

namespace stamp {

/// A token that is found in the text before the model sees it.
struct AddedToken {
  std::string content;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // and behind it
  bool normalized = false;   // is looked for in the normalised text, itself normalised
  bool special = false;      // can be left out when decoding
};

/// The tokens on top of the model's vocabulary, and where they are in a text: leftmost first, of those the
/// longest.
class AddedTokens {
 public:
  AddedTokens() = default;
  /// Tokens with the ids that they are given; `file` is for errors.
  AddedTokens(std::map<int32_t, AddedToken> tokens, const std::string& file);
  /// Reads "added_tokens" of a tokenizer.json. As in `tokenizers`, a token that the model knows keeps the
  /// model's id, and the others are numbered on from the vocabulary's size. `normalizer` may be null.
  AddedTokens(const JsonFields& fields, const Bpe& model, const Normalizer* normalizer);

  const std::map<int32_t, AddedToken>& by_id() const { return by_id_; }
  bool has(int32_t id) const { return by_id_.contains(id); }
  /// What the decoder sees for each: the normalised content.
  const std::string& decoded(int32_t id) const;
  int32_t find(std::string_view content) const;  // kNoToken if there is none
  bool is_special(std::string_view content) const { return special_.contains(std::string(content)); }

  /// Cuts the tokens that are not `normalized` out of text that is not yet normalised; then those that are.
  /// Special ones stay text unless `parse_special`.
  void cut_raw(Pieces& pieces, bool parse_special) const { cut(raw_, pieces, parse_special); }
  void cut_normalized(Pieces& pieces, bool parse_special) const { cut(normalized_, pieces, parse_special); }

 private:
  /// A trie over bytes. Node 0 is the root, which is nobody's child.
  class Matcher {
   public:
    /// False if the pattern is there already.
    bool add(std::string_view pattern, int32_t id);
    bool empty() const { return nodes_.size() == 1; }
    /// The longest pattern at `text[at]` of the first place that has one. Returns its id and moves `at` to
    /// its begin and `end` behind it; kNoToken if there is none.
    int32_t find(std::string_view text, size_t& at, size_t& end) const;

   private:
    struct Node {
      int32_t id = kNoToken;
      std::vector<std::pair<char, uint32_t>> children;
    };
    uint32_t child(uint32_t node, char c) const;
    std::vector<Node> nodes_ = std::vector<Node>(1);
    std::vector<uint32_t> first_ = std::vector<uint32_t>(256);  // the root's children
  };

  void index(const std::string& file);
  void cut(const Matcher& matcher, Pieces& pieces, bool parse_special) const;
  void cut_piece(const Matcher& matcher, const Pieces& pieces, const Piece& piece, bool parse_special,
                 std::vector<Piece>& out) const;

  std::map<int32_t, AddedToken> by_id_;
  std::map<int32_t, std::string> normalized_content_;  // where it differs from the content
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_set<std::string> special_;
  Matcher raw_, normalized_;
};

}  // namespace stamp
