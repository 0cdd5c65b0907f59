#include "engine/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/engine/tiny_engine.h"

namespace stamp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Finish = GenerateResult::Finish;

constexpr const char* kAfterA = "bcdefghijklmnopqrstuvwxyz";

GenerateRequest with_stops(std::string_view prompt, std::vector<std::string> stops) {
  GenerateRequest request;
  request.prompt = bytes_of(prompt);
  request.stops = std::move(stops);
  return request;
}

/// The counting model behind one session.
struct Counting {
  explicit Counting(EngineOptions options = {}, const std::map<int, int>& next = {})
      : tiny(counting_model(next), options), session(tiny) {}
  GenerateResult run(const GenerateRequest& request) {
    pieces.clear();
    return generate(session, request,
                    {.text = [this](std::string_view piece) { pieces.emplace_back(piece); }});
  }
  std::string streamed() const {
    std::string text;
    for (const std::string& piece : pieces) text += piece;
    return text;
  }
  TinyEngine tiny;
  Session session;
  std::vector<std::string> pieces;
};

TEST(Generate, EndsAtTheEndOfTheSequence) {
  Counting model;
  const GenerateResult result = model.run({.prompt = bytes_of("a")});
  EXPECT_EQ(result.text, kAfterA);
  EXPECT_EQ(result.finish, Finish::kStop);
  EXPECT_EQ(result.tokens.size(), 26u);
  EXPECT_EQ(result.tokens.back(), TinyModel::kEos);
  EXPECT_EQ(result.prompt_tokens, 1);
  EXPECT_EQ(result.reused_tokens, 0);
  EXPECT_EQ(model.pieces.size(), 25u);  // each character as soon as it is there
  EXPECT_EQ(model.streamed(), result.text);
}

TEST(Generate, AnyOfSeveralEndsCounts) {
  TinyModel model = counting_model();
  model.generation_config = {{"eos_token_id", {TinyModel::kEos, 'm'}}};
  TinyEngine tiny(model);
  Session session(tiny);
  const GenerateResult result = generate(session, {.prompt = bytes_of("a")}, {});
  EXPECT_EQ(result.text, "bcdefghijkl");
  EXPECT_EQ(result.finish, Finish::kStop);
}

TEST(Generate, GoesOnPastTheEndIfAsked) {
  Counting model;
  const GenerateResult result = model.run({.prompt = bytes_of("y"), .max_tokens = 5, .ignore_eos = true});
  EXPECT_EQ(result.text, "zabc");  // the end itself has no text
  EXPECT_THAT(result.tokens, ElementsAre('z', TinyModel::kEos, 'a', 'b', 'c'));
  EXPECT_EQ(result.finish, Finish::kLength);
}

TEST(Generate, EndsAfterTheAskedNumberOfTokens) {
  Counting model;
  for (const size_t n : {1, 3, 10}) {
    const GenerateResult result = model.run({.prompt = bytes_of("a"), .max_tokens = int64_t(n)});
    EXPECT_EQ(result.text, std::string(kAfterA).substr(0, n));
    EXPECT_EQ(result.finish, Finish::kLength);
    EXPECT_EQ(result.tokens.size(), n);
  }
  const GenerateResult none = model.run({.prompt = bytes_of("a"), .max_tokens = 0});
  EXPECT_EQ(none.text, "");
  EXPECT_TRUE(none.tokens.empty());
  EXPECT_EQ(none.finish, Finish::kLength);
}

TEST(Generate, StopsBeforeAStopStringThatSpansTokens) {
  Counting model;
  const GenerateResult result = model.run(with_stops("a", {"nothing", "mno", "fgx"}));
  EXPECT_EQ(result.text, "bcdefghijkl");
  EXPECT_EQ(result.finish, Finish::kStop);
  EXPECT_EQ(result.tokens.back(), 'o');
  EXPECT_EQ(model.streamed(), result.text);
}

TEST(Generate, TextHeldBackForAStopStringComesAtTheEnd) {
  Counting model;
  GenerateResult result = model.run(with_stops("a", {"yz!"}));
  EXPECT_EQ(result.text, kAfterA);
  EXPECT_EQ(model.streamed(), kAfterA);
  GenerateRequest request = with_stops("a", {"dx"});
  request.max_tokens = 3;
  result = model.run(request);
  EXPECT_EQ(result.text, "bcd");
  EXPECT_EQ(model.pieces, (std::vector<std::string>{"b", "c", "d"}));
}

