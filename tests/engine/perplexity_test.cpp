#include "engine/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/error.h"
#include "models/sha256.h"
#include "tests/engine/tiny_engine.h"

namespace stamp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& e) {
    return e.what();
  }
  return "was accepted";
}

constexpr Protocol kProtocols[] = {Protocol::kGptq, Protocol::kStrided, Protocol::kLlamaCpp,
                                   Protocol::kDocument};

// ---- windows

std::vector<Window> plan(Protocol protocol, int64_t context, int64_t tokens, int64_t stride = 0,
                         int64_t chunks = -1) {
  return plan_windows({.protocol = protocol, .context = context, .stride = stride, .max_chunks = chunks},
                      tokens);
}

TEST(PlanWindows, GptqWindowsLieSideBySide) {
  EXPECT_THAT(plan(Protocol::kGptq, 4, 8), ElementsAre(Window{0, 4, 1}, Window{4, 4, 1}));
  EXPECT_THAT(plan(Protocol::kGptq, 4, 11),
              ElementsAre(Window{0, 4, 1}, Window{4, 4, 1}));  // a partial one is dropped
  EXPECT_THAT(plan(Protocol::kGptq, 2, 3), ElementsAre(Window{0, 2, 1}));
  EXPECT_THAT(refusal([] { plan(Protocol::kGptq, 4, 3); }), HasSubstr("the text has 3 tokens, too few"));
}

TEST(PlanWindows, LlamaCppScoresTheSecondHalf) {
  EXPECT_THAT(plan(Protocol::kLlamaCpp, 4, 9), ElementsAre(Window{0, 4, 3}, Window{4, 4, 3}));
  EXPECT_THAT(plan(Protocol::kLlamaCpp, 5, 5), ElementsAre(Window{0, 5, 3}));
  EXPECT_THAT(plan(Protocol::kLlamaCpp, 3, 3), ElementsAre(Window{0, 3, 2}));
  EXPECT_THAT(refusal([] { plan(Protocol::kLlamaCpp, 2, 9); }), HasSubstr("context 2: must be at least 3"));
  EXPECT_THAT(refusal([] { plan(Protocol::kLlamaCpp, 4, 3); }), HasSubstr("too few"));
}

TEST(PlanWindows, StridedWindowsScoreWhatIsNew) {
  EXPECT_THAT(plan(Protocol::kStrided, 4, 9, 2),
              ElementsAre(Window{0, 4, 1}, Window{2, 4, 2}, Window{4, 4, 2}, Window{6, 3, 2}));
  EXPECT_EQ(plan(Protocol::kStrided, 4, 9),
            plan(Protocol::kStrided, 4, 9, 2));  // half the context by default
  EXPECT_THAT(plan(Protocol::kStrided, 4, 6, 1),
              ElementsAre(Window{0, 4, 1}, Window{1, 4, 3}, Window{2, 4, 3}));
  EXPECT_THAT(plan(Protocol::kStrided, 4, 3), ElementsAre(Window{0, 3, 1}));  // shorter than one window
  EXPECT_THAT(plan(Protocol::kStrided, 4, 4), ElementsAre(Window{0, 4, 1}));
  // A stride of the whole context: a window's first token is predicted from nothing and not scored.
  EXPECT_THAT(plan(Protocol::kStrided, 4, 10, 4),
              ElementsAre(Window{0, 4, 1}, Window{4, 4, 1}, Window{8, 2, 1}));
  EXPECT_THAT(plan(Protocol::kStrided, 4, 9, 4), ElementsAre(Window{0, 4, 1}, Window{4, 4, 1}));
  EXPECT_THAT(refusal([] { plan(Protocol::kStrided, 4, 1); }), HasSubstr("the text has 1 tokens"));
  EXPECT_THAT(refusal([] { plan(Protocol::kStrided, 4, 9, 5); }), HasSubstr("stride 5"));
  EXPECT_THAT(refusal([] { plan(Protocol::kStrided, 4, 9, -1); }), HasSubstr("stride -1"));
}

