// SmolLM2-135M-Instruct against Hugging Face transformers in float32: tokens, logits, greedy continuations
// and perplexity. Run for the vector Ops, or the best there is where a machine has none.
#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "engine/generate.h"
#include "engine/perplexity.h"
#include "kernels/argmax.h"
#include "models/file.h"
#include "tests/golden/golden.h"

namespace stamp {
namespace {

const std::filesystem::path kModel = STAMP_SMOLLM2_DIR;
const std::filesystem::path kEvalText = STAMP_EVAL_TEXT;

std::vector<std::string> fast_ops() {
  std::vector<std::string> names = available_ops();
  std::erase_if(names, [&](const std::string& name) {
    return name != names.front() && (name == "scalar" || name == "reference");
  });
  return names;
}

class SmolLm2Test : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (kModel.empty())
      GTEST_SKIP() << "configure with -DSTAMP_SMOLLM2_DIR; tools/gguf_to_hf.py makes the directory";
  }
  std::unique_ptr<Engine> engine(int64_t context = 2048) {
    return std::make_unique<Engine>(
        EngineOptions{.model = kModel, .threads = 2, .context = context, .ops = GetParam()});
  }
};

struct GoldenPrompts {
  GoldenPrompts() : json(golden::load("smollm2.json")) {
    for (const auto& prompt : json["prompts"]) by_name[prompt["name"]] = prompt;
  }
  nlohmann::json json;
  std::map<std::string, nlohmann::json> by_name;
};

TEST_P(SmolLm2Test, GoldenValuesBelongToTheModel) {
  const std::string model = golden::fingerprint(kModel), tokenizer = sha256_file(kModel / "tokenizer.json");
  for (const char* file : {"smollm2.json", "perplexity.json"}) {
    const nlohmann::json json = golden::load(file);
    EXPECT_EQ(json["fingerprint"], model) << file << ": run tests/golden/make.py";
    EXPECT_EQ(json["tokenizer_sha256"], tokenizer) << file << ": run tests/golden/make.py";
  }
  EXPECT_EQ(golden::load("smollm2.json")["prompts_sha256"], sha256_file(golden::kDirectory / "prompts.json"));
}

TEST_P(SmolLm2Test, LogitsEqualTransformers) {
  const auto engine = this->engine();
  const GoldenPrompts prompts;
  const std::vector<int32_t> sample_ids = prompts.json["sample_ids"];
  ASSERT_GE(prompts.json["rows"].size(), 20u);
  for (const auto& row : prompts.json["rows"]) {
    const std::string name = row["prompt"];
    const int64_t position = row["position"];
    SCOPED_TRACE(name + ", position " + std::to_string(position));
    const std::vector<int32_t> ids = prompts.by_name.at(name)["ids"];
    Session session(*engine);
    const std::span<float> logits = session.advance(std::span(ids).first(size_t(position + 1)))->host(0);

    double sum = 0;
    for (float logit : logits) sum += std::exp(double(logit));
    EXPECT_NEAR(std::log(sum), row["logsumexp"].get<double>(), 2e-5 * row["logsumexp"].get<double>());

    std::vector<int32_t> ids_compared = row["top_ids"];
    std::vector<float> truth = row["top"], values;
    const std::vector<float> sample = row["sample"];
    ids_compared.insert(ids_compared.end(), sample_ids.begin(), sample_ids.end());
    truth.insert(truth.end(), sample.begin(), sample.end());
    for (int32_t id : ids_compared) values.push_back(logits[size_t(id)]);
    golden::expect_equal_logits(values, truth);
    EXPECT_EQ(argmax(logits), ids_compared.front());
  }
}

TEST_P(SmolLm2Test, GreedyContinuationsEqualTransformers) {
  const auto engine = this->engine();
  const GoldenPrompts prompts;
  ASSERT_EQ(prompts.by_name.size(), 20u);
  for (const auto& [name, prompt] : prompts.by_name) {
    const std::vector<int32_t> ids =
        engine->tokenizer().encode(prompt["text"].get<std::string>(), {.add_special = false});
    EXPECT_EQ(ids, prompt["ids"].get<std::vector<int32_t>>()) << name;
    Session session(*engine);
    const GenerateResult result =
        generate(session, {.prompt = ids, .max_tokens = 64, .ignore_eos = true}, {});
    EXPECT_EQ(result.tokens, prompt["greedy"].get<std::vector<int32_t>>())
        << name << ": transformers' best token led by at least " << prompt["smallest_gap"];
  }
}

void expect_golden_perplexity(Engine& engine, const nlohmann::json& run, const std::string& text,
                              int64_t chunks) {
  const std::string protocol = run["protocol"];
  SCOPED_TRACE(run["text"].get<std::string>() + ", " + protocol);
  ASSERT_EQ(sha256_hex(text), run["sha256"]);
  const auto& truth = run["chunks"];
  const PerplexityResult result = perplexity(engine, text,
                                             {.protocol = parse_protocol(protocol),
                                              .context = run["context"],
                                              .stride = run["stride"],
                                              .max_chunks = chunks},
                                             {});
  ASSERT_EQ(result.chunks.size(), chunks < 0 ? truth.size() : size_t(chunks));
  for (size_t i = 0; i < result.chunks.size(); ++i) {
    EXPECT_EQ(result.chunks[i].tokens, truth[i]["tokens"].get<int64_t>()) << "window " << i;
    const double nll = truth[i]["nll"];
    EXPECT_NEAR(result.chunks[i].nll, nll, 1e-6 * nll) << "window " << i;
  }
  if (chunks < 0) {
    EXPECT_NEAR(result.ppl, run["ppl"].get<double>(), 1e-5 * run["ppl"].get<double>());
  }
}

TEST_P(SmolLm2Test, PerplexityOfEveryProtocolEqualsTransformers) {
  const auto engine = this->engine();
  const std::string text = read_file(std::filesystem::path(STAMP_SOURCE_DIR) / "LICENSE", 1 << 20);
  std::set<std::string> protocols;
  const nlohmann::json golden = golden::load("perplexity.json");
  for (const auto& run : golden["runs"]) {
    if (run["text"] != "LICENSE") continue;
    protocols.insert(run["protocol"]);
    expect_golden_perplexity(*engine, run, text, -1);
  }
  EXPECT_EQ(protocols, (std::set<std::string>{"gptq", "strided", "llama.cpp", "document"}));
}

TEST_P(SmolLm2Test, PerplexityOfWikiText2EqualsTransformers) {
  if (kEvalText.empty()) GTEST_SKIP() << "configure with -DSTAMP_EVAL_TEXT, WikiText-2's raw test split";
  const auto engine = this->engine();
  const nlohmann::json golden = golden::load("perplexity.json");
  for (const auto& run : golden["runs"])
    if (run["context"] == 2048) expect_golden_perplexity(*engine, run, read_file(kEvalText, 1 << 24), 2);
}

INSTANTIATE_TEST_SUITE_P(FastOps, SmolLm2Test, testing::ValuesIn(fast_ops()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace stamp
