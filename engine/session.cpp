#include "engine/session.h"

#include <algorithm>
#include <numeric>

namespace stamp {

int64_t chunk_end(int64_t position, int64_t prompt, int64_t total, int64_t max_rows) {
  const int64_t limit = position + max_rows, blocks = prompt / kBlock * kBlock;
  int64_t end = position;
  if (end < blocks) {
    end = std::max(end, std::min(blocks, limit / kBlock * kBlock));
    if (end < blocks) return end;
  }
  const int64_t edge = (end / kBlock + 1) * kBlock, last = std::min(total, limit);
  return last < edge ? last : end == edge - 1 ? edge : edge - 1;
}

Session::Session(Engine& engine)
    : engine_(engine), pages_(engine.cache()), logits_(engine.ops(), engine.config().vocab_size) {}

int64_t Session::truncate(int64_t count) {
  count = pages_.can_keep(std::min<int64_t>(count, int64_t(tokens_.size())));
  tokens_.resize(size_t(count));
  pages_.shrink(count);
  canonical_ = std::min(canonical_, count / kBlock * kBlock);
  return count;
}

int64_t Session::reuse(std::span<const int32_t> prompt) {
  const size_t most = prompt.empty() ? 0 : std::min(tokens_.size(), prompt.size() - 1);
  size_t common = 0;
  while (common < most && tokens_[common] == prompt[common]) ++common;
  if (engine_.codes_blocks()) common = std::min(common / kBlock * kBlock, size_t(canonical_));
  return truncate(int64_t(common));
}

Logits* Session::advance(std::span<const int32_t> tokens, const Hooks& hooks) {
  engine_.check_room(tokens, int64_t(tokens_.size()));
  const int64_t total = int64_t(tokens.size());
  for (int64_t done = 0; done < total;) {
    if (hooks.cancel != nullptr && hooks.cancel->load()) return nullptr;
    const int64_t rows = next_rows(total - done, engine_.llama().max_rows());
    const int32_t last = int32_t(rows - 1);
    const bool ends = done + rows == total;
    forward(tokens.subspan(size_t(done), size_t(rows)), {&last, ends ? size_t{1} : size_t{0}});
    done += rows;
    if (hooks.progress) hooks.progress(done, total);
  }
  return &logits_;
}

void Session::advance_all(std::span<const int32_t> tokens, int64_t first, int64_t max_rows,
                          const Visit& visit) {
  engine_.check_room(tokens, int64_t(tokens_.size()));
  const int64_t total = int64_t(tokens.size());
  max_rows = std::min(max_rows, engine_.llama().max_rows());
  for (int64_t done = 0; done < total;) {
    // Until the first wanted row, whole chunks; from there on no more rows than the logits have room for.
    const int64_t rows = next_rows(
        total - done, done + engine_.llama().max_rows() <= first ? engine_.llama().max_rows() : max_rows);
    const int64_t skip = std::clamp<int64_t>(first - done, 0, rows);
    std::vector<int32_t> wanted(size_t(rows - skip));
    std::iota(wanted.begin(), wanted.end(), int32_t(skip));
    forward(tokens.subspan(size_t(done), size_t(rows)), wanted);
    if (!wanted.empty()) visit(done + skip, logits_);
    done += rows;
  }
}

int64_t Session::next_rows(int64_t remaining, int64_t max_rows) const {
  const int64_t position = int64_t(tokens_.size()), total = position + remaining;
  const int64_t end = chunk_end(position, total, total, max_rows);
  return end > position ? end - position : std::min(remaining, max_rows);
}

void Session::forward(std::span<const int32_t> tokens, std::span<const int32_t> logit_rows) {
  const int64_t position = int64_t(tokens_.size()), rows = int64_t(tokens.size());
  pages_.grow(position + rows);
  const RowRun run{.row = 0, .count = rows, .position = position, .pages = pages_.pages()};
  engine_.llama().forward({.tokens = tokens, .runs = {&run, 1}, .logit_rows = logit_rows},
                          engine_.cache().view(), logits_.prepare(int64_t(logit_rows.size())));
  pages_.settle();
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  if (canonical_ == position) canonical_ += rows / kBlock * kBlock;
}

}  // namespace stamp
