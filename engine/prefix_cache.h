#pragma once
#include <array>
#include <cstdint>
#include <filesystem>
#include <list>
#include <span>
#include <string_view>
#include <unordered_map>

#include "engine/kv_cache.h"

namespace stamp {

/// Full pages that outlive their sequence, for other sequences that begin with the same tokens. A page's
/// content hangs on all tokens up to its end, so that pages form chains from the first one on. Which pages
/// are the same whatever sequence computed them is the caller's to know. Must not outlive the cache.
class PrefixCache {
 public:
  explicit PrefixCache(KvCache& cache) : cache_(&cache) {}
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  struct Node {
    const Node* parent = nullptr;
    uint64_t hash = 0;  // of all tokens up to the page's end
    std::array<int32_t, kBlock> tokens{};
    int32_t page = 0;
  };
  /// The page of these kBlock tokens after the chain that ends with `parent` (null: at the start of a
  /// sequence); null if it is not here. Valid while the caller holds the page.
  const Node* find(const Node* parent, std::span<const int32_t> tokens) const;
  /// Keeps a page. If one of the same tokens is here already, that one is returned and should take the
  /// place of the caller's. Null if it cannot be kept. The caller holds the pages of all of the chain.
  const Node* insert(const Node* parent, std::span<const int32_t> tokens, int32_t page);
  /// The chain that ends with `last` was used now; null does nothing.
  void touch(const Node* last);

  /// Gives back pages that nobody else holds, the least recently used first, until the cache has `pages`
  /// free or there are no more; says whether it has.
  bool make_room(int64_t pages);
  int64_t pages() const { return int64_t(nodes_.size()); }
  /// Those that nobody else holds.
  int64_t idle_pages() const;

  /// Writes all pages to a file, which appears as a whole or not at all. Throws Error if it cannot be
  /// written. `owner` says what decides their content; nothing else can read them.
  void save(const std::filesystem::path& file, std::string_view owner) const;
  /// Adds the pages of a file, the most recently used first, as many as are free; returns how many.
  /// Precondition: this is empty. Throws InputError, and stays empty, if the file is damaged or another's.
  int64_t load(const std::filesystem::path& file, std::string_view owner);

 private:
  using Nodes = std::list<Node>;

  const Node* add(Nodes::const_iterator place, const Node* parent, std::span<const int32_t> tokens,
                  int32_t page);
  void clear();

  KvCache* cache_;
  // The most recently used first, every node before those that follow it in a chain. So the last node that
  // only this cache holds has none after it: who holds a page holds its whole chain.
  Nodes nodes_;
  std::unordered_map<uint64_t, Nodes::iterator> index_;  // by hash
};

}  // namespace stamp
