#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/logits.h"

namespace stamp {

/// Where the next forward pass over a sequence ends, of which the first `position` tokens are in the cache,
/// `prompt` are its prompt and `total` are known: at most `max_rows` on; `position` itself if that is not
/// enough for a whole block. Blocks of the prompt stay whole. The tokens after them are computed as if one by
/// one: what fills a page comes alone, since from then on the page is read in its sealed form.
int64_t chunk_end(int64_t position, int64_t prompt, int64_t total, int64_t max_rows);

/// One sequence in an engine: the tokens whose keys and values are in the cache.
class Session {
 public:
  explicit Session(Engine& engine);

  std::span<const int32_t> tokens() const { return tokens_; }
  /// Forgets all but the first `count` tokens, or the fewer that end at a page's edge if the page is sealed;
  /// returns how many it kept.
  int64_t truncate(int64_t count);
  /// Keeps the longest common prefix with `prompt`, at most all but its last token, whose logits will be
  /// wanted; returns its length. Where blocks are coded together, only those that were computed as whole
  /// blocks of a prompt are kept, so that the logits do not depend on what the cache held before.
  int64_t reuse(std::span<const int32_t> prompt);

  struct Hooks {
    std::function<void(int64_t done, int64_t total)> progress{};  // after each chunk
    const std::atomic<bool>* cancel = nullptr;                    // looked at between chunks
  };
  /// Appends tokens and returns the logits of the last one, a row that is valid until the next call; null if
  /// cancelled. Throws InputError, before any work, if an id is not in the vocabulary or the context would
  /// overflow.
  Logits* advance(std::span<const int32_t> tokens, const Hooks& hooks);
  Logits* advance(std::span<const int32_t> tokens) { return advance(tokens, {}); }

  /// Appends tokens and hands each row's logits, at most `max_rows` at a time, to `visit` together with the
  /// index in `tokens` of the first of them. Only the rows from index `first` on are computed.
  using Visit = std::function<void(int64_t index, Logits& logits)>;
  void advance_all(std::span<const int32_t> tokens, int64_t first, int64_t max_rows, const Visit& visit);

  Engine& engine() const { return engine_; }

 private:
  /// Rows of the next forward pass: up to the chunk size, ending at a multiple of kBlock or at the last
  /// token.
  int64_t next_rows(int64_t remaining, int64_t max_rows) const;
  void forward(std::span<const int32_t> tokens, std::span<const int32_t> logit_rows);

  Engine& engine_;
  PageTable pages_;
  std::vector<int32_t> tokens_;
  int64_t canonical_ = 0;  // leading tokens in blocks that were prefilled whole
  Logits logits_;
};

}  // namespace stamp
