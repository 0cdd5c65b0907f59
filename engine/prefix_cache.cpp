#include "engine/prefix_cache.h"

#include <algorithm>

namespace stamp {
namespace {

/// FNV-1a over whole ids, from the hash of the tokens before. It only finds candidates: tokens are compared.
uint64_t chain_hash(const PrefixCache::Node* parent, std::span<const int32_t> tokens) {
  uint64_t hash = parent != nullptr ? parent->hash : 0xcbf29ce484222325u;
  for (int32_t id : tokens) hash = (hash ^ uint32_t(id)) * 0x100000001b3u;
  return hash;
}

}  // namespace

PrefixCache::~PrefixCache() { clear(); }

void PrefixCache::clear() {
  for (const Node& node : nodes_) cache_->give_back(node.page);
  nodes_.clear();
  index_.clear();
}

const PrefixCache::Node* PrefixCache::find(const Node* parent, std::span<const int32_t> tokens) const {
  const auto at = index_.find(chain_hash(parent, tokens));
  if (at == index_.end()) return nullptr;
  const Node& node = *at->second;
  return node.parent == parent && std::ranges::equal(node.tokens, tokens) ? &node : nullptr;
}

const PrefixCache::Node* PrefixCache::insert(const Node* parent, std::span<const int32_t> tokens,
                                             int32_t page) {
  const uint64_t hash = chain_hash(parent, tokens);
  if (index_.contains(hash)) return find(parent, tokens);  // null: other tokens of the same hash
  return add(parent != nullptr ? std::next(index_.at(parent->hash)) : nodes_.begin(), parent, tokens, page);
}

const PrefixCache::Node* PrefixCache::add(Nodes::const_iterator place, const Node* parent,
                                          std::span<const int32_t> tokens, int32_t page) {
  const auto node = nodes_.insert(
      place, {.parent = parent, .hash = chain_hash(parent, tokens), .tokens = {}, .page = page});
  std::ranges::copy(tokens, node->tokens.begin());
  index_.emplace(node->hash, node);
  cache_->hold(page);
  return &*node;
}

void PrefixCache::touch(const Node* last) {
  for (; last != nullptr; last = last->parent) nodes_.splice(nodes_.begin(), nodes_, index_.at(last->hash));
}

bool PrefixCache::make_room(int64_t pages) {
  for (auto node = nodes_.end(); node != nodes_.begin() && cache_->free_pages() < pages;) {
    --node;
    if (cache_->holders(node->page) > 1) continue;
    cache_->give_back(node->page);
    index_.erase(node->hash);
    node = nodes_.erase(node);
  }
  return cache_->free_pages() >= pages;
}

int64_t PrefixCache::idle_pages() const {
  return std::ranges::count_if(nodes_, [&](const Node& n) { return cache_->holders(n.page) == 1; });
}

}  // namespace stamp