TEST(Generate, StreamsWholeCharactersOnly) {
  // A, é in two bytes, 日 in three, an emoji in four, then 'z'
  const std::map<int, int> next{{'A', 0xc3},  {0xc3, 0xa9}, {0xa9, 0xe6}, {0xe6, 0x97}, {0x97, 0xa5},
                                {0xa5, 0xf0}, {0xf0, 0x9f}, {0x9f, 0x98}, {0x98, 0x80}, {0x80, 'z'}};
  Counting model({}, next);
  const GenerateResult result = model.run({.prompt = bytes_of("A")});
  EXPECT_EQ(result.text, "é日😀z");
  EXPECT_THAT(model.pieces, ElementsAre("é", "日", "😀", "z"));
  // Cut off in the middle of a character: what is there becomes U+FFFD, as in decoding all ids.
  EXPECT_EQ(model.run({.prompt = bytes_of("A"), .max_tokens = 3}).text, "é\ufffd");
  EXPECT_EQ(model.streamed(), "é\ufffd");
}

TEST(Generate, EndsWhenTheContextIsFull) {
  Counting model({.context = 100});
  const GenerateResult result = model.run({.prompt = bytes_of("say 0"), .max_tokens = 1000});
  EXPECT_EQ(result.finish, Finish::kLength);
  EXPECT_EQ(result.tokens.size(), 96u);  // the last one need not fit
  EXPECT_EQ(result.text.substr(0, 12), "123456789012");
  EXPECT_EQ(model.session.tokens().size(), 100u);
  // A prompt that fills the context has one successor; a longer one is refused.
  EXPECT_EQ(model.run({.prompt = bytes_of(std::string(100, '5')), .max_tokens = 9}).text, "6");
  EXPECT_THROW(model.run({.prompt = bytes_of(std::string(101, '5'))}), InputError);
}

TEST(Generate, CancelEndsItWithWhatIsThere) {
  Counting model;
  std::atomic<bool> cancel{false};
  std::string streamed;
  const GenerateRequest request{.prompt = bytes_of("0"), .max_tokens = 400};
  GenerateResult result = generate(model.session, request,
                                   {.text =
                                        [&](std::string_view piece) {
                                          streamed += piece;
                                          cancel = streamed.size() >= 5;
                                        },
                                    .cancel = &cancel});
  EXPECT_EQ(result.finish, Finish::kCancelled);
  EXPECT_EQ(result.text, "12345");
  EXPECT_EQ(streamed, result.text);

  result = generate(model.session, request, {.cancel = &cancel});  // from the start
  EXPECT_EQ(result.finish, Finish::kCancelled);
  EXPECT_TRUE(result.tokens.empty());
  EXPECT_EQ(model.run({.prompt = bytes_of("0"), .max_tokens = 3}).text, "123");  // and the session lives on
}

TEST(Generate, CancelAlsoEndsAPrefill) {
  TinyEngine tiny(counting_model(), {.prefill_chunk = 64});
  Session session(tiny);
  std::atomic<bool> cancel{false};
  std::vector<int64_t> calls;
  const GenerateResult result = generate(session, {.prompt = bytes_of(std::string(300, 'a'))},
                                         {.prefill =
                                              [&](int64_t done, int64_t total) {
                                                EXPECT_EQ(total, 300);
                                                calls.push_back(done);
                                                cancel = calls.size() == 2;
                                              },
                                          .cancel = &cancel});
  EXPECT_EQ(result.finish, Finish::kCancelled);
  EXPECT_EQ(result.text, "");
  EXPECT_THAT(calls, ElementsAre(64, 128));
}

