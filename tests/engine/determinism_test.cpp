// The same tokens give the same bits in the logits, whatever the chunk size, the number of threads, the place
// of the cache's pages and what the cache held before. One instruction set at a time: between them the order
// of sums differs.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/session.h"
#include "tests/engine/tiny_engine.h"
#include "tests/golden/golden.h"

namespace stamp {
namespace {

constexpr int64_t kTokens = 333;  // five full pages and some

EngineOptions options(const std::filesystem::path& model, const std::string& ops) {
  return {.model = model, .threads = 1, .context = 1024, .prefill_chunk = 64, .ops = ops};
}

/// Appends to a session; the logits of all rows, [tokens, vocab].
std::vector<float> all_logits(Session& session, std::span<const int32_t> tokens, int64_t max_rows = 512) {
  std::vector<float> all;
  session.advance_all(tokens, 0, max_rows, [&](int64_t, Logits& logits) {
    const Mat<float> rows = logits.host();
    all.insert(all.end(), rows.data, rows.data + rows.rows * rows.cols);
  });
  return all;
}

std::vector<float> fresh(const EngineOptions& options, int64_t max_rows = 512) {
  Engine engine(options);
  Session session(engine);
  return all_logits(session, tokens_for(engine, kTokens), max_rows);
}

void expect_same_bits(std::span<const float> values, std::span<const float> truth) {
  ASSERT_EQ(values.size(), truth.size());
  EXPECT_EQ(std::memcmp(values.data(), truth.data(), truth.size_bytes()), 0);
}

void expect_same_bits_for_every_setting(const EngineOptions& base, const std::vector<float>& truth) {
  for (int64_t chunk : {128, 256, 512}) {
    SCOPED_TRACE("chunk " + std::to_string(chunk));
    EngineOptions changed = base;
    changed.prefill_chunk = chunk;
    expect_same_bits(fresh(changed), truth);
  }
  for (int threads : {2, 3}) {
    SCOPED_TRACE("threads " + std::to_string(threads));
    EngineOptions changed = base;
    changed.threads = threads;
    changed.prefill_chunk = 256;
    expect_same_bits(fresh(changed), truth);
  }
  for (uint64_t shuffle : {1, 2}) {
    SCOPED_TRACE("page order " + std::to_string(shuffle));
    EngineOptions changed = base;
    changed.page_shuffle = shuffle;
    expect_same_bits(fresh(changed), truth);
  }
}

class DeterminismTest : public testing::TestWithParam<std::string> {
 protected:
  /// Every storage type, ragged sizes, GQA, biases and a scaled rope between them.
  const std::vector<std::string> models_{"gqa", "odd_sizes_f16", "odd_sizes_bf16", "both_biases",
                                         "rope_yarn"};
};

TEST_P(DeterminismTest, ChunksThreadsAndPageOrderDoNotChangeABit) {
  for (const std::string& model : models_) {
    SCOPED_TRACE(model);
    const EngineOptions base = options(golden::kTinyModels / model, GetParam());
    const std::vector<float> truth = fresh(base);
    ASSERT_GT(truth.size(), size_t(kTokens * 250));
    expect_same_bits_for_every_setting(base, truth);
  }
}

TEST_P(DeterminismTest, RowsOfLogitsAtATimeDoNotChangeABit) {
  const EngineOptions base = options(golden::kTinyModels / "odd_sizes_bf16", GetParam());
  const std::vector<float> truth = fresh(base);
  for (int64_t rows : {1, 7, 64}) {
    SCOPED_TRACE("rows " + std::to_string(rows));
    expect_same_bits(fresh(base, rows), truth);
  }
}

TEST_P(DeterminismTest, AReusedSessionGivesTheBitsOfAFreshOne) {
  for (const std::string& model : models_) {
    SCOPED_TRACE(model);
    Engine engine(options(golden::kTinyModels / model, GetParam()));
    const std::vector<int32_t> tokens = tokens_for(engine, kTokens);
    const size_t vocab = size_t(engine.config().vocab_size);
    Session session(engine);
    const std::vector<float> truth = all_logits(session, tokens);

    // Another text over the same pages, then back to a prefix of the first one of every kind of length.
    for (int64_t kept : {0, 1, 63, 64, 65, 200, 332}) {
      SCOPED_TRACE("kept " + std::to_string(kept));
      std::vector<int32_t> other = tokens;
      const std::vector<int32_t> noise = tokens_for(engine, 150, 99);
      other.resize(size_t(kept));
      other.insert(other.end(), noise.begin(), noise.end());
      const int64_t common = session.reuse(other);
      session.advance(std::span(other).subspan(size_t(common)));
      const int64_t reused = session.reuse(tokens);
      ASSERT_GE(reused, kept);
      const std::vector<float> rest = all_logits(session, std::span(tokens).subspan(size_t(reused)));
      expect_same_bits(rest, std::span(truth).subspan(size_t(reused) * vocab));
    }
  }
}

TEST_P(DeterminismTest, ASecondSequenceInTheCacheDoesNotChangeABit) {
  Engine engine(options(golden::kTinyModels / "gqa", GetParam()));
  const std::vector<int32_t> tokens = tokens_for(engine, kTokens), others = tokens_for(engine, 300, 5);
  Session alone(engine);
  const std::vector<float> truth = all_logits(alone, tokens);
  alone.truncate(0);

  // Two sessions take turns, so that their pages interleave.
  Session a(engine), b(engine);
  std::vector<float> logits;
  for (int64_t begin = 0; begin < kTokens; begin += 64) {
    const size_t rows = size_t(std::min<int64_t>(64, kTokens - begin));
    const std::vector<float> part = all_logits(a, std::span(tokens).subspan(size_t(begin), rows));
    logits.insert(logits.end(), part.begin(), part.end());
    if (begin + 50 <= 300) b.advance(std::span(others).subspan(size_t(begin), 50));
  }
  expect_same_bits(logits, truth);
}

TEST_P(DeterminismTest, DecodingGivesTheBitsOfPrefill) {
  for (const std::string& model : models_) {
    SCOPED_TRACE(model);
    Engine engine(options(golden::kTinyModels / model, GetParam()));
    const std::vector<int32_t> tokens = tokens_for(engine, 140);
    const size_t vocab = size_t(engine.config().vocab_size);
    Session prefill(engine), decode(engine);
    const std::vector<float> truth = all_logits(prefill, tokens);
    for (size_t i = 0; i < tokens.size(); ++i) {
      SCOPED_TRACE("token " + std::to_string(i));
      expect_same_bits(decode.advance({&tokens[i], 1})->host(0), std::span(truth).subspan(i * vocab, vocab));
    }
  }
}

// ---- coded activations and cache: blocks of 64 tokens are computed together

TEST_P(DeterminismTest, CodedBlocksDoNotDependOnChunksThreadsOrPageOrder) {
  const TempDir dir;
  for (const char* model : {"gqa", "odd_sizes_f16", "both_biases"}) {
    SCOPED_TRACE(model);
    EngineOptions base = options(golden::kTinyModels / model, GetParam());
    base.recipe = coded_recipe(dir);
    expect_same_bits_for_every_setting(base, fresh(base));
  }
}

/// One of several sequences that share forward passes: a prompt in chunks, then single tokens.
struct Request {
  Request(Engine& engine, uint32_t seed, int64_t prompt, int64_t decoded)
      : tokens(tokens_for(engine, prompt + decoded, seed)), prompt(prompt), pages(engine.cache()) {}

