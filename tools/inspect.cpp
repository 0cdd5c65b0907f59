#include "engine/inspect.h"

#include <fmt/format.h>

#include <memory>
#include <optional>

#include "engine/sensitivity.h"
#include "engine/tune.h"
#include "kernels/error.h"
#include "models/json.h"
#include "models/prepare/calibration.h"
#include "models/prepare/checkpoint.h"
#include "models/prepare/prepare.h"
#include "models/sha256.h"
#include "tools/cli.h"
#include "tools/report.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

constexpr const char* kFooter =
    R"(At least one of --verify, --report and --tune.
  --verify  every file of a directory made by stamp quantize against its manifest; a line for each that differs
  --report  a page with the energy over coefficients, the error of each transform by layer, the bit plan, the weights'
            errors and the correlation of tokens; best with a --text like what the model is used for
  --tune    for each input of a linear the transform, its levels and the precisions of its coefficients that cost the
            answers least at the bits of the recipe's plan or of --bits; writes a recipe for --recipe. The text runs
            once for every input of every layer, which takes minutes: 1000 to 2000 tokens are enough

Examples:
  stamp inspect -m DIR-w4 --verify
  stamp inspect -m DIR --recipe w4a4kv4-stamp --text articles.txt --report report.html
  stamp inspect -m DIR --recipe w4a4kv4-stamp --text articles.txt --tune tuned.json
  stamp perplexity -m DIR --recipe tuned.json --file wikitext-2-test.raw --json tuned-ppl.json
  stamp inspect -m DIR --recipe tuned.json --text articles.txt --report report.html --perplexities tuned-ppl.json)";

struct InspectFlags {
  EngineOptions engine;
  bool verify = false;
  std::string text, report, tune, sensitivities, json;
  int64_t tokens = 2048;
  double bits = 0;
  std::vector<std::string> perplexities, transforms;
};

/// Whether every file of a directory that `stamp quantize` made is as it was written.
bool verify(const std::filesystem::path& directory) {
  const std::vector<std::string> problems = verify_checkpoint(directory);
  for (const std::string& problem : problems)
    fmt::print(stderr, "stamp: {}: {}\n", printable(directory.string()), printable(problem));
  if (problems.empty()) print(fmt::format("{}: every file is as it was written\n", directory.string()));
  return problems.empty();
}

void check(const InspectFlags& flags) {
  const bool runs = !flags.report.empty() || !flags.tune.empty();
  if (!flags.verify && !runs) throw InputError("nothing to do: give --verify, --report or --tune");
  if (!runs && !flags.json.empty()) throw InputError("--json needs --report or --tune");
  if (flags.bits != 0 && flags.tune.empty()) throw InputError("--bits belongs to --tune");
  if (!flags.transforms.empty() && flags.tune.empty()) throw InputError("--transforms belongs to --tune");
  if (!flags.sensitivities.empty() && flags.tune.empty())
    throw InputError("--sensitivities belongs to --tune");
  if (!flags.perplexities.empty() && flags.report.empty())
    throw InputError("--perplexities belongs to --report");
}

PrepareOptions with_progress(Ops& ops, Progress& progress) {
  return {.ops = &ops, .calibration = {}, .progress = [&](int64_t done, int64_t total) {
            progress.update(done, total);
          }};
}

/// A model ready to be inspected: its matrices in floats where the directory has them.
struct Subject {
  explicit Subject(const EngineOptions& options)
      : config(ModelConfig::load(options.model)),
        recipe(choose_recipe(options, config)),
        ops(make_ops(options.ops, options.threads)),
        source(ModelWeights::load(options.model, config)) {
    if (is_stored() || float_recipe(recipe).keeps_weights()) return;
    Progress progress("rotate");
    rotated = prepare_weights(config, source, float_recipe(recipe), with_progress(*ops, progress));
  }
  bool is_stored() const { return !config.stored_recipe.empty(); }
  const ModelWeights& weights() const { return rotated ? *rotated : source; }

  ModelConfig config;
  Recipe recipe;
  std::unique_ptr<Ops> ops;
  ModelWeights source;
  std::optional<ModelWeights> rotated;
};

