#include "tools/cli.h"

#include <fmt/format.h>
#include <signal.h>

#include <cmath>
#include <cstdio>
#include <map>

#include "kernels/error.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

constexpr const char* kFooter = R"(Examples:
  stamp generate --model SmolLM2-135M-Instruct --chat -p "Why is the sky blue?"
  stamp chat --model SmolLM2-135M-Instruct
  stamp perplexity --model SmolLM2-135M-Instruct --file wikitext-2-test.raw
  stamp bench --model SmolLM2-135M-Instruct --prefill 512,2048 --decode 128
  stamp serve --model SmolLM2-135M-Instruct --port 8080

Every flag can be set in the environment: --top-p is STAMP_TOP_P. A flag on the command line wins.
The result goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 failure, 2 bad usage or input.)";

/// An error text on one line.
std::string one_line(std::string text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  for (char& c : text)
    if (c == '\n' || c == '\r') c = ' ';
  return text;
}

int fail(int code, const std::string& message) {
  fmt::print(stderr, "stamp: {}\n", one_line(message));
  return code;
}

}  // namespace

std::string mirror_of(const CLI::Option& option) {
  std::string variable = "STAMP_" + option.get_lnames().front();
  for (char& c : variable) c = c == '-' ? '_' : char(std::toupper(static_cast<unsigned char>(c)));
  return variable;
}

CLI::Option* add_switch_with_mirror(CLI::App& command, const std::string& names, bool& value,
                                    const std::string& help) {
  CLI::Option* option = command.add_flag(names, value, help);
  return option->envname(mirror_of(*option));
}

void add_model_flags(CLI::App& command, EngineOptions& options) {
  add_flag_with_mirror(command, "-m,--model", options.model, "Directory of a Hugging Face Llama-family model")
      ->required();
  add_flag_with_mirror(
      command, "--recipe", options.recipe,
      "How weights, activations and cache are represented: f32, w8a8, w4a8, w4a4kv4, w4a4kv4-stamp, "
      "w4a8kv4-stamp or a JSON file; by default as the directory is stored");
  add_flag_with_mirror(command, "--device", options.device, "auto, cpu or cuda")->capture_default_str();
  add_flag_with_mirror(command, "-t,--threads", options.threads,
                       "Threads; 0 is one per core this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  add_switch_with_mirror(
      command, "--mmap", options.map_weights,
      "Leave the weights in the mapped file, shared between processes, instead of moving them to huge "
      "pages, which decodes faster");
}

void add_context_flag(CLI::App& command, EngineOptions& options) {
  add_flag_with_mirror(command, "-c,--ctx", options.context,
                       "Most tokens of prompt and answer; 0 is the model's own limit")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
}

void add_draft_flag(CLI::App& command, Draft& draft) {
  static const std::map<std::string, Draft> kChoices{{"none", Draft::kNone}, {"ngram", Draft::kNgram}};
  add_flag_with_mirror(
      command, "--draft", draft,
      "Guess tokens and confirm several at once: ngram looks up what followed the same words "
      "before. The text stays the same; texts that repeat themselves come faster")
      ->transform(CLI::CheckedTransformer(kChoices))
      ->type_name("none|ngram");
}

void SamplingFlags::add(CLI::App& command) {
  const std::string group = "Sampling (default: generation_config.json if it samples, else greedy)";
  const auto flag = [&](const std::string& names, auto& value, const std::string& help) {
    return add_flag_with_mirror(command, names, value, help)->group(group);
  };
  flag("--temp", choice_.temperature, "Temperature; 0 is greedy");
  flag("--top-k", choice_.top_k, "Keep the k most likely tokens; 0 is off");
  flag("--top-p", choice_.top_p, "Keep the smallest set of tokens with this probability");
  flag("--min-p", choice_.min_p, "Drop tokens below this share of the most likely one's probability");
  flag("--repeat-penalty", choice_.repetition_penalty, "Divides the logits of tokens seen before; 1 is off");
  flag("--presence-penalty", choice_.presence_penalty, "Subtracted once from the logit of a generated token");
  flag("--frequency-penalty", choice_.frequency_penalty, "Subtracted for every time a token was generated");
  flag("--logit-bias", logit_bias_, "ID=VALUE added to a token's logit; repeatable")->allow_extra_args(false);
  flag("--seed", seed_, "Seed of the draws: the same seed gives the same text")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  flag("--stop", stops_, "End before this text; repeatable")->allow_extra_args(false);
}

SamplingParams SamplingFlags::resolve(const GenerationConfig& config) const {
  SamplingParams params = choice_.resolve(config);
  params.seed = seed_;
  for (const std::string& text : logit_bias_) {
    int id = 0, end = 0;
    float bias = 0;
    if (std::sscanf(text.c_str(), "%d=%f%n", &id, &bias, &end) != 2 || size_t(end) != text.size())
      throw InputError("--logit-bias " + text + ": expected ID=VALUE, such as 42=-100");
    params.logit_bias.emplace_back(id, bias);
  }
  return params;
}

const ChatTemplate& require_chat_template(const Engine& engine) {
  if (engine.chat_template() == nullptr)
    throw InputError(engine.options().model.string() +
                     ": has no chat template; use stamp generate without --chat");
  return *engine.chat_template();
}

int run_stamp(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // a closed stdout is an error of write(), reported like any other
  CLI::App app{"stamp runs Llama-family language models from safetensors."};
  app.name("stamp");
  app.footer(kFooter);
  app.set_version_flag("--version", "stamp " STAMP_VERSION);
  app.require_subcommand(1);
  int exit_code = 0;
  add_generate(app, exit_code);
  add_chat(app, exit_code);
  add_perplexity(app, exit_code);
  add_quantize(app, exit_code);
  add_bench(app, exit_code);
  add_inspect(app, exit_code);
  add_serve(app, exit_code);
  add_batch(app, exit_code);
  try {
    app.parse(argc, argv);
    return exit_code;
  } catch (const CLI::Success& e) {
    return app.exit(e);  // --help and --version
  } catch (const CLI::ParseError& e) {
    const bool no_command = app.get_subcommands().empty() && !app.remaining().empty();
    const std::string what = no_command ? app.remaining().front() + ": no such command or flag" : e.what();
    return fail(2, what + " (see stamp --help)");
  } catch (const InputError& e) {
    return fail(2, e.what());
  } catch (const std::bad_alloc&) {
    return fail(1, "out of memory; use a shorter context (--ctx) or a smaller model");
  } catch (const std::exception& e) {
    return fail(1, e.what());
  }
}

}  // namespace stamp
