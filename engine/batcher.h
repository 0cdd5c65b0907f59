#pragma once
#include <memory>
#include <vector>

#include "engine/logits.h"
#include "engine/prefix_cache.h"
#include "engine/scheduler.h"

namespace stamp {

/// The part of a scheduler that knows no threads: sequences that share forward passes, pages and prefixes.
class Batcher {
 public:
  using Id = Scheduler::Id;

  /// A request in flight.
  struct Sequence {
    /// Checks the request as Scheduler::submit() does; from any thread.
    Sequence(Engine& engine, ScheduledRequest request, Scheduler::Sink sink);

    int64_t prompt() const { return int64_t(text.prompt().size()); }
    int64_t total() const { return int64_t(text.tokens().size()); }
    int64_t remaining() const { return total() - done; }
    std::span<const int32_t> block(int64_t page) const {
      return text.tokens().subspan(size_t(page * kBlock), size_t(kBlock));
    }

    Id id = 0;
    Continuation text;
    const int top_logprobs;
    const Scheduler::Sink sink;
    // Rows of the prompt whose logits are wanted, since each predicts the next token; how many have been
    // seen.
    const int64_t to_score;
    int64_t scored = 0;
    std::vector<TokenLogprob> prompt_logprobs{};

    bool running = false, begun = false, ended = false;  // begun: the whole prompt has been computed once
    PageTable pages;
    int64_t done = 0, reached = 0;              // tokens in the cache, now and at most so far
    int64_t served = 0;                         // the last step that had a share for it
    const PrefixCache::Node* prefix = nullptr;  // the chain of the leading `shared` pages
    int64_t shared = 0;
    int64_t cached = 0;  // tokens that others had computed
  };

  /// Throws InputError if the options do not fit each other or the engine.
  Batcher(Engine& engine, const SchedulerOptions& options);

  /// Ids ascend.
  void add(std::unique_ptr<Sequence> sequence) { sequences_.push_back(std::move(sequence)); }
  /// Ends a sequence with kCancelled; nothing if there is none of this id.
  void cancel(Id id);
  void cancel_all();

  /// One forward pass. Sequences advance if they have a place (`parallel`) and pages. Who came first is
  /// served first: its pages are taken from the youngest if there are no others, which starts over later.
  void step();
  /// See Scheduler.
  void save_prefixes(const std::filesystem::path& file) const { prefixes_.save(file, owner()); }
  int64_t load_prefixes(const std::filesystem::path& file) { return prefixes_.load(file, owner()); }
  int64_t open() const { return int64_t(sequences_.size()); }
  Scheduler::Stats stats() const;

 private:
  /// A sequence's part in a step.
  struct Share {
    Sequence* sequence = nullptr;
    int64_t count = 0;   // tokens from its `done` on
    int64_t scored = 0;  // rows of logits that score its prompt; they come first
    bool draws = false;  // the last row's logits are wanted to draw from
    int64_t rows() const { return scored + (draws ? 1 : 0); }  // of logits
  };

  std::string owner() const { return engine_.fingerprint(); }
  void admit();
  void plan();
  void plan(Sequence& sequence, int64_t max_rows);
  bool secure_pages(Sequence& sequence, int64_t tokens);
  void preempt(Sequence& sequence);
  void release(Sequence& sequence);
  void attach_prefix(Sequence& sequence);
  void keep_prefix(Sequence& sequence);
  void forward();
  void deliver(const Share& share, int64_t first_row);
  void end(Sequence& sequence, GenerateEvent event, GenerateEvent::Finish finish);
  int64_t pages_to_come() const;

  Engine& engine_;
  SchedulerOptions options_;
  int64_t step_rows_;
  PrefixCache prefixes_;
  std::vector<std::unique_ptr<Sequence>> sequences_;  // by id
  Scheduler::Stats stats_;                            // the counters
  // Of one step.
  std::vector<Share> shares_;
  int64_t rows_left_ = 0, scores_left_ = 0;
  std::vector<int32_t> tokens_, logit_rows_;
  std::vector<RowRun> runs_;
  Logits logits_;
  std::vector<float> row_;
};

}  // namespace stamp
