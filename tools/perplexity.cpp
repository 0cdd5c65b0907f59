#include "engine/perplexity.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "engine/compare.h"
#include "kernels/error.h"
#include "tools/cli.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

constexpr const char* kFooter = R"(Protocols:
  gptq       windows of --context tokens side by side, a last partial one dropped, no specials; the one to compare
             with quantisation papers
  strided    Hugging Face's sliding window: every token scored with at least --context minus --stride before it
  llama.cpp  as llama.cpp's perplexity tool: BOS first if the model adds one, second half of each window scored
  document   the whole text with specials, in windows that overlap by one token

Examples:
  stamp perplexity -m DIR --file wikitext-2-test.raw --chunks 20 --json out.json
  stamp perplexity -m DIR --file book.txt --protocol strided --context 1024 --stride 256
  stamp perplexity -m DIR --file huge.txt --resume state.json     (run again to continue after an interruption)
  stamp perplexity -m DIR --recipe w4a8kv4-stamp --compare f32 --file wikitext-2-test.raw --chunks 20
                                     (how far the recipe's predictions are from the exact model's, token by token))";

struct PerplexityFlags {
  EngineOptions engine;
  PerplexityOptions options;
  std::string file, protocol = "gptq", compare, json;
};

nlohmann::ordered_json to_json(Engine& engine, const PerplexityFlags& flags, const PerplexityResult& r) {
  nlohmann::ordered_json chunks = nlohmann::ordered_json::array();
  for (const auto& chunk : r.chunks) chunks.push_back({{"nll", chunk.nll}, {"tokens", chunk.tokens}});
  return {{"protocol", flags.protocol},
          {"tokens_scored", r.tokens_scored},
          {"context", flags.options.context},
          {"stride", flags.options.protocol == Protocol::kStrided && flags.options.stride == 0
                         ? flags.options.context / 2
                         : flags.options.stride},
          {"bos", r.bos},
          {"tokenizer_sha256", r.tokenizer_sha256},
          {"text_sha256", r.text_sha256},
          {"nll", r.nll},
          {"ppl", r.ppl},
          {"ppl_stderr", r.ppl_stderr},
          {"bits_per_byte", r.bits_per_byte},
          {"tokens_per_second", r.seconds > 0 ? double(r.tokens_evaluated) / r.seconds : 0.0},
          {"recipe", engine.recipe().name},
          {"mean_activation_bits", engine.activation_bits(flags.options.context)},
          {"mean_kv_bits", engine.kv_bits(flags.options.context)},
          {"kv_bytes_per_token", engine.cache().bytes_per_token(flags.options.context)},
          {"weight_bits", engine.weight_bits()},
          {"isa", engine.ops().name()},
          {"threads", engine.ops().threads()},
          {"chunks", chunks}};
}

/// The engine that --compare names: a directory, or the same one under another recipe.
Engine make_reference(const PerplexityFlags& flags) {
  EngineOptions options = flags.engine;
  const bool directory = std::filesystem::is_directory(flags.compare);
  if (directory) options.model = flags.compare;
  options.recipe = directory ? "" : flags.compare;
  return Engine(options);
}

PerplexityResult run_alone(Engine& engine, const std::string& text, const PerplexityFlags& flags) {
  Progress progress("perplexity");
  return perplexity(engine, text, flags.options,
                    [&](int64_t done, int64_t total, const PerplexityResult& so_far) {
                      progress.update(done, total, fmt::format("ppl {:.4f}", so_far.ppl));
                    });
}

Comparison run_compared(Engine& engine, const std::string& text, const PerplexityFlags& flags) {
  Engine reference = make_reference(flags);
  Progress progress("perplexity");
  return compare(
      engine, reference, text, flags.options, [&](int64_t done, int64_t total, const Comparison& so_far) {
        progress.update(done, total, fmt::format("ppl {:.4f}, KL {:.5f}", so_far.model.ppl, so_far.kl_mean));
      });
}

int run(PerplexityFlags flags) {
  flags.options.protocol = parse_protocol(flags.protocol);
  if (flags.options.stride > 0 && flags.options.protocol != Protocol::kStrided)
    throw InputError("--stride belongs to --protocol strided");
  const std::string text = read_text(flags.file);
  flags.engine.context = flags.options.context;
  Engine engine(flags.engine);
  const bool compared = !flags.compare.empty();
  Comparison comparison;
  if (compared) comparison = run_compared(engine, text, flags);
  else comparison.model = run_alone(engine, text, flags);
  const PerplexityResult& result = comparison.model;
  if (result.tokens_scored == 0) throw InputError("no window was scored; raise --chunks");
  print(fmt::format("perplexity {:.4f} +/- {:.4f}  ({} tokens in {} windows, {}, context {}, recipe {})\n",
                    result.ppl, result.ppl_stderr, result.tokens_scored, result.chunks.size(), flags.protocol,
                    flags.options.context, engine.recipe().name));
  if (compared)
    print(fmt::format(
        "against {}: perplexity {:+.4f} +/- {:.4f}, KL {:.6f} (99 % below {:.6f}), same top token "
        "{:.2f} %\n",
        flags.compare, comparison.delta_ppl, comparison.delta_ppl_stderr, comparison.kl_mean,
        comparison.kl_p99, 100 * comparison.top1_agreement));
  fmt::print(stderr, "{:.1f} tok/s, {} x{}\n",
             result.seconds > 0 ? double(result.tokens_evaluated) / result.seconds : 0.0, engine.ops().name(),
             engine.ops().threads());
  nlohmann::ordered_json json = to_json(engine, flags, result);
  if (compared)
    json.update({{"compare", flags.compare},
                 {"compare_ppl", comparison.reference.ppl},
                 {"kl_mean", comparison.kl_mean},
                 {"kl_p99", comparison.kl_p99},
                 {"top1_agreement", comparison.top1_agreement},
                 {"delta_ppl", comparison.delta_ppl},
                 {"delta_ppl_stderr", comparison.delta_ppl_stderr}});
  write_json(flags.json, json);
  return 0;
}

}  // namespace

void add_perplexity(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<PerplexityFlags>();
  CLI::App* command = app.add_subcommand("perplexity", "How well the model predicts a text");
  command->footer(kFooter);
  add_model_flags(*command, flags->engine);
  add_flag_with_mirror(*command, "-f,--file", flags->file, "The text")->required();
  add_flag_with_mirror(*command, "--protocol", flags->protocol, "gptq, strided, llama.cpp or document")
      ->capture_default_str();
  add_flag_with_mirror(*command, "--context", flags->options.context, "Tokens in a window")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 24))
      ->capture_default_str();
  add_flag_with_mirror(*command, "--stride", flags->options.stride,
                       "Tokens between windows of strided; 0 is half the context")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  add_flag_with_mirror(*command, "--chunks", flags->options.max_chunks,
                       "Score only the first windows; -1 is all")
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40))
      ->capture_default_str();
  add_flag_with_mirror(
      *command, "--compare", flags->compare,
      "Recipe or directory to compare with, token by token: KL divergence, agreement, and the "
      "difference of the perplexities");
  add_flag_with_mirror(*command, "--resume", flags->options.resume,
                       "State file: written after each window, continued if it exists");
  add_flag_with_mirror(*command, "--json", flags->json, "Write the result to this file");
  command->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace stamp