TEST(PlanWindows, DocumentWindowsOverlapByOneToken) {
  EXPECT_THAT(plan(Protocol::kDocument, 4, 9),
              ElementsAre(Window{0, 4, 1}, Window{3, 4, 1}, Window{6, 3, 1}));
  EXPECT_THAT(plan(Protocol::kDocument, 4, 7), ElementsAre(Window{0, 4, 1}, Window{3, 4, 1}));
  EXPECT_THAT(plan(Protocol::kDocument, 4, 8),
              ElementsAre(Window{0, 4, 1}, Window{3, 4, 1}, Window{6, 2, 1}));
  EXPECT_THAT(plan(Protocol::kDocument, 9, 2), ElementsAre(Window{0, 2, 1}));
  EXPECT_THAT(plan(Protocol::kDocument, 2, 4),
              ElementsAre(Window{0, 2, 1}, Window{1, 2, 1}, Window{2, 2, 1}));
  EXPECT_THAT(refusal([] { plan(Protocol::kDocument, 4, 1); }), HasSubstr("too few"));
}

TEST(PlanWindows, StayInTheTextAndScoreNoTokenTwice) {
  std::mt19937 rng(1);
  for (int round = 0; round < 2000; ++round) {
    const int64_t context = 3 + int64_t(rng() % 12), tokens = context + int64_t(rng() % 60);
    const int64_t stride = 1 + int64_t(rng() % uint64_t(context));
    for (const Protocol protocol : kProtocols) {
      SCOPED_TRACE(std::string(protocol_name(protocol)) + " " + std::to_string(context) + " " +
                   std::to_string(stride) + " " + std::to_string(tokens));
      std::vector<int> scored(size_t(tokens), 0);
      for (const Window& w : plan(protocol, context, tokens, protocol == Protocol::kStrided ? stride : 0)) {
        ASSERT_GE(w.begin, 0);
        ASSERT_LE(w.begin + w.length, tokens);
        ASSERT_LE(w.length, context);
        ASSERT_GE(w.first_scored, 1);
        ASSERT_LT(w.first_scored, w.length);
        for (int64_t i = w.first_scored; i < w.length; ++i) ++scored[size_t(w.begin + i)];
      }
      EXPECT_EQ(scored[0], 0);
      for (int64_t i = 1; i < tokens; ++i) {
        ASSERT_LE(scored[size_t(i)], 1);
        const bool all =
            protocol == Protocol::kDocument || (protocol == Protocol::kStrided && stride < context);
        if (all) {
          ASSERT_EQ(scored[size_t(i)], 1) << i;
        }
      }
    }
  }
}

TEST(PlanWindows, ChunksLimitThem) {
  EXPECT_EQ(plan(Protocol::kGptq, 4, 40, 0, 3).size(), 3u);
  EXPECT_EQ(plan(Protocol::kGptq, 4, 40, 0, 100).size(), 10u);
  EXPECT_EQ(plan(Protocol::kGptq, 4, 40, 0, 0).size(), 0u);
  for (const Protocol protocol : kProtocols)
    EXPECT_THAT(refusal([&] { plan(protocol, 1, 40); }), HasSubstr("context 1: must be at least"));
}

TEST(PlanWindows, ProtocolsHaveNames) {
  for (const Protocol protocol : kProtocols) EXPECT_EQ(parse_protocol(protocol_name(protocol)), protocol);
  EXPECT_THAT(refusal([] { parse_protocol("gguf"); }),
              HasSubstr("protocol gguf: unknown; choose gptq, strided"));
}

// ---- scores

std::string sample_text() {
  std::string text = "One text of many letters; caf\u00e9, \u65e5\u672c. ";
  for (int i = 0; i < 20; ++i) text += "Line " + std::to_string(i * i) + " of it\n";
  return text;
}

