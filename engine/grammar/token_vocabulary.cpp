#include "engine/grammar/token_vocabulary.h"

#include <algorithm>
#include <numeric>

namespace stamp {
namespace {

constexpr size_t kMaxTokenBytes = UINT16_MAX;

std::vector<std::string> all_bytes(const Tokenizer& tokenizer, std::span<const int32_t> end_tokens,
                                   int64_t size, bool first) {
  std::vector<std::string> bytes(size_t(std::max<int64_t>(size, 0)));
  const int64_t known = std::min(size, tokenizer.vocab_size());
  for (int32_t id = 0; id < known; ++id) {
    if (std::ranges::count(end_tokens, id) > 0) continue;
    std::string& token = bytes[size_t(id)] = tokenizer.token_bytes(id, first);
    if (token.size() > kMaxTokenBytes) token.clear();
  }
  return bytes;
}

}  // namespace

TokenVocabulary::TokenVocabulary(const Tokenizer& tokenizer, std::vector<int32_t> end_tokens, int64_t size)
    : end_tokens_(std::move(end_tokens)),
      bytes_(all_bytes(tokenizer, end_tokens_, size, false)),
      first_(all_bytes(tokenizer, end_tokens_, size, true)),
      trie_(bytes_),
      first_trie_(first_ == bytes_ ? std::vector<std::string>{} : first_) {
  if (first_ == bytes_) first_.clear();
  std::erase_if(end_tokens_, [size](int32_t id) { return id < 0 || id >= size; });
  for (const std::string& token : bytes_)
    if (token.size() == 1) has_byte_[uint8_t(token[0])] = true;
}

TokenVocabulary::Trie::Trie(const std::vector<std::string>& bytes) {
  for (int32_t id = 0; size_t(id) < bytes.size(); ++id)
    if (!bytes[size_t(id)].empty()) tokens_.push_back(id);
  std::ranges::stable_sort(tokens_, {}, [&](int32_t id) -> const std::string& { return bytes[size_t(id)]; });
  nodes_.push_back({0, 0, 0, 0});
  std::vector<uint32_t> open{0};  // from the root to the node of the last token
  std::string_view last;
  const auto close_to = [&](size_t depth) {
    for (; open.size() > depth + 1; open.pop_back()) nodes_[open.back()].end = uint32_t(nodes_.size());
  };
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view token = bytes[size_t(tokens_[i])];
    const auto common = size_t(std::ranges::mismatch(last, token).in1 - last.begin());
    close_to(common);
    for (size_t depth = common; depth < token.size(); ++depth) {
      open.push_back(uint32_t(nodes_.size()));
      // Sorted, a token comes before those that it begins: nodes made on the way to it have no tokens yet.
      nodes_.push_back({0, i, uint16_t(depth + 1), uint8_t(token[depth])});
    }
    last = token;
  }
  close_to(0);
  nodes_[0].end = uint32_t(nodes_.size());
  nodes_.push_back({uint32_t(nodes_.size() + 1), uint32_t(tokens_.size()), 0, 0});
}

}  // namespace stamp
