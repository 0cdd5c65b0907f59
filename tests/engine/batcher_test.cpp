// Sequences that share forward passes, pages and prefixes: whatever they share, each gets the bits that it
// gets alone.
#include "engine/batcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "kernels/error.h"
#include "tests/engine/scheduled.h"

namespace stamp {
namespace {

using testing::HasSubstr;
using Finish = GenerateEvent::Finish;

/// The "gqa" model as it is and with coded blocks.
class BatcherTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  EngineOptions options(int64_t cache_tokens = 0) const {
    const auto& [ops, recipe] = GetParam();
    return {.model = golden::kTinyModels / "gqa",
            .recipe = recipe == "coded" ? coded_recipe(dir_) : std::string(),
            .threads = 1,
            .context = cache_tokens > 0 ? std::min<int64_t>(cache_tokens, 640) : 640,
            .cache_tokens = cache_tokens,
            .prefill_chunk = 512,
            .ops = ops};
  }
  bool coded() const { return std::get<1>(GetParam()) == "coded"; }

  TempDir dir_;
};

/// Prompts and answers that begin and end on, before and after a block's edge; two score their prompts.
std::vector<ScheduledRequest> mixed_requests(const Engine& engine) {
  std::vector<ScheduledRequest> requests;
  uint32_t seed = 11;
  for (const auto& [prompt, tokens] : std::vector<std::pair<int64_t, int64_t>>{
           {130, 70}, {128, 130}, {65, 66}, {1, 9}, {200, 1}, {64, 3}, {320, 5}, {191, 0}})
    requests.push_back(random_request(engine, prompt, tokens, seed++));
  requests[4].prompt_logprobs = requests[7].prompt_logprobs = true;
  return requests;
}

/// Step sizes, places, and a cache that holds all at once or hardly more than the longest.
TEST_P(BatcherTest, EachOfEightMixedRequestsGetsWhatItGetsAlone) {
  Engine truth_engine(options());
  std::vector<Outcome> truth;
  for (ScheduledRequest& request : mixed_requests(truth_engine))
    truth.push_back(alone(truth_engine, std::move(request)));
  struct Setting {
    int64_t step_tokens, parallel, cache_tokens;
    bool prefix_cache, preempts;
  };
  for (const Setting& setting : {Setting{512, 8, 4096, true, false}, Setting{72, 8, 4096, false, false},
                                 Setting{200, 3, 4096, true, false}, Setting{512, 8, 384, false, true},
                                 Setting{136, 8, 448, true, true}}) {
    SCOPED_TRACE("step " + std::to_string(setting.step_tokens) + ", cache " +
                 std::to_string(setting.cache_tokens));
    Engine engine(options(setting.cache_tokens));
    Batched batch(engine, {.parallel = setting.parallel,
                           .step_tokens = setting.step_tokens,
                           .prefix_cache = setting.prefix_cache});
    for (ScheduledRequest& request : mixed_requests(engine)) batch.add(std::move(request));
    batch.run();
    for (size_t i = 0; i < truth.size(); ++i) {
      SCOPED_TRACE("request " + std::to_string(i));
      expect_same(batch[i], truth[i]);
    }
    const Scheduler::Stats stats = batch.batcher.stats();
    EXPECT_EQ(stats.preemptions > 0, setting.preempts);
    EXPECT_EQ(stats.free_pages, stats.total_pages);
    EXPECT_EQ(stats.prompt_tokens, 320 + 1 + 64 + 130 + 200 + 65 + 128 + 191);
    EXPECT_EQ(stats.generated_tokens, 5 + 9 + 3 + 70 + 1 + 66 + 130);
    EXPECT_EQ(stats.running + stats.waiting, 0);
  }
}

/// A decoding sequence loses its pages at every offset into a block and still says the same.
TEST_P(BatcherTest, WhatWasForgottenIsComputedAgainToTheSameBits) {
  Engine truth_engine(options());
  const Outcome truth = alone(truth_engine, random_request(truth_engine, 100, 120));
  for (const int64_t drawn : {2, 20, 27, 28, 29, 60, 91, 92, 93, 110}) {
    SCOPED_TRACE("after " + std::to_string(drawn));
    // The cache is full when the older sequence needs its sixth page.
    Engine engine(options(64 * (5 + pages_for(100 + drawn))));
    Batched batch(engine, {.step_tokens = 512, .prefix_cache = false});
    batch.add(random_request(engine, 321 - drawn, drawn + 5, 5));
    const size_t victim = batch.add(random_request(engine, 100, 120));
    while (batch.batcher.stats().preemptions == 0 && batch.batcher.open() > 0) batch.batcher.step();
    EXPECT_EQ(int64_t(batch[victim].tokens.size()), drawn);
    batch.run();
    expect_same(batch[victim], truth);
    EXPECT_EQ(batch.batcher.stats().preemptions, 1);
  }
}

/// Where the logits lie, for all that want no more than a draw; on the host for the others.
TEST_P(BatcherTest, TokensDrawnTogetherAreThoseDrawnAlone) {
  Engine engine(options(4096));
  const auto requests = [&] {
    std::vector<ScheduledRequest> all;
    for (const SamplingParams& sampling :
         {SamplingParams{.temperature = 1, .seed = 1},
          SamplingParams{.temperature = 0.7f, .top_k = 20, .seed = 2},
          SamplingParams{.temperature = 2, .top_p = 0.8f, .seed = 3},
          SamplingParams{.temperature = 1, .min_p = 0.2f, .seed = 4}, SamplingParams{},
          SamplingParams{.temperature = 1, .repetition_penalty = 1.3f, .seed = 5},
          SamplingParams{.temperature = 1, .seed = 6}}) {
      all.push_back(random_request(engine, 40 + 9 * int64_t(all.size()), 20));
      all.back().generate.sampling = sampling;
      if (sampling.seed != 6) all.back().top_logprobs = -1;
    }
    all[0].prompt_logprobs = true;
    return all;
  };
  Batched batch(engine, {.parallel = 8});
  for (ScheduledRequest& request : requests()) batch.add(std::move(request));
  batch.run();
  size_t i = 0;
  for (ScheduledRequest& request : requests()) {
    SCOPED_TRACE("request " + std::to_string(i));
    expect_same(batch[i++], alone(engine, std::move(request)));
  }
}

TEST_P(BatcherTest, APrefixHitGivesTheBitsOfAMissAndIsCounted) {
  Engine truth_engine(options()), engine(options(4096));
  Batched batch(engine, {});
  batch.add(random_request(engine, 300, 40, 1));
  batch.run();
  EXPECT_EQ(batch[0].cached_tokens, 0);
  for (const int64_t prompt : {1, 63, 64, 65, 128, 129, 191, 192, 193, 256, 257, 300, 330}) {
    SCOPED_TRACE("prompt " + std::to_string(prompt));
    const auto request = [&](const Engine& e) {
      ScheduledRequest r = random_request(e, prompt, 3, 1);  // the same tokens
      return r;
    };
    const size_t i = batch.add(request(engine));
    batch.run();
    expect_same(batch[i], alone(truth_engine, request(truth_engine)));
    EXPECT_EQ(batch[i].cached_tokens, std::min<int64_t>((prompt - 1) / 64 * 64, 256));
  }
  const Scheduler::Stats stats = batch.batcher.stats();
  EXPECT_EQ(stats.cached_tokens, 64 * (1 + 1 + 2 + 2 + 2 + 3 + 3 + 4 + 4 + 4));
  EXPECT_EQ(stats.free_pages, stats.total_pages);
  EXPECT_LT(engine.cache().free_pages(), stats.total_pages) << "the cache should hold the prefix";
}

/// The next turn of a conversation: the first one's prompt, its answer, more.
TEST_P(BatcherTest, ThePagesOfAnAnswerAreSharedOnlyIfTheyAreThoseOfAPrompt) {
  Engine truth_engine(options()), engine(options(4096));
  Batched batch(engine, {});
  batch.add(random_request(engine, 100, 150, 3));
  batch.run();
  std::vector<int32_t> turn = tokens_for(engine, 100, 3);
  turn.insert(turn.end(), batch[0].tokens.begin(), batch[0].tokens.end());
  const auto request = [&] {
    ScheduledRequest next = random_request(engine, 1, 5, 4);
    next.generate.prompt = turn;
    return next;
  };
  batch.add(request());
  batch.run();
  expect_same(batch[1], alone(truth_engine, request()));
  EXPECT_EQ(batch[1].cached_tokens, coded() ? 64 : 192);
}

TEST_P(BatcherTest, SequencesOfOnePromptComputeItOnce) {
  Engine truth_engine(options()), engine(options(4096));
  Batched batch(engine, {.step_tokens = 128});
  std::vector<Outcome> truth;
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    const auto request = [&] {
      ScheduledRequest r = random_request(engine, 400, 4, 9);
      r.generate.sampling.seed = seed;
      return r;
    };
    truth.push_back(alone(truth_engine, request()));
    batch.add(request());
  }
  batch.run();
  for (size_t i = 0; i < 4; ++i) expect_same(batch[i], truth[i]);
  EXPECT_EQ(engine.cache().max_tokens() / kBlock - engine.cache().free_pages(), 6);
  // Each block was computed by one of them: the first has computed all, or found what others had.
  EXPECT_GE(batch.batcher.stats().cached_tokens, 3 * 384);
}