/// -log p of every scored token by the definition: its window fed token by token, the softmax in double.
std::vector<std::vector<double>> definition(Engine& engine, const std::vector<int32_t>& tokens,
                                            const PerplexityOptions& options, bool bos_first) {
  std::vector<std::vector<double>> all;
  for (const Window& w : plan_windows(options, int64_t(tokens.size()))) {
    std::vector<int32_t> window(tokens.begin() + w.begin, tokens.begin() + w.begin + w.length);
    if (bos_first) window[0] = TinyModel::kBos;
    Session session(engine);
    std::vector<double>& nll = all.emplace_back();
    for (size_t i = 0; i + 1 < window.size(); ++i) {
      const std::span<const float> logits = session.advance({&window[i], 1})->host(0);
      if (int64_t(i + 1) < w.first_scored) continue;
      double total = 0;
      for (const float x : logits) total += std::exp(double(x));
      nll.push_back(std::log(total) - double(logits[size_t(window[i + 1])]));
    }
  }
  return all;
}

TEST(Perplexity, EqualsTheDefinitionForEveryProtocol) {
  TinyEngine tiny(random_model());
  const std::string text = sample_text();
  for (const Protocol protocol : kProtocols) {
    for (const int64_t context : {32, 150, 300}) {
      SCOPED_TRACE(std::string(protocol_name(protocol)) + " " + std::to_string(context));
      const PerplexityOptions options{.protocol = protocol, .context = context};
      const bool specials = protocol == Protocol::kLlamaCpp || protocol == Protocol::kDocument;
      std::vector<int32_t> tokens = bytes_of(text);
      if (specials) tokens.insert(tokens.begin(), TinyModel::kBos);
      const auto truth = definition(tiny, tokens, options, protocol == Protocol::kLlamaCpp);
      const PerplexityResult result = perplexity(tiny, text, options, {});

      double sum = 0, squares = 0;
      int64_t scored = 0;
      ASSERT_EQ(result.chunks.size(), truth.size());
      for (size_t i = 0; i < truth.size(); ++i) {
        double window = 0;
        for (const double nll : truth[i]) window += nll, squares += nll * nll;
        EXPECT_EQ(result.chunks[i].tokens, int64_t(truth[i].size()));
        EXPECT_NEAR(result.chunks[i].nll, window, 1e-5 * window);
        sum += window;
        scored += int64_t(truth[i].size());
      }
      const double n = double(scored), mean = sum / n;
      EXPECT_EQ(result.tokens_scored, scored);
      EXPECT_NEAR(result.nll, mean, 1e-5 * mean);
      EXPECT_DOUBLE_EQ(result.ppl, std::exp(result.nll));
      const double stderr_of_mean = std::sqrt((squares / n - mean * mean) / (n - 1));
      EXPECT_NEAR(result.ppl_stderr, result.ppl * stderr_of_mean, 1e-4 * result.ppl_stderr);
      EXPECT_NEAR(result.bits_per_byte, mean / std::log(2.0), 1e-4) << "a token is a byte";
      EXPECT_EQ(result.bos, specials);
      EXPECT_EQ(result.text_sha256, sha256_hex(text));
      EXPECT_EQ(result.tokenizer_sha256, sha256_file(tiny.directory / "tokenizer.json"));
    }
  }
}

TEST(Perplexity, AModelThatKnowsTheTextHasPerplexityOne) {
  TinyEngine tiny(counting_model());
  const PerplexityResult result = perplexity(tiny, "abcdefghijklmnopqrstuvwxyz", {.context = 26}, {});
  EXPECT_EQ(result.tokens_scored, 25);
  EXPECT_NEAR(result.ppl, 1.0, 1e-6);
  EXPECT_NEAR(result.ppl_stderr, 0.0, 1e-6);
}

