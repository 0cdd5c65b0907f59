#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <vector>

#include "engine/batcher.h"
#include "engine/scheduler.h"
#include "engine/session.h"
#include "tests/engine/tiny_engine.h"
#include "tests/golden/golden.h"

namespace stamp {

/// All that a request produced. Comparing two compares every bit of every log probability.
struct Outcome {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<TokenLogprob> logprobs, prompt_logprobs;
  GenerateEvent::Finish finish = GenerateEvent::Finish::kFailed;
  std::string error;
  int64_t cached_tokens = 0;
  bool ended = false;

  void add(GenerateEvent event) {
    EXPECT_FALSE(ended) << "an event after the last";
    text += event.text;
    tokens.insert(tokens.end(), event.tokens.begin(), event.tokens.end());
    logprobs.insert(logprobs.end(), event.logprobs.begin(), event.logprobs.end());
    EXPECT_TRUE(event.prompt_logprobs.empty() || prompt_logprobs.empty());
    prompt_logprobs.insert(prompt_logprobs.end(), event.prompt_logprobs.begin(), event.prompt_logprobs.end());
    cached_tokens += event.cached_tokens;
    if (!event.finish) return;
    finish = *event.finish;
    error = event.error;
    ended = true;
  }
};

inline void expect_same(const std::vector<TokenLogprob>& values, const std::vector<TokenLogprob>& truth) {
  ASSERT_EQ(values.size(), truth.size());
  for (size_t i = 0; i < truth.size(); ++i) {
    ASSERT_EQ(values[i].token, truth[i].token) << i;
    ASSERT_EQ(values[i].logprob, truth[i].logprob) << i;
    ASSERT_EQ(values[i].top, truth[i].top) << i;
  }
}

inline void expect_same(const Outcome& value, const Outcome& truth) {
  ASSERT_TRUE(value.ended);
  EXPECT_EQ(value.error, truth.error);
  EXPECT_EQ(value.finish, truth.finish);
  EXPECT_EQ(value.tokens, truth.tokens);
  EXPECT_EQ(value.text, truth.text);
  expect_same(value.logprobs, truth.logprobs);
  expect_same(value.prompt_logprobs, truth.prompt_logprobs);
}

/// What a request produces on a session of its own: one sequence, its prompt at once, then token by token.
inline Outcome alone(Engine& engine, ScheduledRequest request) {
  Session session(engine);
  Outcome out;
  const std::vector<int32_t> prompt = request.generate.prompt;
  const int top = request.top_logprobs;
  Continuation text(engine, std::move(request.generate), std::move(request.constraint));
  std::vector<float> logits;
  session.advance_all(prompt, 0, engine.llama().max_rows(), [&](int64_t index, Logits& rows) {
    for (int64_t r = 0; r < rows.rows(); ++r) {
      const size_t next = size_t(index + r + 1);
      const std::span<float> row = rows.host(r);
      if (next == prompt.size()) logits.assign(row.begin(), row.end());
      else if (request.prompt_logprobs)
        out.prompt_logprobs.push_back(token_logprob(engine.ops(), row, prompt[next], std::max(0, top)));
    }
  });
  while (!text.finish()) {
    std::vector<float> raw = logits;
    out.text += text.draw(logits);
    const int32_t token = text.tokens().back();
    if (top >= 0) out.logprobs.push_back(token_logprob(engine.ops(), raw, token, top));
    if (text.finish()) break;
    const std::span<float> next = session.advance({&token, 1})->host(0);
    logits.assign(next.begin(), next.end());
  }
  out.tokens.assign(text.generated().begin(), text.generated().end());
  out.finish = *text.finish() == Continuation::Finish::kStop ? GenerateEvent::Finish::kStop
                                                             : GenerateEvent::Finish::kLength;
  out.ended = true;
  return out;
}

/// A random text of `tokens` tokens after `prompt` random ones, with the log probabilities of the whole
/// vocabulary, so that two alike had the same logits.
inline ScheduledRequest random_request(const Engine& engine, int64_t prompt, int64_t tokens,
                                       uint32_t seed = 1) {
  return {.generate = {.prompt = tokens_for(engine, prompt, seed),
                       .max_tokens = tokens,
                       .sampling = {.temperature = 1.0f, .seed = seed},
                       .ignore_eos = true},
          .top_logprobs = int(engine.config().vocab_size)};
}

/// A batcher whose requests' outcomes are kept by the order of adding.
struct Batched {
  Batched(Engine& engine, const SchedulerOptions& options) : engine(engine), batcher(engine, options) {}

  size_t add(ScheduledRequest request) {
    const size_t index = outcomes.size();
    outcomes.push_back(std::make_unique<Outcome>());
    auto sequence = std::make_unique<Batcher::Sequence>(
        engine, std::move(request),
        [out = outcomes.back().get()](GenerateEvent event) { out->add(std::move(event)); });
    sequence->id = index + 1;
    batcher.add(std::move(sequence));
    return index;
  }
  void run() {
    for (int64_t steps = 0; batcher.open() > 0; ++steps) {
      ASSERT_LT(steps, 100000) << "no end";
      batcher.step();
    }
  }
  const Outcome& operator[](size_t i) const { return *outcomes[i]; }

  Engine& engine;
  Batcher batcher;
  std::vector<std::unique_ptr<Outcome>> outcomes;
};

}  // namespace stamp
