#include "engine/draft.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/generate.h"
#include "tests/engine/tiny_engine.h"

namespace stamp {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<int32_t> proposed(NgramDraft& draft, std::vector<int32_t> tokens, int64_t most = 15) {
  const auto guess = draft.propose(tokens, most);
  return {guess.begin(), guess.end()};
}

TEST(NgramDraft, IsWhatFollowedTheLatestPlaceWithTheSameTokens) {
  NgramDraft draft;
  EXPECT_THAT(proposed(draft, {7, 1, 2, 8, 1, 2, 9, 5, 6, 1, 2}), ElementsAre(9, 5, 6, 1));
  EXPECT_THAT(proposed(draft, {7, 1, 2, 8, 1, 2, 9, 5, 7, 1, 2}),
              ElementsAre(8, 1, 2, 9));  // three before two
  EXPECT_THAT(proposed(draft, {1, 2, 1, 2}), ElementsAre(1, 2));
  EXPECT_THAT(proposed(draft, {1, 2, 3, 1, 2}, 1), ElementsAre(3));
  EXPECT_THAT(proposed(draft, {1, 2, 3, 1, 2}, 0), IsEmpty());
  EXPECT_THAT(proposed(draft, {1, 2, 3, 4, 2}), IsEmpty());  // one token says too little
  EXPECT_THAT(proposed(draft, {}), IsEmpty());
}

TEST(NgramDraft, BecomesLongerWhileItHoldsAndRarerWhileItDoesNot) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < 60; ++i) tokens.push_back(i % 20);
  NgramDraft draft;
  for (const size_t length : {4, 8, 15, 15}) {
    EXPECT_EQ(proposed(draft, tokens).size(), length);
    draft.judge(int64_t(length), int64_t(length));
  }
  draft.judge(15, 3);
  EXPECT_EQ(proposed(draft, tokens).size(), 4u);
  draft.judge(4, 0);
  EXPECT_THAT(proposed(draft, tokens), IsEmpty());
  EXPECT_EQ(proposed(draft, tokens).size(), 1u);
  draft.judge(1, 0);
  for (int i = 0; i < 2; ++i) EXPECT_THAT(proposed(draft, tokens), IsEmpty());
  EXPECT_EQ(proposed(draft, tokens).size(), 1u);
}

/// Prompt lookup changes neither tokens nor what the session holds: past several page edges, greedy and drawn
/// at random, over floats and coefficients.
TEST(Draft, TheTextIsTheSameWithAndWithout) {
  for (const char* recipe : {"f32", "w4a4kv4-stamp"})
    for (const float temperature : {0.0f, 0.3f}) {
      TinyEngine tiny(random_model(), {.recipe = recipe, .context = 512, .cache_tokens = 1024});
      GenerateRequest request{
          .prompt = bytes_of("abcabcabcabdabcabc"), .max_tokens = 300, .ignore_eos = true};
      request.sampling.temperature = temperature;
      request.sampling.seed = 3;
      Session plain(tiny), drafting(tiny);
      const GenerateResult expected = generate(plain, request, {});
      request.draft = Draft::kNgram;
      const GenerateResult result = generate(drafting, request, {});
      EXPECT_EQ(result.tokens, expected.tokens) << recipe << " " << temperature;
      EXPECT_EQ(result.text, expected.text);
      EXPECT_TRUE(std::ranges::equal(drafting.tokens(), plain.tokens()));
      EXPECT_GT(result.drafted_tokens, 0);
      EXPECT_EQ(expected.drafted_tokens, 0);
    }
}

TEST(Draft, TextThatRepeatsItselfTakesFewPasses) {
  TinyEngine tiny(counting_model());  // a, b, c ... z and the end, again and again
  Session session(tiny);
  const GenerateResult result = generate(
      session, {.prompt = bytes_of("a"), .max_tokens = 200, .draft = Draft::kNgram, .ignore_eos = true}, {});
  EXPECT_GT(result.accepted_tokens, 120);
  EXPECT_LT(result.drafted_tokens - result.accepted_tokens, 30);
}

}  // namespace
}  // namespace stamp