void measure_weights(Report& report, const Subject& subject) {
  if (subject.is_stored())
    report.no_weight_errors =
        "The directory is quantised already, the matrices it was made from are not at hand: inspect those.";
  else if (subject.recipe.weights.bits == 16)
    report.no_weight_errors = "The recipe leaves the matrices as they are stored.";
  if (!report.no_weight_errors.empty()) return;
  Progress progress("quantize");
  const ModelWeights quantised =
      prepare_weights(subject.config, subject.source, subject.recipe, with_progress(*subject.ops, progress));
  for (size_t i = 0; i < quantised.layers.size(); ++i)
    report.weight_errors.push_back(
        weight_errors(*subject.ops, subject.weights().layers[i], quantised.layers[i]));
}

std::vector<int32_t> text_tokens(const InspectFlags& flags, const std::string& text, const Subject& subject) {
  if (flags.text.empty()) {
    if (subject.is_stored())
      throw InputError("a quantised model does not write its own text: give --text FILE to run it over");
    return self_written_text(subject.config, subject.source, *subject.ops, flags.tokens);
  }
  return first_tokens(flags.engine.model, text, flags.tokens);
}

nlohmann::ordered_json to_json(const Inspection& inspection) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (const auto& layer : inspection.layers) {
    nlohmann::ordered_json sources;
    for (int s = 0; s < kSources; ++s) {
      nlohmann::ordered_json sqnr;
      const SourceStatistics& stats = layer[size_t(s)];
      for (size_t t = 0; t < inspection.transforms.size(); ++t)
        sqnr[transform_text(inspection.transforms[t])] = sqnr_db(stats.error(t, stats.plan.high_rows));
      sources[source_name(Source(s))] = {{"channels", stats.channels},
                                         {"mean_bits", stats.plan.mean_bits()},
                                         {"autocorrelation_1", stats.autocorrelation(1)},
                                         {"sqnr_db", sqnr}};
    }
    layers.push_back(sources);
  }
  return layers;
}

nlohmann::ordered_json to_json(const TuneResult& t) {
  return {{"fixed_bits", t.fixed_bits}, {"fixed_loss", t.fixed_loss}, {"bits", t.bits}, {"loss", t.loss}};
}

/// Those of tuned_transforms() that were asked for by name; all of them by default.
std::vector<Transform> chosen_transforms(const InspectFlags& flags) {
  std::vector<Transform> chosen;
  for (const Transform& t : tuned_transforms())
    if (flags.transforms.empty() ||
        std::any_of(flags.transforms.begin(), flags.transforms.end(),
                    [&](const std::string& name) { return transform_text(t).starts_with(name); }))
      chosen.push_back(t);
  return chosen;
}

/// What sensitivities depend on, but for the weights' values. Of the plans that is the low precision alone.
std::string fingerprint(const InspectFlags& flags, const Subject& subject, std::span<const int32_t> tokens) {
  const std::string_view ids(reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes());
  Recipe rotation;
  rotation.rotation = subject.recipe.rotation;
  std::string low_bits;
  for (int64_t layer = 0; layer < subject.config.layers; ++layer)
    for (int s = 0; s < kSites; ++s)
      low_bits += fmt::format(" {}", inspected_plan(subject.recipe, layer, Source(s)).low_bits);
  return sha256_hex(sha256_file(flags.engine.model / "config.json") + rotation.to_json() + low_bits +
                    sha256_hex(ids));
}

/// From the file that an earlier search wrote, else measured.
Sensitivities sensitivities_of(const InspectFlags& flags, const Subject& subject,
                               std::span<const int32_t> tokens) {
  const std::string& file = flags.sensitivities;
  const std::string of = file.empty() ? "" : fingerprint(flags, subject, tokens);
  if (!file.empty() && std::filesystem::exists(file)) {
    const nlohmann::json json = read_json_file(file);
    const JsonFields fields(json, file);
    if (fields.string("of") != of)
      throw InputError(file + ": was measured for another model, recipe or text; delete it");
    try {
      return json.at("sensitivities").get<Sensitivities>();
    } catch (const nlohmann::json::exception&) {
      fields.fail("sensitivities", "is damaged; delete the file");
    }
  }
  Progress progress("probe");
  const Sensitivities measured = measure_sensitivities(
      subject.config, subject.weights(), subject.recipe,
      {.ops = subject.ops.get(), .tokens = tokens, .progress = [&](int64_t done, int64_t total) {
         progress.update(done, total);
       }});
  write_json(file, {{"of", of}, {"sensitivities", measured}});
  return measured;
}

TuneResult run_tune(const InspectFlags& flags, const Subject& subject, const Inspection& inspection,
                    std::span<const int32_t> tokens) {
  const Sensitivities sensitivities = sensitivities_of(flags, subject, tokens);
  const double budget = flags.bits > 0 ? flags.bits : subject.recipe.activations.plan.mean_bits();
  return tune(inspection, sensitivities, subject.recipe,
              {.budget = budget, .transforms = chosen_transforms(flags)});
}

