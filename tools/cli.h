#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "engine/draft.h"
#include "engine/engine.h"
#include "tools/sampling.h"

namespace stamp {

/// The program `stamp`: parses the command line, runs one subcommand and returns the exit code. Everything
/// that goes wrong is one line on stderr: 1 for a failure, 2 for bad usage or a bad input file, 130 for an
/// interrupt.
int run_stamp(int argc, char** argv);

/// Each adds its subcommand; the subcommand's callback does the work and sets `exit_code`.
void add_generate(CLI::App& app, int& exit_code);
void add_chat(CLI::App& app, int& exit_code);
void add_perplexity(CLI::App& app, int& exit_code);
void add_quantize(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_inspect(CLI::App& app, int& exit_code);
void add_serve(CLI::App& app, int& exit_code);
void add_batch(CLI::App& app, int& exit_code);

/// --model, --recipe, --device, --threads: the same for every subcommand.
void add_model_flags(CLI::App& command, EngineOptions& options);
/// --ctx: for the subcommands in which a conversation or a prompt must fit.
void add_context_flag(CLI::App& command, EngineOptions& options);
/// --draft none|ngram
void add_draft_flag(CLI::App& command, Draft& draft);

/// --temp, --top-k and so on. What is not given comes from generation_config.json, if that asks for sampling,
/// else decoding is greedy.
class SamplingFlags {
 public:
  void add(CLI::App& command);
  SamplingParams resolve(const GenerationConfig& config) const;
  const std::vector<std::string>& stops() const { return stops_; }

 private:
  SamplingChoice choice_;
  uint64_t seed_ = 0;
  std::vector<std::string> logit_bias_, stops_;
};

/// The flag's variable in the environment: STAMP_NAME.
std::string mirror_of(const CLI::Option& option);
/// Adds `--name` with the mirror STAMP_NAME in the environment.
template <class T>
CLI::Option* add_flag_with_mirror(CLI::App& command, const std::string& names, T& value,
                                  const std::string& help) {
  CLI::Option* option = command.add_option(names, value, help);
  return option->envname(mirror_of(*option));
}
/// The same for a switch, on if the variable is 1, true, yes or on.
CLI::Option* add_switch_with_mirror(CLI::App& command, const std::string& names, bool& value,
                                    const std::string& help);

/// Throws InputError unless a chat can be held with the model.
const ChatTemplate& require_chat_template(const Engine& engine);

}  // namespace stamp