TEST_P(BatcherTest, SavedPrefixesAreHitsAfterARestartToTheSameBits) {
  const std::filesystem::path file = dir_ / "prefixes";
  const auto request = [](const Engine& e) { return random_request(e, 300, 3, 1); };
  {
    Engine engine(options(4096));
    Batched batch(engine, {});
    batch.add(request(engine));
    batch.add(random_request(engine, 150, 3, 2));
    batch.run();
    batch.batcher.save_prefixes(file);
  }
  Engine truth_engine(options()), engine(options(4096));
  Batched batch(engine, {});
  EXPECT_EQ(batch.batcher.load_prefixes(file), 6);
  batch.add(request(engine));
  batch.run();
  EXPECT_EQ(batch[0].cached_tokens, 256);
  expect_same(batch[0], alone(truth_engine, request(truth_engine)));

  // Half as large a cache takes what fits, the most recent first.
  Engine small(options(192));
  Batched fewer(small, {});
  EXPECT_EQ(fewer.batcher.load_prefixes(file), 3);
  EXPECT_EQ(small.cache().free_pages(), 0);
  fewer.add(random_request(small, 100, 3, 5));
  fewer.run();
  EXPECT_EQ(fewer[0].finish, Finish::kLength);
}

/// All but the plain loops, which would take minutes here and have their determinism tested elsewhere.
std::vector<std::string> fast_ops() {
  std::vector<std::string> names = available_ops();
  std::erase(names, "reference");
  return names;
}

