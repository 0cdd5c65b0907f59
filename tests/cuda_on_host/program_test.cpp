// The command line with the CUDA kernels on the executor, `stamp_cuda_host --device cuda-host`: the text it
// generates is the CPU's, and SmolLM2's logits are transformers'.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "engine/generate.h"
#include "kernels/argmax.h"
#include "models/file.h"
#include "tests/engine/tiny_engine.h"
#include "tests/golden/golden.h"

namespace stamp {
namespace {

const std::filesystem::path kSmolLm2 = STAMP_SMOLLM2_DIR;
#if defined(__x86_64__)
constexpr const char* kCpu = "avx2";
#else
constexpr const char* kCpu = "scalar";
#endif

/// Runs the program; returns what --json wrote.
nlohmann::json run_program(const TempDir& dir, const std::string& arguments) {
  const std::filesystem::path json = dir / "result.json";
  const std::string command = "env -u STAMP_FORCE_OPS '" STAMP_CUDA_HOST_PROGRAM "' " + arguments +
                              " --json '" + json.string() + "' </dev/null >'" + (dir / "text.txt").string() +
                              "' 2>'" + (dir / "log.txt").string() + "'";
  EXPECT_EQ(std::system(command.c_str()), 0) << command << '\n' << read_file(dir / "log.txt", 1 << 16);
  return read_json_file(json);
}

/// The logits of the last prompt token and of each token after it but the last, on one of the CPU's Ops.
std::vector<std::vector<float>> logits_of_cpu(Engine& engine, std::span<const int32_t> prompt,
                                              std::span<const int32_t> tokens) {
  Session session(engine);
  std::vector<std::vector<float>> rows;
  std::span<float> logits = session.advance(prompt)->host(0);
  for (const int32_t& token : tokens) {
    rows.emplace_back(logits.begin(), logits.end());
    logits = session.advance({&token, 1})->host(0);
  }
  return rows;
}

/// Generates greedily through the command line on the executor. Every token must be the CPU's likeliest after
/// the ones before it, but for ties, of which there may be some (random models' logits lie close together):
/// where the two logits are closer than those of the CPU's own operations (`others`) come to each other,
/// because a value that float rounding moves over a tie changes an integer.
void expect_text_of_cpu(const std::filesystem::path& model, const std::string& recipe,
                        const std::string& text, int64_t count,
                        const std::vector<std::string>& others = {"scalar"}) {
  const TempDir dir;
  write_file(dir / "prompt.txt", text);
  const nlohmann::json result =
      run_program(dir, "generate --device cuda-host --model '" + model.string() + "' --recipe '" + recipe +
                           "' -f '" + (dir / "prompt.txt").string() +
                           "' --temp 0 --ignore-eos --ctx 1024 -n " + std::to_string(count));
  EXPECT_EQ(result["isa"], "cuda_host");
  const std::vector<int32_t> tokens = result["tokens"];
  ASSERT_EQ(int64_t(tokens.size()), count);

  Engine engine({.model = model, .recipe = recipe, .context = 1024, .ops = kCpu});
  const std::vector<int32_t> prompt =
      engine.tokenizer().encode(text, {.add_special = true, .parse_special = true});
  const auto rows = logits_of_cpu(engine, prompt, tokens);
  double noise = 0;
  int64_t ties = 0;
  for (const std::string& ops : others) {
    Engine other({.model = model, .recipe = recipe, .context = 1024, .ops = ops});
    const auto other_rows = logits_of_cpu(other, prompt, tokens);
    for (size_t i = 0; i < rows.size(); ++i)
      for (size_t v = 0; v < rows[i].size(); ++v)
        noise = std::max(noise, double(std::fabs(rows[i][v] - other_rows[i][v])));
  }
  std::vector<int32_t> likeliest;
  for (size_t i = 0; i < rows.size(); ++i) {
    likeliest.push_back(argmax(rows[i]));
    const double gap = double(rows[i][size_t(likeliest[i])]) - double(rows[i][size_t(tokens[i])]);
    EXPECT_LE(gap, 2 * noise) << "token " << i << " is " << tokens[i] << ", the CPU's " << likeliest[i];
    ties += tokens[i] != likeliest[i];
  }
  EXPECT_LE(ties, count / 4) << "the CPU's logits differ among themselves by " << noise;
  EXPECT_EQ(read_file(dir / "text.txt", 1 << 16), engine.tokenizer().decode(tokens, true) + "\n");
}

/// Over two pages: block 0, coded blocks and sealed pages, an open one that decoding seals.
const std::string kLongPrompt =
    read_file(std::filesystem::path(STAMP_SOURCE_DIR) / "LICENSE", 1 << 20).substr(300, 600);

TEST(CudaHostProgram, TinyModelsGenerateTheCpusTokens) {
  const TempDir dir;
  const std::string coded = coded_recipe(dir);
  for (const char* model : {"gqa", "both_biases", "odd_sizes_bf16"}) {
    for (const std::string& recipe : {std::string("f32"), std::string("w8a8"), coded}) {
      SCOPED_TRACE(std::string(model) + ", " + recipe);
      expect_text_of_cpu(golden::kTinyModels / model, recipe, kLongPrompt.substr(0, 150), 24,
                         {"scalar", "reference"});
    }
  }
}

class SmolLm2CudaHost : public testing::Test {
 protected:
  void SetUp() override {
    if (kSmolLm2.empty()) GTEST_SKIP() << "configure with -DSTAMP_SMOLLM2_DIR";
  }
};

/// A text that the model is sure about: elsewhere the 8-bit recipes of two CPUs part after a dozen tokens.
TEST_F(SmolLm2CudaHost, GeneratesTheCpusThirtyTwoTokens) {
  expect_text_of_cpu(kSmolLm2, "w8a8", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10,", 32);
}

TEST_F(SmolLm2CudaHost, GeneratesTheCpusTokensFromCodedBlocks) {
  const TempDir dir;
  const std::string plan =
      R"({"low_bits": 4, "high_bits": 8, "high_rows": 2, "transform": "haar", "levels": 5})";
  write_file(dir / "recipe.json", R"({"name": "coded", "weights": {"bits": 4, "group": 64, "head_bits": 8},
    "activations": )" + plan + R"(, "kv": )" +
                                      plan + "}");
  expect_text_of_cpu(kSmolLm2, (dir / "recipe.json").string(), kLongPrompt, 4);
}

TEST_F(SmolLm2CudaHost, LogitsEqualTransformers) {
  const nlohmann::json golden = golden::load("smollm2.json");
  std::map<std::string, std::vector<int32_t>> prompts;
  for (const auto& prompt : golden["prompts"])
    prompts[prompt["name"]] = prompt["ids"].get<std::vector<int32_t>>();
  const std::vector<int32_t> sample_ids = golden["sample_ids"];
  Engine engine({.model = kSmolLm2, .context = 64, .prefill_chunk = 64, .ops = "cuda_host"});
  int64_t compared = 0;
  for (const auto& row : golden["rows"]) {
    const int64_t position = row["position"];
    if (row["prompt"] != "fact") continue;
    Session session(engine);
    const std::span<float> logits =
        session.advance(std::span(prompts.at(row["prompt"])).first(size_t(position + 1)))->host(0);
    std::vector<int32_t> ids = row["top_ids"];
    std::vector<float> truth = row["top"], values;
    const std::vector<float> sample = row["sample"];
    ids.insert(ids.end(), sample_ids.begin(), sample_ids.end());
    truth.insert(truth.end(), sample.begin(), sample.end());
    for (const int32_t id : ids) values.push_back(logits[size_t(id)]);
    golden::expect_equal_logits(values, truth);
    EXPECT_EQ(argmax(logits), ids.front());
    ++compared;
  }
  EXPECT_GE(compared, 1);
}

}  // namespace
}  // namespace stamp
