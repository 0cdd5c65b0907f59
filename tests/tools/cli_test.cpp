#include "tools/cli.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/error.h"
#include "tests/temp_dir.h"
#include "tools/statistics.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

/// The parameters that a command line leads to, with what generation_config.json says.
SamplingParams resolve(std::vector<std::string> arguments, const GenerationConfig& config = {}) {
  CLI::App app;
  SamplingFlags flags;
  flags.add(app);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  app.parse(arguments);
  return flags.resolve(config);
}

GenerationConfig sampling_config() {
  GenerationConfig config;
  config.do_sample = true;
  config.temperature = 0.6f;
  config.top_k = 40;
  config.top_p = 0.9f;
  config.min_p = 0.1f;
  config.repetition_penalty = 1.2f;
  return config;
}

TEST(SamplingFlags, NothingGivenIsGreedy) {
  const SamplingParams params = resolve({});
  EXPECT_EQ(params.temperature, 0);
  EXPECT_EQ(params.top_k, 0);
  EXPECT_EQ(params.top_p, 1);
  EXPECT_EQ(params.min_p, 0);
  EXPECT_EQ(params.repetition_penalty, 1);
  EXPECT_EQ(params.presence_penalty, 0);
  EXPECT_EQ(params.frequency_penalty, 0);
  EXPECT_EQ(params.seed, 0u);
  EXPECT_TRUE(params.logit_bias.empty());
}

TEST(SamplingFlags, EveryFlagArrives) {
  const SamplingParams params = resolve({"--temp",
                                         "0.5",
                                         "--top-k",
                                         "7",
                                         "--top-p",
                                         "0.25",
                                         "--min-p",
                                         "0.125",
                                         "--repeat-penalty",
                                         "1.5",
                                         "--presence-penalty",
                                         "-1",
                                         "--frequency-penalty",
                                         "2",
                                         "--seed",
                                         "18446744073709551615",
                                         "--logit-bias",
                                         "5=-100",
                                         "--logit-bias",
                                         "6=1.5"});
  EXPECT_EQ(params.temperature, 0.5f);
  EXPECT_EQ(params.top_k, 7);
  EXPECT_EQ(params.top_p, 0.25f);
  EXPECT_EQ(params.min_p, 0.125f);
  EXPECT_EQ(params.repetition_penalty, 1.5f);
  EXPECT_EQ(params.presence_penalty, -1);
  EXPECT_EQ(params.frequency_penalty, 2);
  EXPECT_EQ(params.seed, ~uint64_t{0});
  EXPECT_EQ(params.logit_bias, (std::vector<std::pair<int32_t, float>>{{5, -100}, {6, 1.5f}}));
}

TEST(SamplingFlags, AModelThatSamplesDecidesWhereNoFlagDoes) {
  const SamplingParams model = resolve({}, sampling_config());
  EXPECT_EQ(model.temperature, 0.6f);
  EXPECT_EQ(model.top_k, 40);
  EXPECT_EQ(model.top_p, 0.9f);
  EXPECT_EQ(model.min_p, 0.1f);
  EXPECT_EQ(model.repetition_penalty, 1.2f);
  const SamplingParams mixed = resolve({"--top-k", "0", "--temp", "0"}, sampling_config());
  EXPECT_EQ(mixed.top_k, 0);
  EXPECT_EQ(mixed.temperature, 0);
  EXPECT_EQ(mixed.top_p, 0.9f);
  GenerationConfig unset;
  unset.do_sample = true;
  EXPECT_EQ(resolve({}, unset).temperature, 1);  // as in transformers
  // Without do_sample only the penalty counts, which transformers applies to greedy search, too.
  GenerationConfig greedy = sampling_config();
  greedy.do_sample = false;
  EXPECT_EQ(resolve({}, greedy).temperature, 0);
  EXPECT_EQ(resolve({}, greedy).top_k, 0);
  EXPECT_EQ(resolve({}, greedy).repetition_penalty, 1.2f);
}

TEST(SamplingFlags, ALogitBiasIsIdAndValue) {
  for (const char* wrong : {"", "5", "5=", "=1", "5=x", "5=1x", "x=1", "5 1"})
    EXPECT_THROW(resolve({"--logit-bias", wrong}), InputError) << wrong;
}

TEST(Terminal, DurationsAreReadable) {
  EXPECT_EQ(format_duration(-1), "0 s");
  EXPECT_EQ(format_duration(0.4), "0 s");
  EXPECT_EQ(format_duration(12.3), "12 s");
  EXPECT_EQ(format_duration(59.6), "1:00");
  EXPECT_EQ(format_duration(187), "3:07");
  EXPECT_EQ(format_duration(3600), "1:00:00");
  EXPECT_EQ(format_duration(3 * 86400.0 + 62), "72:01:02");
}

TEST(Terminal, JsonIsWrittenWholeOrNotAtAll) {
  const TempDir dir;
  const std::string file = (dir / "out.json").string();
  write_json("", {{"a", 1}});
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  write_json(file, {{"z", 1}, {"a", "é"}});
  EXPECT_EQ(slurp(file), "{\n  \"z\": 1,\n  \"a\": \"é\"\n}\n");
  write_json(file, {{"half", "caf\xc3"}});  // half a character, as a text cut off may end
  EXPECT_EQ(nlohmann::json::parse(slurp(file))["half"], "caf\ufffd");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
  EXPECT_THROW(write_json((dir / "absent/out.json").string(), {}), Error);
}

TEST(Terminal, LinksAndDevicesStayWhatTheyAre) {
  const TempDir dir;
  std::filesystem::create_symlink("real", dir / "link");
  std::filesystem::create_symlink("link", dir / "second");
  for (const char* text : {"made through a link to nothing", "replaced"}) {
    std::filesystem::remove(dir / "real");
    if (std::string_view(text) == "replaced") write_text((dir / "real").string(), "before");
    write_text((dir / "second").string(), text);
    EXPECT_EQ(slurp((dir / "real").string()), text);
    EXPECT_TRUE(std::filesystem::is_symlink(dir / "link") && std::filesystem::is_symlink(dir / "second"));
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 3);
  write_text("/dev/null", "gone");
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
  EXPECT_THROW(write_text("/dev/full", "too much"), Error);
  EXPECT_THROW(write_text(dir.path().string(), "a directory"), Error);
}

TEST(Terminal, TextFilesAreReadAsBytes) {
  const TempDir dir;
  const std::string bytes("line\r\n\0\xff", 8);
  write_file(dir / "x", bytes);
  EXPECT_EQ(read_text((dir / "x").string()), bytes);
  EXPECT_THROW(read_text((dir / "absent").string()), InputError);
  EXPECT_THROW(read_text(dir.path().string()), InputError);
}

TEST(Statistics, RatesCountNewTokensOverTheirTime) {
  GenerateResult result;
  EXPECT_EQ(prefill_rate(result), 0);
  EXPECT_EQ(decode_rate(result), 0);
  result.prompt_tokens = 100;
  result.reused_tokens = 60;
  result.first_token_seconds = 0.5;
  result.tokens = {1, 2, 3, 4, 5};
  result.decode_seconds = 2;
  EXPECT_EQ(prefill_rate(result), 80);
  EXPECT_EQ(decode_rate(result), 2);
  result.tokens = {1};
  EXPECT_EQ(decode_rate(result), 0);
}

}  // namespace
}  // namespace stamp
