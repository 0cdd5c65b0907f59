#include "models/tokenizers/added_tokens.h"

#include <algorithm>
#include <utility>

#include "kernels/error.h"
#include "models/tokenizers/components.h"
#include "models/tokenizers/unicode.h"
#include "models/utf8.h"

namespace stamp {
namespace {

constexpr size_t kMaxBytes = 4096;  // of a token: what a search takes at one place in the text

bool word_before(std::string_view text, size_t end) {
  if (end == 0) return false;
  size_t at = previous_character(text, end);
  return is_word(next_code_point(text, at));
}

bool word_behind(std::string_view text, size_t at) {
  return at < text.size() && is_word(next_code_point(text, at));
}

}  // namespace

AddedTokens::AddedTokens(const JsonFields& fields, const Bpe& model, const Normalizer* normalizer) {
  if (!fields.has("added_tokens")) return;
  int64_t next_id = int64_t(model.vocabulary().size());
  for_each_object(fields, "added_tokens", [&](const JsonFields& token) {
    token.required_integer("id", 0, Bpe::kMaxId);
    AddedToken t{.content = required_string(token, "content"),
                 .single_word = required_boolean(token, "single_word"),
                 .lstrip = required_boolean(token, "lstrip"),
                 .rstrip = required_boolean(token, "rstrip"),
                 .normalized = required_boolean(token, "normalized"),
                 .special = required_boolean(token, "special")};
    if (t.content.empty()) return;
    int32_t id = find(t.content);
    if (id == kNoToken) id = model.token_to_id(t.content).value_or(kNoToken);
    if (id == kNoToken) {
      if (next_id > Bpe::kMaxId) token.fail("content", "has no id left");
      id = int32_t(next_id++);
    }
    if (t.normalized && normalizer != nullptr) {
      std::string text = t.content;
      normalizer->normalize(text, length_limit(text));
      if (text.empty()) token.fail("content", "is nothing once it is normalised");
      if (text != t.content) normalized_content_[id] = std::move(text);
    }
    ids_[t.content] = id;
    if (t.special) special_.insert(t.content);
    by_id_[id] = std::move(t);
  });
  index(fields.file());
}

AddedTokens::AddedTokens(std::map<int32_t, AddedToken> tokens, const std::string& file)
    : by_id_(std::move(tokens)) {
  for (const auto& [id, token] : by_id_) {
    ids_[token.content] = id;
    if (token.special) special_.insert(token.content);
  }
  index(file);
}

void AddedTokens::index(const std::string& file) {
  for (const auto& [id, token] : by_id_) {
    if (std::max(token.content.size(), decoded(id).size()) > kMaxBytes)
      throw InputError(file + ": an added token is longer than " + std::to_string(kMaxBytes) + " bytes");
    if (!(token.normalized ? normalized_ : raw_).add(token.normalized ? decoded(id) : token.content, id))
      throw InputError(file + ": has two added tokens that are the same in the text: \"" +
                       printable(token.content) + "\"");
  }
}

const std::string& AddedTokens::decoded(int32_t id) const {
  const auto it = normalized_content_.find(id);
  return it != normalized_content_.end() ? it->second : by_id_.at(id).content;
}

int32_t AddedTokens::find(std::string_view content) const {
  const auto it = ids_.find(std::string(content));
  return it == ids_.end() ? kNoToken : it->second;
}

uint32_t AddedTokens::Matcher::child(uint32_t node, char c) const {
  for (const auto& [byte, next] : nodes_[node].children)
    if (byte == c) return next;
  return 0;
}

bool AddedTokens::Matcher::add(std::string_view pattern, int32_t id) {
  uint32_t node = 0;
  for (const char c : pattern) {
    uint32_t next = child(node, c);
    if (next == 0) {
      next = uint32_t(nodes_.size());
      nodes_[node].children.emplace_back(c, next);
      nodes_.emplace_back();
    }
    if (node == 0) first_[static_cast<unsigned char>(c)] = next;
    node = next;
  }
  return std::exchange(nodes_[node].id, id) == kNoToken;
}

int32_t AddedTokens::Matcher::find(std::string_view text, size_t& at, size_t& end) const {
  for (; at < text.size(); ++at) {
    uint32_t node = first_[static_cast<unsigned char>(text[at])];
    if (node == 0) continue;
    int32_t id = kNoToken;
    for (size_t next = at + 1;; ++next) {
      if (nodes_[node].id != kNoToken) {
        id = nodes_[node].id;
        end = next;
      }
      if (next == text.size() || (node = child(node, text[next])) == 0) break;
    }
    if (id != kNoToken) return id;
  }
  return kNoToken;
}

void AddedTokens::cut_piece(const Matcher& matcher, const Pieces& pieces, const Piece& piece,
                            bool parse_special, std::vector<Piece>& out) const {
  const std::string_view text = pieces.text_of(piece);
  const auto add = [&](size_t begin, size_t end, int32_t token) {
    if (begin < end)
      out.push_back({piece.begin + begin, piece.begin + end, token, piece.at_start && begin == 0});
  };
  size_t rest = 0;                        // where the text begins that no token has
  size_t space_begin = 1, space_end = 0;  // white space looked at already, so that no run of it is read twice
  const auto behind_space = [&](size_t at) {
    if (at < space_begin || at > space_end) {
      space_begin = at;
      space_end = skip_white_space(text, at);
    }
    return space_end;
  };
  size_t at = 0, match_end = 0;
  for (int32_t id; (id = matcher.find(text, at, match_end)) != kNoToken; at = match_end) {
    const AddedToken& token = by_id_.at(id);
    if (!parse_special && is_special(token.content)) continue;
    if (token.single_word && (word_before(text, at) || word_behind(text, match_end))) continue;
    // White space that the token before has taken is not taken again; a token may still be found in it.
    size_t begin = at;
    if (token.lstrip) begin = at <= rest ? rest : rest + trim_end(text.substr(rest), at - rest);
    const size_t end = token.rstrip ? behind_space(match_end) : match_end;
    if (rest < begin) add(rest, begin, kNoToken);
    add(begin, end, id);
    rest = end;
  }
  add(rest, text.size(), kNoToken);
}

void AddedTokens::cut(const Matcher& matcher, Pieces& pieces, bool parse_special) const {
  if (matcher.empty()) return;
  std::vector<Piece> out;
  out.reserve(pieces.list.size());
  for (const Piece& piece : pieces.list) {
    if (piece.token == kNoToken) cut_piece(matcher, pieces, piece, parse_special, out);
    else out.push_back(piece);
  }
  pieces.list = std::move(out);
}

}  // namespace stamp
