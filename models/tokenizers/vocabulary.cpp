#include "models/tokenizers/vocabulary.h"

#include <bit>
#include <functional>

namespace stamp {

Vocabulary::Vocabulary(size_t tokens) : slots_(std::bit_ceil(2 * tokens + 1), kNoToken) {
  by_id_.reserve(tokens);
}

size_t Vocabulary::slot_of(std::string_view text) const {
  const size_t last = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>{}(text)&last;
  while (slots_[slot] != kNoToken && this->text(slots_[slot]) != text) slot = (slot + 1) & last;
  return slot;
}

bool Vocabulary::add(std::string_view text, int32_t id) {
  if (has(id)) return false;
  if (size_t(id) >= by_id_.size()) by_id_.resize(size_t(id) + 1);
  slots_[slot_of(text)] = id;
  by_id_[size_t(id)] = {uint32_t(texts_.size()), uint32_t(text.size())};
  texts_ += text;
  ++size_;
  return true;
}

int32_t Vocabulary::find(std::string_view text) const { return slots_[slot_of(text)]; }

}  // namespace stamp
