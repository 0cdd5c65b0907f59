#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/views.h"
#include "models/config.h"

namespace stamp {

/// The pages of every sequence's keys and values. A page holds kBlock tokens of all layers; it is allocated
/// when a sequence first needs it and kept for reuse afterwards, so memory follows the tokens in use.
class KvCache {
 public:
  /// At most `max_tokens`, rounded up to whole pages. A non-zero `shuffle_seed` hands pages out in a
  /// scrambled order: tests use it to show that the layout does not change a bit of the logits.
  KvCache(const ModelConfig& config, int64_t max_tokens, uint64_t shuffle_seed = 0);

  KvPages view() const { return {bases_, 0, kv_heads_, head_dim_}; }
  int64_t bytes_per_token() const { return page_floats_ * int64_t{sizeof(float)} / kBlock; }
  int64_t bytes_allocated() const {
    return int64_t(pages_.size() - unbacked_) * page_floats_ * int64_t{sizeof(float)};
  }
  int64_t max_tokens() const { return int64_t(bases_.size()) * kBlock; }
  int64_t free_pages() const { return int64_t(free_.size()); }

  /// Takes a page; throws Error when all are in use.
  int32_t take();
  void give_back(int32_t page);

 private:
  int64_t layers_, kv_heads_, head_dim_, page_floats_;
  std::vector<Buffer<float>> pages_;  // empty until first taken
  size_t unbacked_;
  std::vector<float*> bases_;
  std::vector<int32_t> free_;  // taken from the back
};

/// The pages of one sequence, in order: its block table. Gives them back when it ends.
class PageTable {
 public:
  explicit PageTable(KvCache& cache) : cache_(&cache) {}
  ~PageTable() { resize(0); }
  PageTable(const PageTable&) = delete;
  PageTable& operator=(const PageTable&) = delete;

  /// Holds exactly the pages that `tokens` tokens need; the same as before if the cache has not enough.
  void resize(int64_t tokens);
  std::span<const int32_t> pages() const { return pages_; }

 private:
  KvCache* cache_;
  std::vector<int32_t> pages_;
};

}  // namespace stamp
