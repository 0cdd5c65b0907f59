#include "engine/grammar/constraint_cache.h"

#include <algorithm>

namespace stamp {

std::unique_ptr<TokenConstraint> ConstraintCache::find(const std::string& source) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(kept_, [&](const auto& entry) { return entry.first == source; });
  if (found == kept_.end()) return nullptr;
  kept_.splice(kept_.begin(), kept_, found);
  return found->second->clone();
}

std::unique_ptr<TokenConstraint> ConstraintCache::get(
    const std::string& source, const std::function<std::unique_ptr<TokenConstraint>()>& make) {
  if (auto constraint = find(source)) return constraint;
  auto constraint = make();  // outside of the lock: it may take long
  auto copy = constraint->clone();
  const std::lock_guard lock(mutex_);
  kept_.emplace_front(source, std::move(constraint));
  if (kept_.size() > size_) kept_.pop_back();
  return copy;
}

}  // namespace stamp
