#include <fmt/format.h>

#include <memory>

#include "kernels/error.h"
#include "tools/answer.h"
#include "tools/cli.h"
#include "tools/statistics.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

constexpr const char* kFooter =
    R"(The prompt is -p, then the file of -f, then stdin if that is not a terminal.

Examples:
  stamp generate -m DIR -p "Once upon a time" -n 64 --temp 0.8 --seed 7
  stamp generate -m DIR --chat --system "Answer in one sentence." -p "What is a monad?"
  stamp generate -m DIR --chat --draft ngram -f main.py -p "Rewrite this with type hints:"
  git diff | stamp generate -m DIR --chat -p "Write a commit message for this change:")";

struct GenerateFlags {
  EngineOptions engine;
  SamplingFlags sampling;
  Draft draft = Draft::kNone;
  std::string prompt, file, system, json;
  int64_t max_tokens = 128;
  bool chat = false, ignore_eos = false, stats = false;
};

std::string gather_prompt(const GenerateFlags& flags) {
  std::string prompt = flags.prompt;
  if (!flags.file.empty()) prompt += read_text(flags.file);
  if (!stdin_is_terminal()) {
    const std::string piped = read_stdin();
    if (!prompt.empty() && !piped.empty() && prompt.back() != '\n') prompt += '\n';
    prompt += piped;
  }
  if (prompt.empty()) throw InputError("no prompt: give -p TEXT, -f FILE or text on stdin");
  return prompt;
}

std::vector<int32_t> encode_prompt(const Engine& engine, const GenerateFlags& flags,
                                   const std::string& prompt) {
  if (!flags.chat) return engine.tokenizer().encode(prompt, {.add_special = true, .parse_special = true});
  ChatTemplate::Inputs inputs;
  inputs.messages = nlohmann::ordered_json::array();
  if (!flags.system.empty()) inputs.messages.push_back({{"role", "system"}, {"content", flags.system}});
  inputs.messages.push_back({{"role", "user"}, {"content", prompt}});
  const std::string text = require_chat_template(engine).render(inputs);
  return engine.tokenizer().encode(text, {.add_special = false, .parse_special = true});
}

int run(const GenerateFlags& flags) {
  if (!flags.system.empty() && !flags.chat) throw InputError("--system needs --chat");
  const std::string prompt = gather_prompt(flags);
  Engine engine(flags.engine);
  GenerateRequest request{.prompt = encode_prompt(engine, flags, prompt),
                          .max_tokens = flags.max_tokens,
                          .sampling = flags.sampling.resolve(engine.generation_config()),
                          .stops = flags.sampling.stops(),
                          .draft = flags.draft,
                          .ignore_eos = flags.ignore_eos};
  install_interrupt_handler();
  Session session(engine);
  const GenerateResult result = answer_on_terminal(session, request);
  if (flags.stats || stderr_is_terminal()) print_statistics(engine, result);
  write_json(flags.json, statistics_json(engine, result));
  return result.finish == GenerateResult::Finish::kCancelled ? 130 : 0;
}

}  // namespace

void add_generate(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* command = app.add_subcommand("generate", "Continue a prompt, or answer it with --chat");
  command->footer(kFooter);
  add_model_flags(*command, flags->engine);
  add_context_flag(*command, flags->engine);
  add_draft_flag(*command, flags->draft);
  add_flag_with_mirror(*command, "-p,--prompt", flags->prompt, "The prompt");
  add_flag_with_mirror(*command, "-f,--file", flags->file, "A file to append to the prompt");
  add_flag_with_mirror(*command, "-n,--max-tokens", flags->max_tokens, "Most tokens to generate")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  add_switch_with_mirror(*command, "--chat", flags->chat, "Put the prompt into the model's chat template");
  add_flag_with_mirror(*command, "--system", flags->system, "System message, with --chat");
  add_switch_with_mirror(*command, "--ignore-eos", flags->ignore_eos,
                         "Go on after the end-of-sequence token");
  add_switch_with_mirror(*command, "--stats", flags->stats,
                         "Statistics on stderr, also if it is no terminal");
  add_flag_with_mirror(*command, "--json", flags->json, "Write text, tokens and statistics to this file");
  flags->sampling.add(*command);
  command->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace stamp
