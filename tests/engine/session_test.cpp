#include "engine/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "kernels/error.h"
#include "tests/engine/tiny_engine.h"

namespace stamp {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

/// Ids that repeat no pattern.
std::vector<int32_t> some_tokens(size_t count, uint32_t seed = 1) {
  std::vector<int32_t> tokens(count);
  uint32_t x = seed;
  for (int32_t& id : tokens) id = int32_t((x = x * 1664525u + 1013904223u) >> 8) % TinyModel::kVocab;
  return tokens;
}

std::vector<float> copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }

std::vector<int32_t> held(const Session& session) {
  return {session.tokens().begin(), session.tokens().end()};
}

TEST(Session, ReuseKeepsTheCommonPrefixButNotTheLastTokenOfThePrompt) {
  TinyEngine tiny(random_model());
  Session session(tiny);
  EXPECT_EQ(session.reuse(bytes_of("abc")), 0);
  session.advance(bytes_of("abcdef"));
  EXPECT_EQ(session.reuse(bytes_of("abcdefgh")), 6);
  EXPECT_EQ(held(session), bytes_of("abcdef"));
  EXPECT_EQ(session.reuse(bytes_of("abcdef")), 5);  // the last one's logits will be wanted
  EXPECT_EQ(held(session), bytes_of("abcde"));
  EXPECT_EQ(session.reuse(bytes_of("abXde")), 2);
  EXPECT_EQ(held(session), bytes_of("ab"));
  EXPECT_EQ(session.reuse(bytes_of("a")), 0);
  EXPECT_TRUE(session.tokens().empty());
  session.advance(bytes_of("abc"));
  EXPECT_EQ(session.reuse({}), 0);
  EXPECT_TRUE(session.tokens().empty());
}

TEST(Session, TruncateGivesPagesBack) {
  TinyEngine tiny(random_model(), {.context = 256});
  Session session(tiny);
  session.advance(some_tokens(200));
  EXPECT_EQ(tiny->cache().free_pages(), 0);
  session.truncate(500);
  EXPECT_EQ(session.tokens().size(), 200u);
  session.truncate(128);
  EXPECT_EQ(session.tokens().size(), 128u);
  EXPECT_EQ(tiny->cache().free_pages(), 2);
  session.truncate(0);
  EXPECT_EQ(tiny->cache().free_pages(), 4);
}

TEST(Session, ProgressComesAfterEachChunkAndChunksEndOnBlocks) {
  TinyEngine tiny(random_model(), {.context = 512, .prefill_chunk = 128});
  Session session(tiny);
  const auto chunks = [&](size_t count) {
    std::vector<std::pair<int64_t, int64_t>> calls;
    session.advance(some_tokens(count),
                    {.progress = [&](int64_t done, int64_t total) { calls.emplace_back(done, total); }});
    return calls;
  };
  EXPECT_THAT(chunks(300), ElementsAre(Pair(128, 300), Pair(256, 300), Pair(300, 300)));
  // From position 300: to 384, the last multiple of 64 within reach, then to the end.
  EXPECT_THAT(chunks(150), ElementsAre(Pair(84, 150), Pair(150, 150)));
}

TEST(Session, CancelStopsBetweenChunksAndTheRestCanFollow) {
  TinyEngine tiny(random_model(), {.prefill_chunk = 64});
  const std::vector<int32_t> tokens = some_tokens(200);
  Session whole(tiny);
  const std::vector<float> truth = copy(whole.advance(tokens)->host(0));
  whole.truncate(0);

  Session session(tiny);
  std::atomic<bool> cancel{false};
  const Session::Hooks hooks{.progress = [&](int64_t done, int64_t) { cancel = done >= 128; },
                             .cancel = &cancel};
  EXPECT_EQ(session.advance(tokens, hooks), nullptr);
  EXPECT_EQ(held(session), std::vector<int32_t>(tokens.begin(), tokens.begin() + 128));
  EXPECT_EQ(session.advance(std::span(tokens).subspan(128), hooks), nullptr);  // still cancelled: no work
  EXPECT_EQ(session.tokens().size(), 128u);
  cancel = false;
  EXPECT_EQ(copy(session.advance(std::span(tokens).subspan(128))->host(0)), truth);
}

TEST(Session, RefusesBeforeAnyWork) {
  TinyEngine tiny(random_model(), {.context = 100});
  Session session(tiny);
  session.advance(some_tokens(60));
  const auto refusal = [&](std::vector<int32_t> tokens) -> std::string {
    try {
      session.advance(tokens);
    } catch (const InputError& e) {
      return e.what();
    }
    return "was accepted";
  };
  EXPECT_THAT(refusal(some_tokens(41)), HasSubstr("101 tokens do not fit the context of 100"));
  EXPECT_THAT(refusal({1, 2, TinyModel::kVocab}), HasSubstr("token id 264 is not in the vocabulary"));
  EXPECT_THAT(refusal({1, -1}), HasSubstr("token id -1"));
  EXPECT_THROW(session.advance_all(some_tokens(41), 0, 8, [](int64_t, Logits&) {}), InputError);
  EXPECT_EQ(session.tokens().size(), 60u);
  EXPECT_EQ(tiny->cache().free_pages(), 1);
  EXPECT_EQ(session.advance(some_tokens(40))->host(0).size(), size_t(TinyModel::kVocab));  // just fits
}

TEST(Session, AFullCacheIsAnErrorAndTheOtherSequenceGoesOn) {
  TinyEngine tiny(random_model(), {.context = 128});
  Session first(tiny), second(tiny);
  first.advance(some_tokens(64));
  EXPECT_THROW(second.advance(some_tokens(128)), Error);
  EXPECT_EQ(first.advance(some_tokens(1))->host(0).size(), size_t(TinyModel::kVocab))
      << "the second's pages should be free";
}

TEST(Session, AdvanceAllHandsOutEveryRowOnceFromTheFirstWanted) {
  TinyEngine tiny(random_model(), {.prefill_chunk = 128});
  const std::vector<int32_t> tokens = some_tokens(300);
  std::vector<std::vector<float>> truth;
  {
    Session session(tiny);
    for (const int32_t& id : tokens) truth.push_back(copy(session.advance({&id, 1})->host(0)));
  }
  for (const int64_t first : {0, 1, 100, 128, 255, 299, 300}) {
    for (const int64_t max_rows : {1, 17, 64, 100, 1000}) {
      SCOPED_TRACE("from " + std::to_string(first) + ", at most " + std::to_string(max_rows));
      Session session(tiny);
      int64_t next = first;
      session.advance_all(tokens, first, max_rows, [&](int64_t index, Logits& logits) {
        ASSERT_EQ(index, next);
        ASSERT_LE(logits.rows(), max_rows);
        for (int64_t r = 0; r < logits.rows(); ++r) ASSERT_EQ(copy(logits.host(r)), truth[size_t(index + r)]);
        next += logits.rows();
      });
      EXPECT_EQ(next, 300);
      EXPECT_EQ(held(session), tokens);
    }
  }
}

TEST(Session, AdvanceWorksAfterAdvanceAll) {
  TinyEngine tiny(random_model());
  const std::vector<int32_t> tokens = some_tokens(70);
  Session plain(tiny), mixed(tiny);
  const std::vector<float> truth = copy(plain.advance(tokens)->host(0));
  mixed.advance_all(std::span(tokens).first(69), 60, 50, [](int64_t, Logits&) {});
  EXPECT_EQ(copy(mixed.advance({&tokens[69], 1})->host(0)), truth);
}

}  // namespace
}  // namespace stamp
