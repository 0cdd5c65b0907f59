#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/constraint.h"
#include "engine/continuation.h"
#include "engine/engine.h"
#include "engine/logprobs.h"

namespace stamp {

/// One prompt and its continuation in a batch of many. Answers do not depend on what else is in the batch.
struct ScheduledRequest {
  GenerateRequest generate{};
  int top_logprobs = -1;         // with each generated token: how many likeliest; -1: no logprobs
  bool prompt_logprobs = false;  // of the prompt's tokens from the second on, as many likeliest
  std::unique_ptr<TokenConstraint> constraint{};  // null: anything
};

/// What a request produces, in order; the last has `finish`.
struct GenerateEvent {
  std::string text{};                           // whole characters, certain to come before any stop string
  std::vector<int32_t> tokens{};                // newly generated
  std::vector<TokenLogprob> logprobs{};         // of `tokens`, if asked for
  std::vector<TokenLogprob> prompt_logprobs{};  // with the first event, if asked for: of the prompt's tokens
                                                // from the second on
  enum class Finish { kStop, kLength, kCancelled, kFailed };
  std::optional<Finish> finish{};
  std::string error{};        // of kFailed: one line
  int64_t cached_tokens = 0;  // with the first event: of the prompt, that were found in the prefix cache
};

inline constexpr int64_t kHostStep = 256;

struct SchedulerOptions {
  int64_t parallel = 8;  // sequences that advance together
  int64_t queue = 64;    // requests that wait for a place
  // Rows of one step: decodes first, the rest is chunks of prompts. 0: kHostStep, where longer steps compute
  // no faster and keep everybody waiting; on a device all that a forward pass takes.
  int64_t step_tokens = 0;
  bool prefix_cache = true;
};

/// Many sequences on one engine: continuous batching. A thread of its own runs the steps; each mixes one
/// token of every decoding sequence with chunks of waiting prompts.
class Scheduler {
 public:
  /// `engine` must outlive this and belongs to it alone.
  Scheduler(Engine& engine, const SchedulerOptions& options);
  /// Cancels what is left.
  ~Scheduler();

  using Id = uint64_t;
  /// Called on the scheduler's thread, must not block and must not throw.
  using Sink = std::function<void(GenerateEvent event)>;
  /// From any thread. Nothing if the queue is full or drain() was called. Throws InputError for a request
  /// that can never be answered (prompt too long, parameters out of range), before it is queued.
  std::optional<Id> submit(ScheduledRequest request, Sink sink);
  /// From any thread: the request ends within one step with kCancelled, unless it has ended.
  void cancel(Id id);
  /// No more requests; returns when all accepted ones have ended.
  void drain();

  /// The prefix cache as a file, for the next scheduler on the same model. Only before the first request or
  /// after drain(). save_prefixes() throws Error if the file cannot be written. load_prefixes() returns the
  /// tokens it has found and throws InputError, one line, for a file that is damaged or another model's or
  /// machine's; the cache is empty then, and everything else works.
  void save_prefixes(const std::filesystem::path& file) const;
  int64_t load_prefixes(const std::filesystem::path& file);

  struct Stats {
    int64_t running = 0, waiting = 0, free_pages = 0, total_pages = 0, preemptions = 0;
    int64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0, steps = 0;  // since the start
  };
  Stats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace stamp
