#include "engine/kv_cache.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include "kernels/error.h"

namespace stamp {

KvCache::KvCache(const ModelConfig& config, const KvFormat& format, int64_t max_tokens, uint64_t shuffle_seed,
                 Memory& memory)
    : memory_(memory),
      layers_(config.layers),
      kv_heads_(config.kv_heads),
      head_dim_(config.head_dim),
      format_(format),
      open_(size_t(pages_for(max_tokens)), nullptr),
      sealed_(open_.size(), nullptr),
      free_(open_.size()),
      holders_(open_.size()) {
  open_pool_.page_bytes = layers_ * view().open_layer_bytes();
  sealed_pool_.page_bytes = layers_ * view().sealed_layer_bytes();
  std::iota(free_.rbegin(), free_.rend(), 0);
  if (shuffle_seed != 0) {
    std::mt19937_64 rng(shuffle_seed);
    for (size_t i = free_.size(); i > 1; --i) std::swap(free_[i - 1], free_[rng() % i]);
  }
}

KvPages KvCache::view() const {
  return {.open = open_,
          .sealed = sealed_,
          .layer_index = 0,
          .kv_heads = kv_heads_,
          .head_dim = head_dim_,
          .format = format_};
}

int64_t KvCache::bytes_for(int64_t tokens) const {
  int64_t bytes = 0;
  for (int64_t page = 0; page * kBlock < tokens; ++page)
    bytes += format_.seals(page) && (page + 1) * kBlock <= tokens ? sealed_pool_.page_bytes
                                                                  : open_pool_.page_bytes;
  return bytes;
}

int32_t KvCache::take() {
  if (free_.empty())
    throw Error("the KV cache is full: all " + std::to_string(max_tokens()) + " tokens are in use");
  const int32_t page = free_.back();
  free_.pop_back();
  hold(page);
  return page;
}

void KvCache::give_back(int32_t page) {
  if (--holders_[size_t(page)] > 0) return;
  set_forms(page, false, false);
  free_.push_back(page);
}

void KvCache::set_forms(int32_t page, bool open, bool sealed) {
  attach(open_pool_, open_[size_t(page)], open);
  attach(sealed_pool_, sealed_[size_t(page)], sealed);
}

std::vector<char> KvCache::read(int32_t page, bool sealed) const {
  std::vector<char> bytes(size_t(page_bytes(sealed)));
  memory_.read(bytes.data(), (sealed ? sealed_ : open_)[size_t(page)], page_bytes(sealed));
  return bytes;
}

void KvCache::write(int32_t page, bool sealed, std::span<const char> bytes) {
  memory_.write((sealed ? sealed_ : open_)[size_t(page)], bytes.data(), page_bytes(sealed));
}

void KvCache::attach(Pool& pool, std::byte*& base, bool wanted) {
  if (wanted == (base != nullptr)) return;
  if (!wanted) {
    pool.unused.push_back(base);
    base = nullptr;
    return;
  }
  if (pool.unused.empty()) add_pages(pool);
  base = pool.unused.back();
  pool.unused.pop_back();
}

void KvCache::add_pages(Pool& pool) {
  constexpr int64_t kMostBytes = int64_t{4} << 20;
  const int64_t stride = round_up(pool.page_bytes, 64), left = int64_t(open_.size()) - pool.pages,
                most = std::max<int64_t>(kMostBytes / stride, 1),
                pages = std::min(std::clamp<int64_t>(pool.pages, 1, most), left);
  std::byte* base = pool.storage.emplace_back(pages * stride, memory_).data();
  for (int64_t i = pages - 1; i >= 0; --i) pool.unused.push_back(base + i * stride);
  pool.pages += pages;
  bytes_allocated_ += pages * pool.page_bytes;
}

void PageTable::grow(int64_t tokens) {
  const int64_t wanted = pages_for(tokens);
  const size_t had = pages_.size();
  try {
    while (int64_t(pages_.size()) < wanted) pages_.push_back(cache_->take());
  } catch (...) {  // all or none: what was taken must not stay out of other sequences' reach
    for (; pages_.size() > had; pages_.pop_back()) cache_->give_back(pages_.back());
    throw;
  }
  for (int64_t page = std::min(settled_, tokens_ / kBlock); page < wanted; ++page) {
    const bool present = page < int64_t(had), full = seals(page, tokens);
    // A page that was open before is sealed from its open form; a new one that becomes full never needs that.
    cache_->set_forms(pages_[size_t(page)], !full || present, full);
  }
  tokens_ = tokens;
}

void PageTable::settle() {
  for (; (settled_ + 1) * kBlock <= tokens_; ++settled_)
    if (seals(settled_, tokens_)) cache_->set_forms(pages_[size_t(settled_)], false, true);
}

void PageTable::adopt(int32_t page) {
  pages_.push_back(page);
  cache_->hold(page);
  tokens_ += kBlock;
  ++settled_;
}

void PageTable::replace(int64_t index, int32_t page) {
  cache_->hold(page);
  cache_->give_back(std::exchange(pages_[size_t(index)], page));
}

int64_t PageTable::can_keep(int64_t tokens) const {
  if (tokens >= tokens_) return tokens_;
  const int64_t page = tokens / kBlock;
  return seals(page, tokens_) || cache_->holders(pages_[size_t(page)]) > 1 ? page * kBlock : tokens;
}

void PageTable::shrink(int64_t tokens) {
  while (int64_t(pages_.size()) > pages_for(tokens)) {
    cache_->give_back(pages_.back());
    pages_.pop_back();
  }
  tokens_ = std::min(tokens_, tokens);
  settled_ = std::min(settled_, tokens_ / kBlock);
}

}  // namespace stamp