TEST(Perplexity, ProgressComesAfterEachWindow) {
  TinyEngine tiny(random_model());
  std::vector<int64_t> calls;
  const PerplexityResult result =
      perplexity(tiny, sample_text(), {.context = 64, .max_chunks = 3},
                 [&](int64_t done, int64_t total, const PerplexityResult& so_far) {
                   EXPECT_EQ(total, 3);
                   EXPECT_EQ(so_far.tokens_scored, done * 63);
                   calls.push_back(done);
                 });
  EXPECT_THAT(calls, ElementsAre(1, 2, 3));
  EXPECT_EQ(result.tokens_evaluated, 192);
}

TEST(Perplexity, ATextTooShortIsRefused) {
  TinyEngine tiny(random_model());
  EXPECT_THAT(refusal([&] { perplexity(tiny, "", {}, {}); }), HasSubstr("the text has 0 tokens"));
  EXPECT_THAT(refusal([&] { perplexity(tiny, "abc", {.context = 4}, {}); }),
              HasSubstr("the text has 3 tokens"));
}

// ---- resuming

bool same_bits(const PerplexityResult& a, const PerplexityResult& b) {
  if (a.chunks.size() != b.chunks.size() || a.nll != b.nll || a.ppl != b.ppl ||
      a.ppl_stderr != b.ppl_stderr || a.bits_per_byte != b.bits_per_byte ||
      a.tokens_scored != b.tokens_scored)
    return false;
  for (size_t i = 0; i < a.chunks.size(); ++i)
    if (a.chunks[i].nll != b.chunks[i].nll || a.chunks[i].nll_square != b.chunks[i].nll_square ||
        a.chunks[i].tokens != b.chunks[i].tokens)
      return false;
  return true;
}

struct Interrupt {};

class Resume : public testing::Test {
 protected:
  PerplexityOptions options(Protocol protocol = Protocol::kGptq) const {
    return {.protocol = protocol, .context = 48, .resume = state_};
  }
  /// Windows 0 to 2, as an interrupted run leaves them.
  void interrupt(const PerplexityOptions& options) {
    EXPECT_THROW(perplexity(tiny_, text_, options,
                            [](int64_t done, int64_t, const PerplexityResult&) {
                              if (done == 3) throw Interrupt();
                            }),
                 Interrupt);
  }
  std::string refusal_of(const PerplexityOptions& options) {
    return refusal([&] { perplexity(tiny_, text_, options, {}); });
  }

  TinyEngine tiny_{random_model()};
  const std::string text_ = sample_text();
  const TempDir dir_;
  const std::filesystem::path state_ = dir_ / "state.json";
};

TEST_F(Resume, EqualsTheUninterruptedRunBitForBit) {
  for (const Protocol protocol : kProtocols) {
    std::filesystem::remove(state_);
    PerplexityOptions plain = options(protocol);
    plain.resume.clear();
    const PerplexityResult truth = perplexity(tiny_, text_, plain, {});
    interrupt(options(protocol));
    const PerplexityResult resumed = perplexity(tiny_, text_, options(protocol), {});
    EXPECT_TRUE(same_bits(resumed, truth)) << protocol_name(protocol);
    EXPECT_LT(resumed.tokens_evaluated, truth.tokens_evaluated);
    const PerplexityResult done = perplexity(tiny_, text_, options(protocol), {});
    EXPECT_TRUE(same_bits(done, truth));
    EXPECT_EQ(done.tokens_evaluated, 0);
  }
}

TEST_F(Resume, MoreOrFewerWindowsMayBeAskedForLater) {
  PerplexityOptions two = options(), five = options();
  two.max_chunks = 2;
  five.max_chunks = 5;
  perplexity(tiny_, text_, two, {});
  const PerplexityResult extended = perplexity(tiny_, text_, five, {});
  EXPECT_EQ(extended.tokens_evaluated, 3 * 48);
  EXPECT_EQ(perplexity(tiny_, text_, two, {}).chunks.size(), 2u);
  std::filesystem::remove(state_);
  EXPECT_TRUE(same_bits(perplexity(tiny_, text_, five, {}), extended));
}

