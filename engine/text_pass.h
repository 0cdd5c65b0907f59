#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

#include "engine/kv_cache.h"
#include "models/llama.h"

namespace stamp {

/// A text run through models for what can be seen on the way: in sequences of at most kSequence tokens that
/// attend to each other, a chunk of rows at a time, over a cache of floats.
class TextPass {
 public:
  static constexpr int64_t kSequence = 2048;
  static constexpr int64_t kChunk = 512;  // most rows of a forward pass

  explicit TextPass(const ModelConfig& config) : length_(length(config)), cache_(config, {}, length_) {}

  /// Tokens of a sequence.
  static int64_t length(const ModelConfig& config) {
    return std::min(kSequence, config.max_position_embeddings / kBlock * kBlock);
  }

  /// step(chunk, run, kv) for one chunk after another: its tokens; where they stand in their sequence; the
  /// pages. It calls Llama::forward.
  template <typename Step>
  void run(std::span<const int32_t> tokens, const Step& step) {
    const auto count = int64_t(tokens.size());
    for (int64_t begin = 0; begin < count; begin += length_) {
      PageTable pages(cache_);
      const int64_t end = std::min(count, begin + length_);
      for (int64_t at = begin; at < end; at += kChunk) {
        const int64_t rows = std::min(kChunk, end - at), position = at - begin;
        pages.grow(position + rows);
        step(tokens.subspan(size_t(at), size_t(rows)),
             RowRun{.row = 0, .count = rows, .position = position, .pages = pages.pages()}, cache_.view());
        pages.settle();
      }
    }
  }

 private:
  int64_t length_;
  KvCache cache_;
};

}  // namespace stamp
