#include <fmt/format.h>

#include <memory>

#include "kernels/error.h"
#include "models/json.h"
#include "models/prepare/checkpoint.h"
#include "tools/cli.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

constexpr const char* kFooter = R"(Examples:
  stamp inspect -m DIR-w4 --verify)";

struct InspectFlags {
  EngineOptions engine;
  bool verify = false;
};

/// Whether every file of a directory that `stamp quantize` made is as it was written.
bool verify(const std::filesystem::path& directory) {
  const std::vector<std::string> problems = verify_checkpoint(directory);
  for (const std::string& problem : problems)
    fmt::print(stderr, "stamp: {}: {}\n", printable(directory.string()), printable(problem));
  if (problems.empty()) print(fmt::format("{}: every file is as it was written\n", directory.string()));
  return problems.empty();
}

int run(const InspectFlags& flags) {
  if (!flags.verify) throw InputError("nothing to do: give --verify");
  return verify(flags.engine.model) ? 0 : 2;
}

}  // namespace

void add_inspect(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* command =
      app.add_subcommand("inspect", "Look into a model: its files, its activations, its errors");
  command->footer(kFooter);
  add_model_flags(*command, flags->engine);
  add_switch_with_mirror(*command, "--verify", flags->verify,
                         "Compare every file that stamp quantize wrote with the directory's manifest");
  command->callback([flags, &exit_code] { exit_code = run(*flags); });
}

}  // namespace stamp