TEST_F(Resume, TheStateOfAnotherRunIsRefused) {
  interrupt(options());
  const std::string belongs = state_.string() + ": belongs to another run";
  EXPECT_THAT(refusal_of(options(Protocol::kDocument)), HasSubstr(belongs));
  PerplexityOptions longer = options();
  longer.context = 49;
  EXPECT_THAT(refusal_of(longer), HasSubstr(belongs));
  EXPECT_THAT(refusal([&] { perplexity(tiny_, text_ + "!", options(), {}); }), HasSubstr(belongs));
  TinyEngine finetuned(random_model(2));  // the same configuration and sizes
  EXPECT_THAT(refusal([&] { perplexity(finetuned, text_, options(), {}); }), HasSubstr(belongs));
  TinyEngine other_order(random_model(), {.ops = "reference"});
  if (other_order->ops().name() != tiny_->ops().name()) {
    EXPECT_THAT(refusal([&] { perplexity(other_order, text_, options(), {}); }), HasSubstr(belongs));
  }
  TinyEngine same(random_model());  // elsewhere on the disk
  EXPECT_NO_THROW(perplexity(same, text_, options(), {}));
}

TEST_F(Resume, ADamagedStateIsRefused) {
  interrupt(options());
  const std::string good = slurp(state_);
  const auto changed = [&](const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json state = nlohmann::json::parse(good);
    change(state);
    write_file(state_, state.dump());
    return refusal_of(options());
  };
  const std::string no_state = state_.string() + ": not a state file";
  EXPECT_THAT(changed([](auto& s) { s = nlohmann::json::array(); }), HasSubstr(no_state));
  EXPECT_THAT(changed([](auto& s) { s = 3; }), HasSubstr(no_state));
  EXPECT_THAT(changed([](auto& s) { s.erase("run"); }), HasSubstr(no_state));
  EXPECT_THAT(changed([](auto& s) { s.erase("chunks"); }), HasSubstr(no_state));
  EXPECT_THAT(changed([](auto& s) { s["chunks"] = 5; }), HasSubstr(no_state));
  EXPECT_THAT(changed([](auto& s) { s["chunks"][1].erase("nll"); }), HasSubstr(no_state));
  EXPECT_THAT(changed([](auto& s) { s["chunks"][1]["nll"] = "1"; }), HasSubstr(no_state));
  EXPECT_THAT(changed([](auto& s) { s["chunks"][1]["nll"] = nullptr; }), HasSubstr(no_state));
  EXPECT_THAT(changed([](auto& s) { s["chunks"][1]["tokens"] = 46; }), HasSubstr("not those of this run"));
  EXPECT_THAT(changed([](auto& s) { s["chunks"][1]["tokens"] = -47; }), HasSubstr("not those of this run"));
  write_file(state_, good.substr(0, good.size() / 2));
  EXPECT_THAT(refusal_of(options()), HasSubstr(state_.string() + ": not valid JSON"));
  write_file(state_, "");
  EXPECT_THAT(refusal_of(options()), HasSubstr(state_.string() + ": not valid JSON"));
  write_file(state_, good);
  EXPECT_EQ(refusal_of(options()), "was accepted");
}

TEST_F(Resume, AStateThatCannotBeWrittenIsAnError) {
  PerplexityOptions elsewhere = options();
  elsewhere.resume = dir_ / "absent/state.json";
  try {
    perplexity(tiny_, text_, elsewhere, {});
    FAIL() << "wrote nowhere";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("absent/state.json: cannot write the resume state"));
  }
}

TEST_F(Resume, LeavesNoOtherFileBehind) {
  interrupt(options());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_.path()), {}), 1);
}

}  // namespace
}  // namespace stamp