INSTANTIATE_TEST_SUITE_P(FastOps, BatcherTest,
                         testing::Combine(testing::ValuesIn(fast_ops()), testing::Values("f32", "coded")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

// ---- what does not hang on the operations

ScheduledRequest counting(std::string_view prompt, int64_t max_tokens = 128) {
  return {.generate = {.prompt = bytes_of(prompt), .max_tokens = max_tokens}};
}

TEST(Batcher, ALongPromptHoldsUpNeitherDecodesNorAShortPrompt) {
  TinyEngine tiny(counting_model(), {.context = 512, .cache_tokens = 2048});
  Batched batch(tiny, {.step_tokens = 128, .prefix_cache = false});
  const size_t talker = batch.add(counting("0", 100));
  batch.batcher.step();
  ASSERT_EQ(batch[talker].tokens.size(), 1u);
  const size_t lengthy = batch.add(counting(std::string(500, '7'), 1));
  batch.batcher.step();
  const size_t brief = batch.add(counting(std::string(70, '3'), 1));
  // A block of the long prompt, a block and the end of the short one, then again the long one.
  batch.batcher.step();
  batch.batcher.step();
  batch.batcher.step();
  EXPECT_EQ(batch[talker].tokens.size(), 5u) << "one token in each step";
  EXPECT_TRUE(batch[brief].ended);
  EXPECT_FALSE(batch[lengthy].ended);
  batch.run();
  EXPECT_EQ(batch[lengthy].text, "8");
}

TEST(Batcher, OnTheHostTheFirstPromptsAnswerBeforeTheLastAreComputed) {
  TinyEngine tiny(counting_model(), {.context = 512, .cache_tokens = 4096});
  Batched batch(tiny, {.prefix_cache = false});
  for (int i = 0; i < 6; ++i) batch.add(counting(std::string(100, '4'), 2));
  batch.batcher.step();  // kHostStep rows: two prompts, and no block of the third
  EXPECT_EQ(batch[1].tokens.size(), 1u);
  EXPECT_EQ(batch[2].tokens.size(), 0u);
  batch.batcher.step();
  EXPECT_EQ(batch[3].tokens.size(), 1u);
  EXPECT_EQ(batch[4].tokens.size(), 0u);
  batch.run();
  EXPECT_EQ(batch[5].text, "56");
}

TEST(Batcher, PromptsTakeTurns) {
  TinyEngine tiny(counting_model(), {.context = 512, .cache_tokens = 2048});
  Batched batch(tiny, {.parallel = 3, .step_tokens = 70, .prefix_cache = false});
  for (const char* letter : {"a", "b", "c"}) batch.add(counting(std::string(256, *letter), 1));
  for (int step = 0; step < 9; ++step) batch.batcher.step();
  for (size_t i = 0; i < 3; ++i) EXPECT_FALSE(batch[i].ended);
  for (size_t i = 0; i < 3; ++i) {
    batch.batcher.step();
    EXPECT_TRUE(batch[i].ended) << "in the fourth round, each its fourth block";
  }
}

TEST(Batcher, WhoCameFirstIsNotPreempted) {
  TinyEngine tiny(counting_model(), {.context = 256, .cache_tokens = 256});
  Batched batch(tiny, {});
  for (int i = 0; i < 4; ++i) batch.add(counting("0", 200));
  batch.run();
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(batch[i].tokens.size(), 200u);
  // The first needs all four pages in the end; it went on while the others waited.
  EXPECT_GE(batch.batcher.stats().preemptions, 3);
  EXPECT_EQ(batch.batcher.stats().free_pages, 4);
}

TEST(Batcher, RequestsFinishInOrderWhenThePlacesAreFew) {
  TinyEngine tiny(counting_model());
  Batched batch(tiny, {.parallel = 1});
  batch.add(counting("0", 5));
  batch.add(counting("0", 1));
  for (int step = 0; step < 5; ++step) {
    batch.batcher.step();
    EXPECT_TRUE(batch[1].tokens.empty());
    EXPECT_EQ(batch.batcher.stats().waiting, 1);
  }
  EXPECT_TRUE(batch[0].ended);
  batch.run();
  EXPECT_TRUE(batch[1].ended);
}

TEST(Batcher, ADamagedFileOfPrefixesIsRefusedAndNothingOfItUsed) {
  const TempDir dir;
  TinyEngine tiny(random_model(), {.context = 512, .cache_tokens = 1024}), other(random_model(2));
  {
    Batched batch(tiny, {});
    batch.add(random_request(tiny, 200, 1));
    batch.run();
    batch.batcher.save_prefixes(dir / "prefixes");
  }
  const std::string good = slurp(dir / "prefixes");
  const auto refusal = [&](Engine& engine, const std::string& bytes) -> std::string {
    write_file(dir / "damaged", bytes);
    Batcher batcher(engine, {});
    const int64_t free_pages = engine.cache().free_pages();
    try {
      batcher.load_prefixes(dir / "damaged");
    } catch (const InputError& e) {
      EXPECT_EQ(engine.cache().free_pages(), free_pages);
      return e.what();
    }
    return "was accepted";
  };
  EXPECT_EQ(refusal(tiny, good), "was accepted");
  EXPECT_THAT(refusal(other, good), HasSubstr("damaged: is a prefix cache of another model"));
  for (size_t at = 0; at < good.size(); at += 1 + at / 8) {
    SCOPED_TRACE("byte " + std::to_string(at));
    std::string bytes = good;
    bytes[at] = char(bytes[at] ^ 4);
    EXPECT_THAT(refusal(tiny, bytes), HasSubstr("prefix cache"));
    EXPECT_THAT(refusal(tiny, good.substr(0, at)), HasSubstr("prefix cache"));
  }
  EXPECT_THAT(refusal(tiny, good + "x"), HasSubstr("damaged"));
  Batcher batcher(tiny, {});
  EXPECT_THROW(batcher.load_prefixes(dir / "missing"), InputError);
  EXPECT_THROW(batcher.save_prefixes(dir / "missing" / "prefixes"), Error);
}

/// Allows the letters of a word in their order, then the end.
class Word : public TokenConstraint {
 public:
  explicit Word(std::string word) : word_(std::move(word)) {}
  void mask(std::span<float> logits) override {
    const size_t allowed = at_ < word_.size() ? size_t(word_[at_]) : size_t(TinyModel::kEos);
    for (size_t id = 0; id < logits.size(); ++id)
      if (id != allowed) logits[id] = -std::numeric_limits<float>::infinity();
    if (at_ < word_.size() && word_[at_] == '!')
      std::ranges::fill(logits, -std::numeric_limits<float>::infinity());
  }
  void advance(int32_t token) override {
    EXPECT_EQ(token, word_.at(at_));
    ++at_;
  }
  std::unique_ptr<TokenConstraint> clone() const override { return std::make_unique<Word>(*this); }

 private:
  std::string word_;
  size_t at_ = 0;
};

TEST(Batcher, AConstraintDecidesWhatMayFollow) {
  TinyEngine tiny(counting_model());
  Batched batch(tiny, {});
  for (const float temperature : {0.0f, 1.0f}) {
    ScheduledRequest request = counting("a");
    request.generate.sampling = {.temperature = temperature, .min_p = temperature * 0.5f, .seed = 3};
    request.generate.ignore_eos = true;  // the constraint's end is one all the same
    request.constraint = std::make_unique<Word>("word");
    batch.add(std::move(request));
  }
  batch.add(counting("a"));
  batch.run();
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(batch[i].text, "word");
    EXPECT_EQ(batch[i].finish, Finish::kStop);
  }
  EXPECT_EQ(batch[2].text, "bcdefghijklmnopqrstuvwxyz");
}

TEST(Batcher, ADeadEndFailsOneRequestAlone) {
  TinyEngine tiny(counting_model());
  Batched batch(tiny, {});
  ScheduledRequest request = counting("a");
  request.constraint = std::make_unique<Word>("ab!");
  batch.add(std::move(request));
  batch.add(counting("a"));
  batch.run();
  EXPECT_EQ(batch[0].finish, Finish::kFailed);
  EXPECT_THAT(batch[0].error, HasSubstr("dead end"));
  EXPECT_EQ(batch[0].text, "ab");
  EXPECT_EQ(batch[1].finish, Finish::kStop);
  EXPECT_EQ(batch.batcher.stats().free_pages, batch.batcher.stats().total_pages);
}

}  // namespace
}  // namespace stamp