int run(const InspectFlags& flags) {
  check(flags);
  if (flags.verify && !verify(flags.engine.model)) return 2;
  if (flags.report.empty() && flags.tune.empty()) return 0;
  Report report;
  for (const std::string& file : flags.perplexities) report.perplexities.push_back(PerplexityRow::load(file));
  const std::string text = flags.text.empty() ? "" : read_text(flags.text);
  const Subject subject(flags.engine);
  const std::vector<int32_t> tokens = text_tokens(flags, text, subject);

  std::vector<Transform> transforms = report_transforms(subject.recipe, subject.config.layers);
  if (!flags.tune.empty())
    for (const Transform& t : tuned_transforms())
      if (std::find(transforms.begin(), transforms.end(), t) == transforms.end()) transforms.push_back(t);
  {
    Progress progress("inspect");
    report.inspection =
        inspect(subject.config, subject.weights(), subject.recipe,
                {.ops = subject.ops.get(),
                 .tokens = tokens,
                 .transforms = transforms,
                 .products = !flags.tune.empty(),
                 .progress = [&](int64_t done, int64_t total) { progress.update(done, total); }});
  }
  nlohmann::ordered_json json{{"recipe", subject.recipe.name},
                              {"tokens", report.inspection.tokens},
                              {"blocks", report.inspection.blocks},
                              {"layers", to_json(report.inspection)}};
  if (!flags.tune.empty()) {
    const TuneResult tuned = run_tune(flags, subject, report.inspection, tokens);
    write_text(flags.tune, tuned.recipe.to_json() + "\n");
    print(fmt::format(
        "{}: recipe {}, predicted divergence {:.4f} nats a token at {:.4f} bits; {} has {:.4f} at {:.4f}\n",
        flags.tune, tuned.recipe.name, tuned.loss, tuned.bits, subject.recipe.name, tuned.fixed_loss,
        tuned.fixed_bits));
    json["tune"] = to_json(tuned);
  }
  if (!flags.report.empty()) {
    report.model = flags.engine.model.string();
    report.recipe = subject.recipe;
    measure_weights(report, subject);
    write_text(flags.report, html_report(report));
    print(fmt::format("{}: {} tokens, {} blocks measured, recipe {}\n", flags.report,
                      report.inspection.tokens, report.inspection.blocks, subject.recipe.name));
    for (const auto& layer : report.weight_errors) {
      std::vector<double> decibels;
      for (double error : layer) decibels.push_back(sqnr_db(error));
      json["weights_sqnr_db"].push_back(decibels);
    }
  }
  write_json(flags.json, json);
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command =
      app.add_subcommand("inspect", "Look into a model: its files, activations and errors; tune");
  command->footer(kFooter);
  add_model_flags(*command, flags->engine);
  add_switch_with_mirror(*command, "--verify", flags->verify,
                         "Compare every file that stamp quantize wrote with the directory's manifest");
  add_flag_with_mirror(*command, "--text", flags->text,
                       "Text that the model runs over; by default text that it writes by itself");
  add_flag_with_mirror(*command, "--tokens", flags->tokens, "Only the text's first tokens")
      ->check(CLI::Range(int64_t{2 * kBlock}, int64_t{1} << 24))
      ->capture_default_str();
  add_flag_with_mirror(*command, "--report", flags->report, "Write an HTML page that needs nothing else");
  add_flag_with_mirror(*command, "--perplexities", flags->perplexities,
                       "Files of stamp perplexity --json, for a table in the report");
  add_flag_with_mirror(*command, "--tune", flags->tune, "Write a recipe with the best plan for each input");
  add_flag_with_mirror(*command, "--bits", flags->bits,
                       "Mean bits of activations that --tune may spend; 0: those of the recipe's plan")
      ->check(CLI::Range(0.0, 8.0))
      ->capture_default_str();
  add_flag_with_mirror(*command, "--transforms", flags->transforms,
                       "Those that --tune chooses among, separated by commas; by default all")
      ->delimiter(',')
      ->check(CLI::IsMember({"identity", "haar", "dct", "walsh-hadamard"}));
  add_flag_with_mirror(
      *command, "--sensitivities", flags->sensitivities,
      "What an error in each input costs: read from this file, or measured and written to it");
  add_flag_with_mirror(*command, "--json", flags->json, "Write the numbers to this file");
  command->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace stamp
