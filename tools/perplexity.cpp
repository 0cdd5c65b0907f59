#include "engine/perplexity.h"

#include <fmt/format.h>

#include <memory>

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
  stamp perplexity -m DIR --file huge.txt --resume state.json     (run again to continue after an interruption))";

struct PerplexityFlags {
  EngineOptions engine;
  PerplexityOptions options;
  std::string file, protocol = "gptq", json;
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
          {"weight_bits", engine.weight_bits()},
          {"isa", engine.ops().name()},
          {"threads", engine.ops().threads()},
          {"chunks", chunks}};
}

int run(PerplexityFlags flags) {
  flags.options.protocol = parse_protocol(flags.protocol);
  if (flags.options.stride > 0 && flags.options.protocol != Protocol::kStrided)
    throw InputError("--stride belongs to --protocol strided");
  const std::string text = read_text(flags.file);
  flags.engine.context = flags.options.context;
  Engine engine(flags.engine);
  PerplexityResult result;
  {
    Progress progress("perplexity");
    result = perplexity(engine, text, flags.options,
                        [&](int64_t done, int64_t total, const PerplexityResult& so_far) {
                          progress.update(done, total, fmt::format("ppl {:.4f}", so_far.ppl));
                        });
  }
  if (result.tokens_scored == 0) throw InputError("no window was scored; raise --chunks");
  print(fmt::format("perplexity {:.4f} +/- {:.4f}  ({} tokens in {} windows, {}, context {}, recipe {})\n",
                    result.ppl, result.ppl_stderr, result.tokens_scored, result.chunks.size(), flags.protocol,
                    flags.options.context, engine.recipe().name));
  fmt::print(stderr, "{:.1f} tok/s, {} x{}\n",
             result.seconds > 0 ? double(result.tokens_evaluated) / result.seconds : 0.0, engine.ops().name(),
             engine.ops().threads());
  write_json(flags.json, to_json(engine, flags, result));
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
  add_flag_with_mirror(*command, "--resume", flags->options.resume,
                       "State file: written after each window, continued if it exists");
  add_flag_with_mirror(*command, "--json", flags->json, "Write the result to this file");
  command->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace stamp
