#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace stamp::grammar {

/// Numbers distinct sequences of words from 0 on, in the order in which they are first seen.
class Interner {
 public:
  uint32_t intern(std::span<const uint32_t> words) {
    if (2 * (size() + 1) > slots_.size()) grow();
    size_t slot = hash(words) & (slots_.size() - 1);
    for (; slots_[slot] != kFree; slot = (slot + 1) & (slots_.size() - 1))
      if (std::ranges::equal((*this)[slots_[slot]], words)) return slots_[slot];
    words_.insert(words_.end(), words.begin(), words.end());
    ends_.push_back(words_.size());
    return slots_[slot] = uint32_t(size() - 1);
  }
  /// Valid until the next call of intern().
  std::span<const uint32_t> operator[](uint32_t id) const {
    const size_t begin = id == 0 ? 0 : ends_[id - 1];
    return std::span(words_).subspan(begin, ends_[id] - begin);
  }
  size_t size() const { return ends_.size(); }
  size_t bytes() const {
    return sizeof(uint32_t) * (words_.size() + slots_.size()) + sizeof(size_t) * size();
  }

 private:
  static constexpr uint32_t kFree = UINT32_MAX;
  static size_t hash(std::span<const uint32_t> words) {
    uint64_t h = words.size();
    for (const uint32_t word : words) {
      h = (h ^ word) * 0x9e3779b97f4a7c15u;
      h ^= h >> 32;
    }
    return size_t(h);
  }
  void grow() {
    slots_.assign(std::max<size_t>(16, 2 * slots_.size()), kFree);
    for (uint32_t id = 0; id < size(); ++id) {
      size_t slot = hash((*this)[id]) & (slots_.size() - 1);
      while (slots_[slot] != kFree) slot = (slot + 1) & (slots_.size() - 1);
      slots_[slot] = id;
    }
  }

  std::vector<uint32_t> words_;  // all sequences, one after the other
  std::vector<size_t> ends_;     // [size]
  std::vector<uint32_t> slots_;  // open addressing; a power of two, at most half full
};

}  // namespace stamp::grammar
