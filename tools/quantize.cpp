#include <fmt/format.h>

#include <memory>

#include "kernels/error.h"
#include "kernels/ops.h"
#include "models/prepare/calibration.h"
#include "models/prepare/checkpoint.h"
#include "models/prepare/prepare.h"
#include "tools/cli.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

constexpr const char* kFooter =
    R"(Recipes: f32, w8a8, w4a8, w4a4kv4, w4a4kv4-stamp, w4a8kv4-stamp, or a JSON file (see configs/).
GPTQ recipes look at activations: of the text of --calibrate, else of text that the model writes by itself.

Examples:
  stamp quantize -m DIR --out DIR-w4 --recipe w4a8kv4-stamp
  stamp quantize -m DIR --out DIR-w4 --recipe w4a4kv4-stamp --calibrate articles.txt
  stamp generate -m DIR-w4 -p "Once upon a time")";

constexpr int64_t kCalibrationTokens = 32768;  // more of a text changes little

struct QuantizeFlags {
  EngineOptions engine;
  std::string out, calibrate;
};

int run(const QuantizeFlags& flags) {
  if (flags.engine.recipe.empty()) throw InputError("--recipe is missing; see stamp quantize --help");
  const Recipe recipe = Recipe::load(flags.engine.recipe);
  const ModelConfig config = ModelConfig::load(flags.engine.model);
  if (!config.stored_recipe.empty()) throw InputError(flags.engine.model.string() + ": is quantised already");
  if (std::filesystem::exists(flags.out))
    throw InputError(flags.out + ": exists already; give a new directory");
  const ModelWeights source = ModelWeights::load(flags.engine.model, config);
  std::vector<int32_t> tokens;
  if (!flags.calibrate.empty()) {
    if (!recipe.weights.gptq) throw InputError("--calibrate needs a recipe whose method is gptq");
    tokens = first_tokens(flags.engine.model, read_text(flags.calibrate), kCalibrationTokens);
  }
  const auto ops = make_ops({}, flags.engine.threads);
  ModelWeights weights;
  {
    Progress progress("quantize");
    weights = prepare_weights(
        config, source, recipe,
        {.ops = ops.get(), .calibration = tokens, .progress = [&](int64_t done, int64_t total) {
           progress.update(done, total);
         }});
  }
  save_checkpoint(flags.out, flags.engine.model, weights, recipe);
  print(fmt::format("{}: recipe {}, matrices {:.1f} MiB\n", flags.out, recipe.name,
                    double(weights.matrix_bytes()) / 1048576.0));
  return 0;
}

}  // namespace

void add_quantize(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<QuantizeFlags>();
  CLI::App* command = app.add_subcommand("quantize", "Write a quantised model directory");
  command->footer(kFooter);
  add_model_flags(*command, flags->engine);
  add_flag_with_mirror(*command, "-o,--out", flags->out, "The directory to make")->required();
  add_flag_with_mirror(*command, "--calibrate", flags->calibrate, "Text whose activations GPTQ looks at");
  command->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace stamp