  int64_t next_rows(int64_t chunk) const {
    return done < prompt ? std::min(chunk, prompt - done)
                         : std::min<int64_t>(1, int64_t(tokens.size()) - done);
  }

  std::vector<int32_t> tokens;
  int64_t prompt = 0, done = 0;
  PageTable pages;
  std::vector<float> logits;
};

/// Requests join one after another; each pass mixes chunks of prompts with decoded tokens.
void run_together(Engine& engine, std::vector<std::unique_ptr<Request>>& requests) {
  const int64_t vocab = engine.config().vocab_size;
  Buffer<float> logits(engine.llama().max_rows() * vocab);
  for (size_t step = 0;; ++step) {
    std::vector<int32_t> tokens, rows;
    std::vector<RowRun> runs;
    std::vector<Request*> members;
    for (size_t i = 0; i < std::min(requests.size(), step + 1); ++i) {
      Request& r = *requests[i];
      const int64_t count = r.next_rows(i % 2 == 0 ? 128 : 64);
      if (count == 0) continue;
      r.pages.grow(r.done + count);
      runs.push_back({int64_t(tokens.size()), count, r.done, r.pages.pages()});
      tokens.insert(tokens.end(), r.tokens.begin() + r.done, r.tokens.begin() + r.done + count);
      members.push_back(&r);
    }
    if (members.empty() && step >= requests.size()) return;
    for (size_t row = 0; row < tokens.size(); ++row) rows.push_back(int32_t(row));
    engine.llama().forward({tokens, runs, rows}, engine.cache().view(),
                           logits.mat(int64_t(rows.size()), vocab));
    for (size_t i = 0; i < members.size(); ++i) {
      members[i]->pages.settle();
      members[i]->done += runs[i].count;
      const float* begin = logits.data() + runs[i].row * vocab;
      members[i]->logits.insert(members[i]->logits.end(), begin, begin + runs[i].count * vocab);
    }
  }
}

TEST_P(DeterminismTest, ABatchOfSevenMixedRequestsGivesTheBitsOfEachAlone) {
  const TempDir dir;
  for (const std::string& recipe : {std::string(), coded_recipe(dir)}) {
    SCOPED_TRACE(recipe.empty() ? "f32" : "coded");
    EngineOptions base = options(golden::kTinyModels / "gqa", GetParam());
    base.recipe = recipe;
    base.prefill_chunk = 768;
    base.context = 2048;
    Engine engine(base);
    std::vector<std::unique_ptr<Request>> requests;
    uint32_t seed = 11;
    for (const auto& [prompt, decoded] : std::vector<std::pair<int64_t, int64_t>>{
             {320, 5}, {1, 9}, {64, 3}, {130, 70}, {200, 1}, {65, 66}, {128, 2}})
      requests.push_back(std::make_unique<Request>(engine, seed++, prompt, decoded));
    run_together(engine, requests);
    for (const auto& r : requests) {
      SCOPED_TRACE("prompt " + std::to_string(r->prompt));
      Session alone(engine);
      std::vector<float> truth = all_logits(alone, std::span(r->tokens).first(size_t(r->prompt)));
      for (size_t i = size_t(r->prompt); i < r->tokens.size(); ++i) {
        const std::span<float> logits = alone.advance({&r->tokens[i], 1})->host(0);
        truth.insert(truth.end(), logits.begin(), logits.end());
      }
      expect_same_bits(r->logits, truth);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllOps, DeterminismTest, testing::ValuesIn(available_ops()),
                         [](const auto& info) { return info.param; });

TEST(SmolLm2Determinism, ChunksThreadsAndPageOrderDoNotChangeABit) {
  const std::filesystem::path model = STAMP_SMOLLM2_DIR;
  if (model.empty())
    GTEST_SKIP() << "configure with -DSTAMP_SMOLLM2_DIR; tools/gguf_to_hf.py makes the directory";
  const auto last = [&](int64_t chunk, int threads, uint64_t shuffle) {
    Engine engine({.model = model,
                   .threads = threads,
                   .context = 1024,
                   .prefill_chunk = chunk,
                   .page_shuffle = shuffle});
    Session session(engine);
    const std::span<float> logits = session.advance(tokens_for(engine, kTokens))->host(0);
    return std::vector<float>(logits.begin(), logits.end());
  };
  const std::vector<float> truth = last(256, 2, 0);
  expect_same_bits(last(64, 2, 0), truth);
  expect_same_bits(last(512, 2, 0), truth);
  expect_same_bits(last(256, 1, 0), truth);
  expect_same_bits(last(256, 3, 0), truth);
  expect_same_bits(last(256, 2, 11), truth);
}

}  // namespace
}  // namespace stamp
