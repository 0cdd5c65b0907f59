#include "tools/device_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/device_model.h"
#include "engine/engine.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

constexpr const char* kAssumptions[] = {
    "a prediction, not a measurement: no GPU ran anything for it",
    "a launch takes as long as the slowest of what it needs, memory, tensor cores and, of our kernels, FP32 "
    "units and the schedulers' issue slots, which overlap perfectly; and 0.9 us by itself (Gray, Getting "
    "Started with CUDA Graphs, NVIDIA Technical Blog, 2019)",
    "blocks of products and attention are dealt to the multiprocessors as wholes, a warp issues at most one "
    "instruction a clock; else nothing waits: latencies, barriers and caches that miss are not modelled, so "
    "real kernels are slower",
    "memory serves every operand once, caches the repetitions at no cost",
    "fp16, w4a16 and w8a8 are ideal kernels at the published peaks, fused where this is usual: fp16 is the "
    "bound of cuBLAS, not its speed; the whole prompt is one pass",
    "stamp: our kernels as they are, with their counts of bytes and tensor-core operations, which the tests "
    "hold against the executed kernels; instructions of the integer products' main loop as the compiler made "
    "them, of other kernels the least that their work needs; prompts in chunks as the engine cuts them",
    "stamp-bound: the same launches if only memory and tensor cores took time, what tuning can reach at most",
    "transform: the arithmetic of L and its inverse on FP32 units, as if nothing hid it",
};

std::string limit_of(const RoleTime& r) {
  const std::pair<double, const char*> limits[] = {{r.memory, "memory"},
                                                   {r.tensor, "tensor cores"},
                                                   {r.floats, "FP32 units"},
                                                   {r.issue, "issue slots"},
                                                   {double(r.launches) * kLaunchSeconds, "launches"}};
  return std::ranges::max_element(limits)->second;
}

nlohmann::ordered_json to_json(const Machine& m) {
  return {{"name", m.name},
          {"description", m.description},
          {"sources", m.sources},
          {"memory_bytes_per_second", m.memory},
          {"fp16_ops_per_second", m.fp16},
          {"int8_ops_per_second", m.int8},
          {"int4_ops_per_second", m.int4},
          {"fp32_ops_per_second", m.fp32},
          {"multiprocessors", m.multiprocessors},
          {"clock_hz", m.clock},
          {"mma_sync_share", m.mma_share}};
}

nlohmann::ordered_json to_json(const Prediction& p) {
  nlohmann::ordered_json roles = nlohmann::ordered_json::array();
  for (const RoleTime& r : p.roles)
    roles.push_back({{"role", r.role},
                     {"launches", r.launches},
                     {"seconds", r.seconds},
                     {"memory_s", r.memory},
                     {"tensor_s", r.tensor},
                     {"fp32_s", r.floats},
                     {"issue_s", r.issue}});
  return roles;
}

/// One table, and its rows for the JSON file.
class Table {
 public:
  Table(const Machine& machine, const ModelShape& model, const Step& step)
      : machine_(machine), model_(model), step_(step) {
    const std::string what = step.position == 0 ? fmt::format("prompt of {} tokens", step.rows)
                                                : fmt::format("one token after {} others", step.position);
    text_ += fmt::format("\n{}, {}\n| scheme | ms | us a layer | tokens/s | over fp16 |", model.model, what);
    for (const char* role : role_names()) text_ += fmt::format(" {} |", role);
    text_ += " transform | linears wait for | attention waits for |\n|---|---:|---:|---:|---:|";
    for (size_t i = 0; i < role_names().size(); ++i) text_ += "---:|";
    text_ += "---:|---|---|\n";
  }

  void add(Scheme scheme, const Recipe& recipe) {
    const bool ours = scheme == Scheme::kStamp || scheme == Scheme::kStampBound;
    const Prediction p = predict(machine_, model_, step_, scheme, recipe, kDeviceChunk);
    if (scheme == Scheme::kFp16) fp16_seconds_ = p.seconds;
    text_ += fmt::format(
        "| {} | {:.3g} | {:.3g} | {:.4g} | {:.2f} |",
        ours ? recipe.name + (scheme == Scheme::kStamp ? "" : ", bound") : scheme_name(scheme),
        p.seconds * 1e3, p.layer_seconds * 1e6, double(step_.rows) / p.seconds, fp16_seconds_ / p.seconds);
    for (const char* role : role_names())
      text_ += fmt::format(" {:.1f} % |", 100 * p.role(role).seconds / p.seconds);
    const double transform = p.transform_seconds / p.seconds;
    text_ += fmt::format(" {:.1f} % | {} | {} |\n", 100 * transform, limit_of(p.role("linears")),
                         limit_of(p.role("attention")));
    rows_.push_back({{"scheme", scheme_name(scheme)},
                     {"recipe", ours ? nlohmann::ordered_json(recipe.name) : nlohmann::ordered_json()},
                     {"seconds", p.seconds},
                     {"layer_seconds", p.layer_seconds},
                     {"speedup_over_fp16", fp16_seconds_ / p.seconds},
                     {"transform_share", transform},
                     {"roles", to_json(p)}});
  }

  const std::string& text() const { return text_; }
  nlohmann::ordered_json json() const {
    return {{"shape", model_.name},
            {"model", model_.model},
            {"rows", step_.rows},
            {"position", step_.position},
            {"schemes", rows_}};
  }

 private:
  const Machine& machine_;
  const ModelShape& model_;
  Step step_;
  double fp16_seconds_ = 0;
  std::string text_;
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
};

template <class Entries>
std::string names_of(const Entries& entries) {
  std::string names;
  for (const auto& entry : entries) names += (names.empty() ? "" : ", ") + std::string(entry.name);
  return names;
}

}  // namespace

std::string machine_names() { return names_of(machines()); }
std::string shape_names() { return names_of(model_shapes()); }

int run_device_model(const DeviceModelFlags& flags) {
  const Machine& machine = find_machine(flags.machine);
  std::vector<ModelShape> shapes;
  for (const std::string& name : flags.shapes) shapes.push_back(find_shape(name));
  if (shapes.empty()) shapes.assign(model_shapes().begin(), model_shapes().end());
  std::vector<Recipe> recipes;
  for (const std::string& name : flags.recipes) recipes.push_back(Recipe::load(name));
  std::vector<Step> steps;
  for (const int64_t n : flags.prefill) steps.push_back({.rows = n, .position = 0});
  for (const int64_t n : flags.depth) steps.push_back({.rows = 1, .position = n});

  std::string text = fmt::format("Predicted by a roofline model, not measured: {}\n", machine.description);
  nlohmann::ordered_json tables = nlohmann::ordered_json::array();
  for (const ModelShape& model : shapes) {
    for (const Step& step : steps) {
      Table table(machine, model, step);
      for (const Scheme scheme : {Scheme::kFp16, Scheme::kW4A16, Scheme::kW8A8}) table.add(scheme, {});
      for (const Recipe& recipe : recipes)
        for (const Scheme scheme : {Scheme::kStamp, Scheme::kStampBound}) table.add(scheme, recipe);
      text += table.text();
      tables.push_back(table.json());
    }
  }
  text += "\nAssumptions:\n";
  for (const char* line : kAssumptions) text += fmt::format("- {}\n", line);
  print(text + fmt::format("- limits: {}\n", machine.sources));
  write_json(flags.json, {{"prediction", true},
                          {"machine", to_json(machine)},
                          {"assumptions", kAssumptions},
                          {"steps", tables}});
  return 0;
}

}  // namespace stamp
