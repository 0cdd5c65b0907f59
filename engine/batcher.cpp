#include "engine/batcher.h"

#include <algorithm>

#include "engine/session.h"
#include "kernels/error.h"

namespace stamp {
namespace {

constexpr int64_t kScoreRows = 256;  // rows of prompts' logits in one step: bounds their memory

int64_t rows_of_step(Engine& engine, const SchedulerOptions& options) {
  const int64_t most = engine.llama().max_rows();
  if (options.step_tokens > 0) return std::min(options.step_tokens, most);
  return engine.on_host() ? std::min(std::max(kHostStep, options.parallel + kBlock), most) : most;
}

}  // namespace

Batcher::Sequence::Sequence(Engine& engine, ScheduledRequest request, Scheduler::Sink sink)
    : text(engine, std::move(request.generate), std::move(request.constraint)),
      top_logprobs(request.top_logprobs),
      sink(std::move(sink)),
      to_score(request.prompt_logprobs ? prompt() - 1 : 0),
      pages(engine.cache()) {
  if (top_logprobs < -1 || top_logprobs > engine.config().vocab_size)
    throw InputError("the number of likeliest tokens, " + std::to_string(top_logprobs) +
                     ", must be between 0 and the size of the vocabulary");
}

Batcher::Batcher(Engine& engine, const SchedulerOptions& options)
    : engine_(engine),
      options_(options),
      step_rows_(rows_of_step(engine, options)),
      prefixes_(engine.cache()),
      logits_(engine.ops(), engine.config().vocab_size) {
  if (options_.parallel < 1 || options_.queue < 0)
    throw InputError("a scheduler needs at least one sequence at a time, and no negative queue");
  if (step_rows_ < options_.parallel + kBlock)
    throw InputError("steps of " + std::to_string(step_rows_) + " tokens: need room for a block of " +
                     std::to_string(kBlock) + " besides one of each of " + std::to_string(options_.parallel) +
                     " sequences");
}

void Batcher::cancel(Id id) {
  for (auto& s : sequences_)
    if (s->id == id) end(*s, {.text = s->text.rest()}, GenerateEvent::Finish::kCancelled);
  std::erase_if(sequences_, [](const auto& s) { return s->ended; });
}

void Batcher::cancel_all() {
  for (auto& s : sequences_) end(*s, {.text = s->text.rest()}, GenerateEvent::Finish::kCancelled);
  sequences_.clear();
}

void Batcher::step() {
  ++stats_.steps;
  admit();
  plan();
  if (!shares_.empty()) forward();
  std::erase_if(sequences_, [](const auto& s) { return s->ended; });
}

/// Pages that the running sequences need for the tokens they have, and for one more.
int64_t Batcher::pages_to_come() const {
  int64_t pages = 0;
  for (const auto& s : sequences_)
    if (s->running)
      pages += std::max<int64_t>(0, pages_for(s->total() + 1) - int64_t(s->pages.pages().size()));
  return pages;
}

/// In the order of arrival, nobody overtakes: the first that does not fit waits, and all behind it.
void Batcher::admit() {
  int64_t running = std::ranges::count_if(sequences_, [](const auto& s) { return s->running; });
  for (auto& s : sequences_) {
    if (s->running) continue;
    if (running >= options_.parallel) return;
    s->running = true;
    attach_prefix(*s);
    if (running > 0 && pages_to_come() > engine_.cache().free_pages() + prefixes_.idle_pages()) {
      release(*s);
      return;
    }
    s->served = stats_.steps - 1;  // its turn comes after those who wait longer
    ++running;
  }
}

/// Decoding sequences first, one row each; then prompts, and what was forgotten on pre-emption. Of those, who
/// was served the longest ago takes what it can of the rows that are left.
void Batcher::plan() {
  shares_.clear();
  rows_left_ = step_rows_, scores_left_ = kScoreRows;
  std::vector<Sequence*> rest;
  for (auto& s : sequences_) {
    if (!s->running) continue;
    if (s->remaining() == 1) plan(*s, 1);
    else rest.push_back(s.get());
  }
  std::ranges::stable_sort(rest, {}, &Sequence::served);
  for (Sequence* s : rest) {
    if (!s->running) continue;  // gave up its pages
    attach_prefix(*s);
    plan(*s, rows_left_);
  }
}

void Batcher::plan(Sequence& s, int64_t max_rows) {
  const bool scores = s.scored < s.to_score;
  if (scores) max_rows = std::min(max_rows, scores_left_);
  Share share{.sequence = &s, .count = chunk_end(s.done, s.prompt(), s.total(), max_rows) - s.done};
  const int64_t end = s.done + share.count;
  if (share.count == 0) return;
  try {
    if (!secure_pages(s, end)) return;
    s.pages.grow(end);
  } catch (const std::exception& e) {  // out of memory
    this->end(s, {.error = e.what()}, GenerateEvent::Finish::kFailed);
    return;
  }
  share.scored = std::max<int64_t>(0, std::min(end, s.to_score) - std::max(s.done, s.scored));
  share.draws = end == s.total() && !s.text.finish();
  rows_left_ -= share.count;
  scores_left_ -= share.scored;
  shares_.push_back(share);
  s.served = stats_.steps;
}

/// Makes room for the pages that a sequence lacks: first those that only the prefix cache holds, then those
/// of the youngest sequence. False if that is this one, which then waits.
bool Batcher::secure_pages(Sequence& s, int64_t tokens) {
  const int64_t lacking = pages_for(tokens) - int64_t(s.pages.pages().size());
  while (!prefixes_.make_room(lacking)) {
    const auto youngest = std::find_if(sequences_.rbegin(), sequences_.rend(),
                                       [](const auto& other) { return other->running; });
    ++stats_.preemptions;
    preempt(**youngest);
    if (youngest->get() == &s) return false;
  }
  return true;
}

/// Back to the queue, without pages; what has been generated stays.
void Batcher::preempt(Sequence& s) {
  std::erase_if(shares_, [&](const Share& share) { return share.sequence == &s; });
  release(s);
}

void Batcher::release(Sequence& s) {
  prefixes_.touch(s.prefix);
  s.pages.shrink(0);
  s.done = 0;
  s.prefix = nullptr, s.shared = 0;
  s.running = false;
}

/// Takes over the pages that follow the sequence's own, as far as they are cached. The last token's logits
/// will be wanted, and so are those of a prompt that is to be scored.
void Batcher::attach_prefix(Sequence& s) {
  if (!options_.prefix_cache || s.done != s.shared * kBlock) return;
  int64_t most = (s.total() - 1) / kBlock;
  if (engine_.codes_blocks()) most = std::min(most, s.prompt() / kBlock);
  if (s.scored < s.to_score) most = std::min(most, s.scored / kBlock);
  while (s.shared < most) {
    const PrefixCache::Node* node = prefixes_.find(s.prefix, s.block(s.shared));
    if (node == nullptr) break;
    s.pages.adopt(node->page);
    s.prefix = node;
    s.done = ++s.shared * kBlock;
    if (s.done > s.reached) s.cached += kBlock, s.reached = s.done;
  }
  prefixes_.touch(s.prefix);
}

/// Keeps the sequence's full pages for others. Where blocks are coded, that is those of whole blocks of the
/// prompt: a page that was filled by single tokens is another than the same tokens as a prompt would make.
void Batcher::keep_prefix(Sequence& s) {
  if (!options_.prefix_cache) return;
  const int64_t full = (engine_.codes_blocks() ? std::min(s.done, s.prompt()) : s.done) / kBlock;
  while (s.shared < full) {
    const PrefixCache::Node* node =
        prefixes_.insert(s.prefix, s.block(s.shared), s.pages.pages()[size_t(s.shared)]);
    if (node == nullptr) return;
    if (node->page != s.pages.pages()[size_t(s.shared)]) s.pages.replace(s.shared, node->page);
    s.prefix = node;
    ++s.shared;
  }
}

void Batcher::forward() {
  tokens_.clear(), logit_rows_.clear(), runs_.clear();
  for (const Share& share : shares_) {
    const Sequence& s = *share.sequence;
    const int64_t row = int64_t(tokens_.size());
    const auto tokens = s.text.tokens().subspan(size_t(s.done), size_t(share.count));
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    runs_.push_back({.row = row, .count = share.count, .position = s.done, .pages = s.pages.pages()});
    const int64_t first = row + std::max<int64_t>(0, s.scored - s.done);
    for (int64_t i = 0; i < share.scored; ++i) logit_rows_.push_back(int32_t(first + i));
    if (share.draws) logit_rows_.push_back(int32_t(row + share.count - 1));
  }
  try {
    engine_.llama().forward({.tokens = tokens_, .runs = runs_, .logit_rows = logit_rows_},
                            engine_.cache().view(), logits_.prepare(int64_t(logit_rows_.size())));
  } catch (const std::exception& e) {
    for (const Share& share : shares_)
      end(*share.sequence, {.error = e.what()}, GenerateEvent::Finish::kFailed);
    return;
  }
  int64_t row = 0;
  for (const Share& share : shares_) {
    if (share.draws && share.sequence->top_logprobs < 0)
      share.sequence->text.wish(logits_, row + share.scored);
    row += share.rows();
  }
  row = 0;
  for (const Share& share : shares_) {
    deliver(share, row);
    row += share.rows();
  }
}

/// What a step has brought to a sequence: scores of its prompt, a token.
void Batcher::deliver(const Share& share, int64_t first_row) {
  Sequence& s = *share.sequence;
  s.pages.settle();
  s.done += share.count;
  s.reached = std::max(s.reached, s.done);
  keep_prefix(s);
  try {
    for (int64_t i = 0; i < share.scored; ++i, ++s.scored)
      s.prompt_logprobs.push_back(token_logprob(engine_.ops(), logits_.host(first_row + i),
                                                s.text.prompt()[size_t(s.scored + 1)],
                                                std::max(0, s.top_logprobs)));
    if (s.done < s.total()) return;
    GenerateEvent event;
    if (!s.begun) {
      s.begun = true;
      stats_.prompt_tokens += s.prompt(), stats_.cached_tokens += s.cached;
      event.prompt_logprobs = std::move(s.prompt_logprobs);
      event.cached_tokens = s.cached;
    }
    if (share.draws) {
      const int64_t row = first_row + share.scored;
      if (s.top_logprobs >= 0) {
        const std::span<float> logits = logits_.host(row);
        row_.assign(logits.begin(), logits.end());  // drawing changes them
        event.text = s.text.draw(logits);
      } else {
        event.text = s.text.draw(logits_, row);
      }
      event.tokens.push_back(s.text.tokens().back());
      ++stats_.generated_tokens;
      if (s.top_logprobs >= 0)
        event.logprobs.push_back(token_logprob(engine_.ops(), row_, event.tokens.back(), s.top_logprobs));
    }
    if (!s.text.finish()) return s.sink(std::move(event));
    const bool stops = *s.text.finish() == Continuation::Finish::kStop;
    end(s, std::move(event), stops ? GenerateEvent::Finish::kStop : GenerateEvent::Finish::kLength);
  } catch (const std::exception& e) {
    end(s, {.error = e.what()}, GenerateEvent::Finish::kFailed);
  }
}

void Batcher::end(Sequence& s, GenerateEvent event, GenerateEvent::Finish finish) {
  release(s);
  s.ended = true;
  event.finish = finish;
  s.sink(std::move(event));
}

Scheduler::Stats Batcher::stats() const {
  Scheduler::Stats stats = stats_;
  for (const auto& s : sequences_) ++(s->running ? stats.running : stats.waiting);
  stats.total_pages = engine_.cache().max_tokens() / kBlock;
  stats.free_pages = engine_.cache().free_pages() + prefixes_.idle_pages();
  return stats;
}

}  // namespace stamp
