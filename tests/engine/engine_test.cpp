#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "engine/session.h"
#include "kernels/error.h"
#include "kernels/timed_ops.h"
#include "models/prepare/checkpoint.h"
#include "models/prepare/prepare.h"
#include "tests/engine/tiny_engine.h"
#include "tests/resident.h"

namespace stamp {
namespace {

using testing::HasSubstr;

std::string refusal(const EngineOptions& options) {
  try {
    Engine{options};
  } catch (const InputError& e) {
    return e.what();
  }
  return "was accepted";
}

TEST(Engine, HoldsTheModelAndItsSizes) {
  TinyEngine tiny(random_model(), {.threads = 2, .context = 100, .ops = "scalar"});
  EXPECT_EQ(tiny->config().hidden_size, 16);
  EXPECT_EQ(tiny->context(), 100);
  EXPECT_EQ(tiny->cache().max_tokens(), 128);
  EXPECT_EQ(tiny->ops().name(), "scalar");
  EXPECT_EQ(tiny->ops().threads(), 2);
  EXPECT_EQ(tiny->weight_bits(), 32);
  // The matrices are all of the file but its header and the small norms.
  EXPECT_LT(tiny->weight_bytes(), int64_t(std::filesystem::file_size(tiny.directory / "model.safetensors")));
  EXPECT_GT(tiny->weight_bytes(),
            int64_t(std::filesystem::file_size(tiny.directory / "model.safetensors")) - 4096);
  EXPECT_NE(tiny->chat_template(), nullptr);
  EXPECT_EQ(tiny->tokenizer().token_to_id("</s>"), TinyModel::kEos);
  EXPECT_EQ(tiny->generation_config().eos_token_ids, std::vector<int32_t>{TinyModel::kEos});
  EXPECT_GT(tiny->load_seconds(), 0);
}

TEST(Engine, OperationsAroundItsOwnSeeEveryOneOfAForwardPassAndChangeNothing) {
  using Kind = TimedOps::Kind;
  const TempDir dir;
  TimedOps* timed = nullptr;
  TinyEngine plain(random_model(), {.recipe = coded_recipe(dir)});
  TinyEngine wrapped(random_model(), {.recipe = coded_recipe(dir), .wrap_ops = [&](std::unique_ptr<Ops> ops) {
                                        auto around = std::make_unique<TimedOps>(std::move(ops));
                                        timed = around.get();
                                        return around;
                                      }});
  const std::vector<int32_t> tokens = tokens_for(*plain.engine, 150);
  Session truth(plain), session(wrapped);
  ASSERT_NE(timed, nullptr);
  timed->resume();
  EXPECT_THAT(session.advance(tokens)->host(0), testing::ElementsAreArray(truth.advance(tokens)->host(0)));
  std::map<Kind, int64_t> calls;
  double integer_ops = 0;
  for (const TimedOps::Entry& entry : timed->take()) {
    calls[entry.kind] += entry.calls;
    if (entry.kind == Kind::kLinear) integer_ops += entry.work.int4_ops;
    EXPECT_GT(entry.seconds, 0);
  }
  const ModelConfig& c = wrapped->config();
  const int64_t n = c.layers;
  EXPECT_THAT(calls, testing::UnorderedElementsAre(
                         testing::Pair(Kind::kEmbed, 1), testing::Pair(Kind::kNorm, 2 * n + 1),
                         testing::Pair(Kind::kQuantize, 4 * n + 1), testing::Pair(Kind::kLinear, 4 * n + 1),
                         testing::Pair(Kind::kRope, 2 * n), testing::Pair(Kind::kRotate, 3 * n + 2),
                         testing::Pair(Kind::kAppendKv, n), testing::Pair(Kind::kAttention, n),
                         testing::Pair(Kind::kSilu, n), testing::Pair(Kind::kAdd, 2 * n),
                         testing::Pair(Kind::kGather, 1)));
  const int64_t width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
  const int64_t weights = c.hidden_size * (2 * width + 2 * kv_width + 3 * c.intermediate_size);
  EXPECT_EQ(integer_ops, 2.0 * 150 * double(n * weights));
}

/// An embedding of some MB: its bits, and whether the weights stay in the mapped file.
class EngineEmbedding : public testing::TestWithParam<std::tuple<int, bool>> {};

TEST_P(EngineEmbedding, ThatIsNotTheHeadIsReadWithoutBecomingResident) {
  const auto [bits, map_weights] = GetParam();
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  constexpr int64_t kHidden = 32, kTokens = 200;
  TinyModel model = random_model(1, kHidden);
  model.config["vocab_size"] = 280'000;  // of 4 bits, still more than two huge pages
  model.tensors = tiny::tensors(model.config, [x = 1u](const std::string&) mutable {
    return float(int32_t(x = x * 1664525u + 1013904223u) >> 8) * 0x1p-24f;
  });
  const TempDir dir;
  model.write(dir.path());
  EngineOptions options{.model = dir.path(), .threads = 2, .map_weights = map_weights};
  if (bits < 16) {
    write_file(dir / "recipe.json", R"({"name": "small", "weights": {"bits": 4, "group": 32, "head_bits": )" +
                                        std::to_string(bits) + "}}");
    options.model = dir / "quantised";
    const Recipe recipe = Recipe::load((dir / "recipe.json").string());
    const ModelConfig config = ModelConfig::load(dir.path());
    const auto ops = make_ops();
    save_checkpoint(
        options.model, dir.path(),
        prepare_weights(config, ModelWeights::load(dir.path(), config), recipe, {.ops = ops.get()}), recipe);
  }
  Engine engine(options);
  const WeightView& table = engine.weights().embedding;
  const auto begin = reinterpret_cast<uintptr_t>(table.data);
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage,
                  end = (begin + uintptr_t(table.data_bytes())) / kHugePage * kHugePage;
  ASSERT_LT(first, end);
  const std::span inside(reinterpret_cast<const std::byte*>(first), end - first);
  const std::vector<int32_t> tokens = tokens_for(engine, kTokens);
  Session session(engine);
  ASSERT_NE(session.advance(tokens), nullptr);
  EXPECT_EQ(resident_bytes(inside), 0u);

  const RowRun run{.row = 0, .count = kTokens, .position = 0, .pages = {}};
  engine.llama().begin({.tokens = tokens, .runs = {&run, 1}, .logit_rows = {}});
  const Mat<float> read = engine.llama().residual(kTokens);
  Buffer<float> truth(kTokens * kHidden);
  engine.ops().embed(truth.mat(kTokens, kHidden), tokens, table);
  EXPECT_EQ(std::memcmp(read.data, truth.data(), size_t(kTokens * kHidden) * sizeof(float)), 0);
  EXPECT_GT(resident_bytes(inside), 0u);
}

INSTANTIATE_TEST_SUITE_P(Bits, EngineEmbedding, testing::Combine(testing::Values(4, 8, 32), testing::Bool()));

TEST(Engine, CacheHoldsTokensOrBytesOrSequences) {
  const auto tokens = [](const EngineOptions& options) {
    return TinyEngine(random_model(), options)->cache().max_tokens();
  };
  TinyEngine one(random_model(), {.context = 128});
  const int64_t bytes = one->cache().bytes_for(128);
  EXPECT_EQ(one->cache().max_tokens(), 128);
  EXPECT_EQ(tokens({.context = 128, .cache_tokens = 192}), 192);
  EXPECT_EQ(tokens({.context = 128, .cache_bytes = 3 * bytes + 1}), 384);
  EXPECT_EQ(tokens({.context = 128, .sequences = 3}), 384);
  EXPECT_EQ(TinyEngine(random_model(), {.cache_bytes = bytes})->context(), 128);  // of 512 that the model has
  const TempDir dir;
  random_model().write(dir.path());
  EXPECT_THAT(refusal({.model = dir.path(), .context = 129, .cache_bytes = bytes}),
              HasSubstr("context of 129"));
  EXPECT_THAT(refusal({.model = dir.path(), .cache_bytes = 1}), HasSubstr("cache of 1 bytes is too small"));
  EXPECT_THAT(refusal({.model = dir.path(), .sequences = 0}), HasSubstr("at least one sequence"));
}

TEST(Engine, ContextDefaultsToWhatTheModelWasTrainedFor) {
  TinyEngine tiny(random_model());
  EXPECT_EQ(tiny->context(), 512);
  EXPECT_EQ(tiny->cache().bytes_allocated(), 0);  // memory follows the tokens in use
}

TEST(Engine, RefusesOptionsByName) {
  const TempDir dir;
  random_model().write(dir.path());
  EXPECT_THAT(refusal({.model = dir / "absent"}), HasSubstr("absent: no such directory"));
  EXPECT_THAT(refusal({.model = dir / "config.json"}), HasSubstr("config.json: no such directory"));
  EXPECT_THAT(refusal({.model = dir.path(), .recipe = "w2a2"}), HasSubstr("recipe w2a2"));
  EXPECT_THAT(refusal({.model = dir.path(), .device = "tpu"}), HasSubstr("device tpu: unknown"));
  EXPECT_THAT(refusal({.model = dir.path(), .context = -1}), HasSubstr("context -1"));
  EXPECT_THAT(refusal({.model = dir.path(), .ops = "sse9"}), HasSubstr("sse9: not available"));
  for (int64_t chunk : {-64, 1, 63, 100})
    EXPECT_THAT(refusal({.model = dir.path(), .prefill_chunk = chunk}),
                HasSubstr("prefill chunk " + std::to_string(chunk)));
}

TEST(Engine, RefusesATokenizerOfAnotherModel) {
  const TempDir dir;
  TinyModel model = random_model();
  model.config["vocab_size"] = 260;
  for (const char* name : {"lm_head.weight", "model.embed_tokens.weight"})
    model.tensors[name] = f32_tensor({260, 16}, std::vector<float>(260 * 16));
  model.write(dir.path());
  EXPECT_THAT(refusal({.model = dir.path()}),
              HasSubstr("vocab_size is 260 but the tokenizer has 261 tokens"));
}

TEST(Engine, AModelWithoutATemplateStillLoads) {
  TinyModel model = random_model();
  model.tokenizer_config.erase("chat_template");
  TinyEngine tiny(model);
  EXPECT_EQ(tiny->chat_template(), nullptr);
}

}  // namespace
}  // namespace stamp
