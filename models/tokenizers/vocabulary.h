#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizers/pieces.h"

namespace stamp {

/// Tokens and their ids, both ways. Their texts lie in one string: a string each would take more memory than
/// they have bytes.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// With room for as many tokens.
  explicit Vocabulary(size_t tokens);

  /// False if the id has a token already. Preconditions: there is room, and no other token has this text;
  /// id >= 0. Ids need not be contiguous.
  bool add(std::string_view text, int32_t id);

  int32_t find(std::string_view text) const;  // kNoToken if there is none
  bool has(int32_t id) const {
    return id >= 0 && size_t(id) < by_id_.size() && by_id_[size_t(id)].begin != kAbsent;
  }
  /// Precondition: has(id). Valid until the next add().
  std::string_view text(int32_t id) const {
    const auto [begin, size] = by_id_[size_t(id)];
    return std::string_view(texts_).substr(begin, size);
  }
  size_t size() const { return size_; }
  /// Above every id.
  int32_t end() const { return int32_t(by_id_.size()); }

 private:
  static constexpr uint32_t kAbsent = UINT32_MAX;
  struct Range {
    uint32_t begin = kAbsent, size = 0;
  };
  /// Where the text's id is, or would be.
  size_t slot_of(std::string_view text) const;

  std::string texts_;
  std::vector<Range> by_id_;
  std::vector<int32_t> slots_ = {kNoToken};  // ids by their texts' hashes; open addressing, a power of two
  size_t size_ = 0;
};

}  // namespace stamp
