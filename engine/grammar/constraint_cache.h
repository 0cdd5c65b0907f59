#pragma once
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "engine/constraint.h"

namespace stamp {

/// The constraints that requests asked for lately, so that a schema that comes with every request is compiled
/// once and what is known of its tokens is kept. Thread-safe.
class ConstraintCache {
 public:
  explicit ConstraintCache(size_t size = 16) : size_(size) {}

  /// A constraint at a text's begin. `source` says all that `make` depends on; what `make` throws goes on to
  /// the caller, and is not kept.
  std::unique_ptr<TokenConstraint> get(const std::string& source,
                                       const std::function<std::unique_ptr<TokenConstraint>()>& make);

 private:
  std::unique_ptr<TokenConstraint> find(const std::string& source);

  size_t size_;
  std::mutex mutex_;
  std::list<std::pair<std::string, std::unique_ptr<TokenConstraint>>> kept_;  // latest first
};

}  // namespace stamp