TEST(Generate, ReusesWhatTheSessionHolds) {
  Counting model;
  const GenerateResult first = model.run({.prompt = bytes_of("Count from a"), .max_tokens = 4});
  const GenerateResult again = model.run({.prompt = bytes_of("Count from a"), .max_tokens = 4});
  EXPECT_EQ(again.reused_tokens, 11);  // all but the last
  EXPECT_EQ(again.tokens, first.tokens);
  // The next turn begins with the last one and its answer, of which the last token was never fed back.
  const GenerateResult turn =
      model.run({.prompt = bytes_of("Count from abcde, then from p"), .max_tokens = 4});
  EXPECT_EQ(turn.reused_tokens, 15);
  EXPECT_EQ(turn.text, "qrst");
  EXPECT_EQ(model.run({.prompt = bytes_of("Other"), .max_tokens = 4}).reused_tokens, 0);
}

TEST(Generate, ReuseDoesNotChangeTheText) {
  TinyEngine tiny(random_model());
  Session session(tiny), fresh(tiny);
  const GenerateRequest warm{.prompt = bytes_of("A first text that shares some of its beginning"),
                             .ignore_eos = true};
  const GenerateRequest request{.prompt = bytes_of("A first text that is another after all"),
                                .ignore_eos = true};
  generate(session, warm, {});
  const GenerateResult reused = generate(session, request, {}), truth = generate(fresh, request, {});
  EXPECT_GT(reused.reused_tokens, 10);
  EXPECT_EQ(reused.tokens, truth.tokens);
}

TEST(Generate, TheSeedDecidesTheText) {
  TinyEngine tiny(random_model());
  const auto text = [&](uint64_t seed, int64_t n) {
    Session session(tiny);
    const GenerateRequest request{.prompt = bytes_of("x"),
                                  .max_tokens = n,
                                  .sampling = {.temperature = 1.0f, .seed = seed},
                                  .ignore_eos = true};
    return generate(session, request, {}).tokens;
  };
  const std::vector<int32_t> truth = text(1, 60);
  EXPECT_EQ(text(1, 60), truth);
  EXPECT_NE(text(2, 60), truth);
  const std::vector<int32_t> shorter = text(1, 20);
  EXPECT_EQ(shorter, std::vector<int32_t>(truth.begin(), truth.begin() + 20));
}

TEST(Generate, SamplingParametersReachTheDraw) {
  Counting model;
  EXPECT_EQ(model.run({.prompt = bytes_of("a"), .sampling = {.logit_bias = {{TinyModel::kEos, 100}}}}).text,
            "");
  EXPECT_EQ(
      model.run({.prompt = bytes_of("a"), .max_tokens = 3, .sampling = {.logit_bias = {{'q', 100}}}}).text,
      "qqq");
  // The count goes on by a logit of 65; 'c' in the prompt is halved below a bias of 50 on '!'.
  const SamplingParams penalised{.repetition_penalty = 2, .logit_bias = {{'!', 50}}};
  EXPECT_EQ(model.run({.prompt = bytes_of("cab"), .max_tokens = 1, .sampling = penalised}).text, "!");
  EXPECT_EQ(model.run({.prompt = bytes_of("dab"), .max_tokens = 1, .sampling = penalised}).text, "c");
}

TEST(Generate, RefusesBadRequestsBeforeAnyWork) {
  Counting model;
  const auto refusal = [&](const GenerateRequest& request) -> std::string {
    try {
      model.run(request);
    } catch (const InputError& e) {
      return e.what();
    }
    return "was accepted";
  };
  EXPECT_THAT(refusal({}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(refusal({.prompt = {1}, .max_tokens = -1}), HasSubstr("must not be negative"));
  EXPECT_THAT(refusal({.prompt = {1}, .sampling = {.top_p = 2}}), HasSubstr("top_p"));
  EXPECT_THAT(refusal({.prompt = {1}, .sampling = {.logit_bias = {{TinyModel::kVocab, 1}}}}),
              HasSubstr("logit bias"));
  EXPECT_THAT(refusal(with_stops("a", {""})), HasSubstr("stop string"));
  EXPECT_THAT(refusal({.prompt = {1, TinyModel::kVocab}}), HasSubstr("token id 264"));
  EXPECT_TRUE(model.session.tokens().empty());
}

TEST(Generate, FinishHasAName) {
  EXPECT_STREQ(finish_name(Finish::kStop), "stop");
  EXPECT_STREQ(finish_name(Finish::kLength), "length");
  EXPECT_STREQ(finish_name(Finish::kCancelled), "cancelled");
}

}  // namespace
}  // namespace stamp
