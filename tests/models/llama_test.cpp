// The forward pass against Hugging Face transformers, for every variant of config.json and every available
// Ops.
#include "models/llama.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>

#include "engine/kv_cache.h"
#include "models/file.h"
#include "tests/golden/golden.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

const nlohmann::json& tiny() {
  static const nlohmann::json golden = golden::load("tiny.json");
  return golden;
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& [name, model] : tiny()["models"].items()) names.push_back(name);
  return names;
}

std::vector<int32_t> golden_rows() { return tiny()["rows"]; }

/// A tiny model of this name, or in a directory, with the tokens of golden values.
struct TinyLlama {
  TinyLlama(const std::filesystem::path& name, Ops& ops, int64_t max_rows)
      : config(ModelConfig::load(golden::kTinyModels / name)),
        weights(ModelWeights::load(golden::kTinyModels / name, config)),
        memory(ops.memory()),
        llama(config, weights, exact, ops, max_rows) {
    for (int64_t number : tiny()["numbers"]) tokens.push_back(int32_t(number % config.vocab_size));
  }

  /// Logits [count, vocab] of a new sequence of the first tokens, `chunk` rows a forward pass.
  std::vector<float> run(int64_t chunk, int64_t count = 400) {
    KvCache cache(config, {}, count, 0, memory);
    PageTable pages(cache);
    std::vector<float> logits(size_t(count * config.vocab_size));
    for (int64_t begin = 0; begin < count; begin += chunk) {
      const int64_t rows = std::min(chunk, count - begin);
      pages.grow(begin + rows);
      std::vector<int32_t> wanted(static_cast<size_t>(rows));
      std::iota(wanted.begin(), wanted.end(), 0);
      const RowRun run{.row = 0, .count = rows, .position = begin, .pages = pages.pages()};
      llama.forward({.tokens = std::span(tokens).subspan(size_t(begin), size_t(rows)),
                     .runs = {&run, 1},
                     .logit_rows = wanted},
                    cache.view(),
                    {logits.data() + begin * config.vocab_size, rows, config.vocab_size, config.vocab_size});
    }
    return logits;
  }

  std::span<const float> row(const std::vector<float>& logits, int64_t r) const {
    return std::span(logits).subspan(size_t(r * config.vocab_size), size_t(config.vocab_size));
  }

  ModelConfig config;
  ModelWeights weights;
  Recipe exact;
  Memory& memory;
  Llama llama;
  std::vector<int32_t> tokens;
};

/// tests/golden/tiny/NAME.f32: [rows, vocab].
std::vector<float> golden_logits(const std::string& name) {
  const std::string bytes = read_file(golden::kDirectory / "tiny" / (name + ".f32"), 1 << 20);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

TEST(LlamaGolden, GoldenValuesBelongToTheTestData) {
  ASSERT_TRUE(std::filesystem::is_directory(golden::kTinyModels))
      << "run tests/prepare_data.py " STAMP_TEST_DATA_DIR;
  std::vector<std::string> prepared;
  for (const auto& entry : std::filesystem::directory_iterator(golden::kTinyModels))
    prepared.push_back(entry.path().filename());
  std::sort(prepared.begin(), prepared.end());
  EXPECT_EQ(prepared, model_names());
  for (const auto& [name, model] : tiny()["models"].items())
    EXPECT_EQ(golden::fingerprint(golden::kTinyModels / name), model["fingerprint"])
        << name << ": run tests/golden/make.py";
}

class LlamaTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Ops> ops_ = make_ops(GetParam(), 1);
};

TEST_P(LlamaTest, LogitsEqualTransformers) {
  const std::vector<int32_t> rows = golden_rows();
  for (const std::string& name : model_names()) {
    TinyLlama model(name, *ops_, 400);
    const std::vector<float> logits = model.run(400), truth = golden_logits(name);
    ASSERT_EQ(truth.size(), rows.size() * size_t(model.config.vocab_size));
    for (size_t i = 0; i < rows.size(); ++i) {
      SCOPED_TRACE(name + ", row " + std::to_string(rows[i]));
      golden::expect_equal_logits(model.row(logits, rows[i]), model.row(truth, int64_t(i)));
    }
  }
}

