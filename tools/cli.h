#pragma once
#include <CLI/CLI.hpp>
#include <string>

#include "engine/engine.h"
#include "engine/sampler.h"

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

/// --model, --recipe, --device, --threads: the same for every subcommand.
void add_model_flags(CLI::App& command, EngineOptions& options);
/// --ctx: for the subcommands in which a conversation or a prompt must fit.
void add_context_flag(CLI::App& command, EngineOptions& options);

/// --temp, --top-k and so on. What is not given comes from generation_config.json, if that asks for sampling,
/// else decoding is greedy.
class SamplingFlags {
 public:
  void add(CLI::App& command);
  SamplingParams resolve(const GenerationConfig& config) const;
  const std::vector<std::string>& stops() const { return stops_; }

 private:
  std::optional<float> temperature_, top_p_, min_p_, repeat_penalty_, presence_penalty_, frequency_penalty_;
  std::optional<int32_t> top_k_;
  uint64_t seed_ = 0;
  std::vector<std::string> logit_bias_, stops_;
};

/// Adds `--name` with the mirror STAMP_NAME in the environment.
template <class T>
CLI::Option* add_flag_with_mirror(CLI::App& command, const std::string& names, T& value,
                                  const std::string& help) {
  CLI::Option* option = command.add_option(names, value, help);
  std::string variable = "STAMP_" + option->get_lnames().front();
  for (char& c : variable) c = c == '-' ? '_' : char(std::toupper(static_cast<unsigned char>(c)));
  return option->envname(variable);
}
/// The same for a switch, on if the variable is 1, true, yes or on.
CLI::Option* add_switch_with_mirror(CLI::App& command, const std::string& names, bool& value,
                                    const std::string& help);

/// Throws InputError unless a chat can be held with the model.
const ChatTemplate& require_chat_template(const Engine& engine);

}  // namespace stamp
