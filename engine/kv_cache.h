#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/views.h"
#include "models/config.h"

namespace stamp {

/// Pages that as many tokens of a sequence take.
inline int64_t pages_for(int64_t tokens) { return divide_up(tokens, kBlock); }

/// The pages of every sequence's keys and values. A page holds kBlock tokens of all layers. Memory is
/// allocated when a sequence first needs it and kept for reuse afterwards, so it follows the tokens in use.
/// Coded pages have two forms (KvPages): open while their sequence fills them, sealed and about half as large
/// afterwards.
class KvCache {
 public:
  /// At most `max_tokens`, rounded up to whole pages. A non-zero `shuffle_seed` hands pages out in a
  /// scrambled order: tests use it to show that the layout does not change a bit of the logits. `memory` is
  /// that of the operations that use the pages.
  KvCache(const ModelConfig& config, const KvFormat& format, int64_t max_tokens, uint64_t shuffle_seed = 0,
          Memory& memory = host_memory());

  KvPages view() const;
  const KvFormat& format() const { return format_; }
  /// Of a sequence of `tokens` tokens: sealed and open pages with their scales, whole pages counted.
  int64_t bytes_for(int64_t tokens) const;
  double bytes_per_token(int64_t tokens) const { return double(bytes_for(tokens)) / double(tokens); }
  int64_t bytes_allocated() const { return bytes_allocated_; }
  int64_t max_tokens() const { return int64_t(open_.size()) * kBlock; }
  int64_t free_pages() const { return int64_t(free_.size()); }

  /// Takes a page without memory; throws Error when all are in use. Who takes a page holds it; a full page
  /// can be held by many, for each of whom it is given back once.
  int32_t take();
  void hold(int32_t page) { ++holders_[size_t(page)]; }
  void give_back(int32_t page);
  int32_t holders(int32_t page) const { return holders_[size_t(page)]; }
  /// A page's bytes in one of the forms it has, and back.
  std::vector<char> read(int32_t page, bool sealed) const;
  void write(int32_t page, bool sealed, std::span<const char> bytes);
  int64_t page_bytes(bool sealed) const { return sealed ? sealed_pool_.page_bytes : open_pool_.page_bytes; }
  /// Gives a page the forms it shall have; a form it had and shall not have goes back to the pool.
  void set_forms(int32_t page, bool open, bool sealed);

 private:
  struct Pool {
    int64_t page_bytes = 0, pages = 0;
    std::vector<Buffer<std::byte>> storage;
    std::vector<std::byte*> unused;
  };
  void attach(Pool& pool, std::byte*& base, bool wanted);
  /// As many as there are already, up to 4 MiB at a time, which come in huge pages.
  void add_pages(Pool& pool);

  Memory& memory_;
  int64_t layers_, kv_heads_, head_dim_;
  KvFormat format_;
  Pool open_pool_, sealed_pool_;
  int64_t bytes_allocated_ = 0;
  std::vector<std::byte*> open_, sealed_;
  std::vector<int32_t> free_;     // taken from the back
  std::vector<int32_t> holders_;  // of each page
};

/// The pages of one sequence, in order: its block table. Gives them back when it ends.
class PageTable {
 public:
  explicit PageTable(KvCache& cache) : cache_(&cache) {}
  ~PageTable() { shrink(0); }
  PageTable(const PageTable&) = delete;
  PageTable& operator=(const PageTable&) = delete;

  /// Before a forward pass that brings the sequence to `tokens`: the pages it writes, in every form it
  /// writes.
  void grow(int64_t tokens);
  /// After it: full pages lose their open form.
  void settle();
  /// Appends a full page of another sequence, which all of them hold from now on. Precondition: the table's
  /// own pages are full and settled.
  void adopt(int32_t page);
  /// Holds another page of the same content in place of a full and settled one.
  void replace(int64_t index, int32_t page);
  /// Forgets all but the first `tokens`. A sealed or shared page cannot be cut: can_keep() tells what is
  /// possible.
  void shrink(int64_t tokens);
  /// The largest number of tokens, at most `tokens`, to which the sequence can be shrunk.
  int64_t can_keep(int64_t tokens) const;
  std::span<const int32_t> pages() const { return pages_; }

 private:
  bool seals(int64_t page, int64_t tokens) const {
    return cache_->format().seals(page) && (page + 1) * kBlock <= tokens;
  }

  KvCache* cache_;
  std::vector<int32_t> pages_;
  int64_t tokens_ = 0, settled_ = 0;  // settled_: pages whose forms are final
};

}  // namespace stamp