TEST_P(LlamaTest, ChunksAndSingleTokensGiveTheBitsOfOnePass) {
  for (const std::string& name : model_names()) {
    TinyLlama model(name, *ops_, 400);
    const std::vector<float> whole = model.run(400);
    for (int64_t chunk : {1, 64, 256}) {
      const std::vector<float> pieces = model.run(chunk, chunk == 1 ? 150 : 400);
      EXPECT_EQ(std::memcmp(pieces.data(), whole.data(), pieces.size() * sizeof(float)), 0)
          << name << ", chunks of " << chunk;
    }
  }
}

TEST_P(LlamaTest, SequencesInOneBatchGiveTheBitsOfEachAlone) {
  for (const std::string& name :
       {std::string("gqa"), std::string("odd_sizes_f16"), std::string("rope_llama3")}) {
    TinyLlama model(name, *ops_, 400);
    const std::vector<float> alone = model.run(400);
    // Three copies of the sequence at different lengths: 70 tokens cached before, 5 more of each in one
    // batch.
    const int64_t vocab = model.config.vocab_size;
    const std::vector<int64_t> starts{0, 70, 129};
    KvCache cache(model.config, {}, 400, 7, ops_->memory());
    PageTable a(cache), b(cache), c(cache);
    PageTable* const tables[] = {&a, &b, &c};
    std::vector<int32_t> tokens, wanted;
    std::vector<RowRun> runs;
    for (size_t i = 0; i < starts.size(); ++i) {
      tables[i]->grow(starts[i] + 5);
      const RowRun before{.row = 0, .count = starts[i], .position = 0, .pages = tables[i]->pages()};
      if (starts[i] > 0)
        model.llama.forward({.tokens = std::span(model.tokens).first(size_t(starts[i])),
                             .runs = {&before, 1},
                             .logit_rows = {}},
                            cache.view(), {});
      runs.push_back({.row = int64_t(5 * i), .count = 5, .position = starts[i], .pages = tables[i]->pages()});
      tokens.insert(tokens.end(), model.tokens.begin() + starts[i], model.tokens.begin() + starts[i] + 5);
      wanted.push_back(int32_t(5 * i));      // the first and
      wanted.push_back(int32_t(5 * i + 4));  // the last row of each
    }
    std::vector<float> logits(wanted.size() * size_t(vocab));
    model.llama.forward({.tokens = tokens, .runs = runs, .logit_rows = wanted}, cache.view(),
                        {logits.data(), int64_t(wanted.size()), vocab, vocab});
    for (size_t i = 0; i < wanted.size(); ++i) {
      const auto together = model.row(logits, int64_t(i)),
                 truth = model.row(alone, starts[i / 2] + (i % 2 == 0 ? 0 : 4));
      EXPECT_EQ(std::memcmp(together.data(), truth.data(), truth.size_bytes()), 0)
          << name << ", row " << wanted[i];
    }
  }
}

// Rows a multiple of 1 KiB apart get a line more (spread_stride), so the narrower ones may take more room.
TEST_P(LlamaTest, HeadsMayBeALittleWiderThanAHiddenSizeWhoseRowsAreSpread) {
  constexpr int64_t kRows = 70, kHidden = 256, kHeads = 13, kHeadDim = 20;
  ASSERT_GT(spread_stride(kHidden), spread_stride(kHeads * kHeadDim));
  nlohmann::ordered_json config = tiny::config(kHidden);
  config["num_attention_heads"] = kHeads;
  config["num_key_value_heads"] = 1;
  config["head_dim"] = kHeadDim;
  const TempDir dir;
  random_model(1, config).write(dir.path());
  const std::unique_ptr<Ops> reference = make_ops("reference", 1);
  TinyLlama model(dir.path(), *ops_, kRows), truth(dir.path(), *reference, kRows);
  const std::vector<float> logits = model.run(kRows, kRows), wanted = truth.run(kRows, kRows);
  for (int64_t row : {int64_t{0}, kRows - 1}) {
    SCOPED_TRACE(row);
    golden::expect_equal_logits(model.row(logits, row), truth.row(wanted, row));
  }
}

INSTANTIATE_TEST_SUITE_P(AllOps, LlamaTest, testing::ValuesIn(available_ops()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace stamp
