#include "engine/kv_cache.h"

#include <numeric>
#include <random>

#include "kernels/error.h"

namespace stamp {
namespace {

size_t pages_for(int64_t tokens) { return size_t((tokens + kBlock - 1) / kBlock); }

}  // namespace

KvCache::KvCache(const ModelConfig& config, int64_t max_tokens, uint64_t shuffle_seed)
    : layers_(config.layers),
      kv_heads_(config.kv_heads),
      head_dim_(config.head_dim),
      page_floats_(layers_ * KvPages::layer_floats(kv_heads_, head_dim_)),
      pages_(pages_for(max_tokens)),
      unbacked_(pages_.size()),
      bases_(pages_.size(), nullptr),
      free_(pages_.size()) {
  std::iota(free_.rbegin(), free_.rend(), 0);
  if (shuffle_seed != 0) {
    std::mt19937_64 rng(shuffle_seed);
    for (size_t i = free_.size(); i > 1; --i) std::swap(free_[i - 1], free_[rng() % i]);
  }
}

int32_t KvCache::take() {
  if (free_.empty())
    throw Error("the KV cache is full: all " + std::to_string(max_tokens()) + " tokens are in use");
  const int32_t page = free_.back();
  Buffer<float>& storage = pages_[size_t(page)];
  if (storage.size() == 0) {
    storage = Buffer<float>(page_floats_);
    bases_[size_t(page)] = storage.data();
    --unbacked_;
  }
  free_.pop_back();
  return page;
}

void KvCache::give_back(int32_t page) { free_.push_back(page); }

void PageTable::resize(int64_t tokens) {
  const size_t wanted = pages_for(tokens);
  while (pages_.size() > wanted) {
    cache_->give_back(pages_.back());
    pages_.pop_back();
  }
  const size_t had = pages_.size();
  try {
    while (pages_.size() < wanted) pages_.push_back(cache_->take());
  } catch (...) {  // all or none: what was taken must not stay out of other sequences' reach
    resize(int64_t(had) * kBlock);
    throw;
  }
}

}  // namespace stamp
