#include "models/recipe.h"

#include <algorithm>
#include <filesystem>

#include "kernels/error.h"
#include "models/builtin_recipes.h"
#include "models/json.h"

namespace stamp {
namespace {

constexpr const char* kSiteNames[] = {"attention", "attended", "feed_forward", "gated"};
constexpr std::pair<SeqTransform, const char*> kTransforms[] = {
    {SeqTransform::kIdentity, "identity"},
    {SeqTransform::kHaar, "haar"},
    {SeqTransform::kDct, "dct"},
    {SeqTransform::kWalshHadamard, "walsh-hadamard"}};

/// One JSON object of a recipe whose fields must all be known.
class Part {
 public:
  Part(const JsonFields& parent, const char* name, std::initializer_list<std::string_view> known)
      : name_(std::string(name) + "."),
        empty_(nlohmann::json::object()),
        fields_(parent.has(name) ? *parent.find(name) : empty_, parent.file(), name_) {
    check(fields_, known);
  }
  static void check(const JsonFields& fields, std::initializer_list<std::string_view> known) {
    for (const auto& [field, value] : fields.object().items())
      if (std::find(known.begin(), known.end(), field) == known.end())
        fields.fail(field, "is not a field of a recipe");
  }
  const JsonFields* operator->() const { return &fields_; }
  const JsonFields& operator*() const { return fields_; }

 private:
  std::string name_;
  nlohmann::json empty_;
  JsonFields fields_;
};

int one_of(const JsonFields& fields, const char* name, std::initializer_list<int> choices, int otherwise) {
  const auto value = fields.integer(name, 0, 1000);
  if (!value) return otherwise;
  if (std::find(choices.begin(), choices.end(), int(*value)) == choices.end()) {
    std::string text;
    for (int choice : choices) text += (text.empty() ? "" : ", ") + std::to_string(choice);
    fields.fail(name, "is " + std::to_string(*value) + ", must be one of " + text);
  }
  return int(*value);
}

BitPlan parse_plan(const JsonFields& fields, const BitPlan& otherwise) {
  BitPlan plan = otherwise;
  if (const auto name = fields.string("transform")) {
    const auto* found = std::find_if(std::begin(kTransforms), std::end(kTransforms),
                                     [&](const auto& t) { return *name == t.second; });
    if (found == std::end(kTransforms))
      fields.fail("transform", "is " + *name + "; choose identity, haar, dct or walsh-hadamard");
    plan.transform = found->first;
  }
  plan.levels = int(fields.integer("levels", 1, 6).value_or(plan.levels));
  plan.high_rows = int(fields.integer("high_rows", 0, kBlock).value_or(plan.high_rows));
  plan.high_bits = int(fields.integer("high_bits", 2, 8).value_or(plan.high_bits));
  plan.low_bits = int(fields.integer("low_bits", 2, 8).value_or(plan.low_bits));
  if (plan.low_bits > plan.high_bits) fields.fail("low_bits", "must not be above high_bits");
  return plan;
}

Recipe::Values parse_values(const JsonFields& recipe, const char* name, bool cache) {
  const Part part(recipe, name, {"low_bits", "high_bits", "high_rows", "block", "transform", "levels"});
  Recipe::Values values;
  if (one_of(*part, "block", {int(kBlock)}, int(kBlock)) != kBlock) return values;
  const auto low = part->integer("low_bits", 2, 16);
  if (!low || *low == 16) {
    for (const char* other : {"high_bits", "high_rows", "transform", "levels"})
      if (part->has(other)) part->fail(other, "needs low_bits between 2 and 8");
    return values;
  }
  values.quantised = true;
  values.plan = parse_plan(*part, {.levels = 5, .high_rows = 0, .high_bits = 8, .low_bits = 8});
  // Cached rows are nibbles or bytes.
  if (cache && (values.plan.low_bits != 4 && values.plan.low_bits != 8))
    part->fail("low_bits", "of the cache must be 4, 8 or 16");
  if (cache && values.plan.high_bits != 8 && values.plan.high_bits != 4)
    part->fail("high_bits", "of the cache must be 4 or 8");
  return values;
}

nlohmann::ordered_json plan_json(const BitPlan& plan) {
  const auto* name = std::find_if(std::begin(kTransforms), std::end(kTransforms),
                                  [&](const auto& t) { return plan.transform == t.first; });
  return {{"low_bits", plan.low_bits}, {"high_bits", plan.high_bits}, {"high_rows", plan.high_rows},
          {"block", kBlock},           {"transform", name->second},   {"levels", plan.levels}};
}

nlohmann::ordered_json values_json(const Recipe::Values& values) {
  return values.quantised ? plan_json(values.plan) : nlohmann::ordered_json{{"low_bits", 16}};
}

/// "layers.3.gated"
std::pair<int64_t, Site> parse_site(const std::string& key, const JsonFields& fields) {
  int64_t layer = -1;
  for (int s = 0; s < kSites; ++s) {
    const std::string suffix = std::string(".") + kSiteNames[s];
    if (!key.starts_with("layers.") || !key.ends_with(suffix)) continue;
    const std::string number = key.substr(7, key.size() - 7 - suffix.size());
    if (!number.empty() && number.size() <= 4 &&
        number.find_first_not_of("0123456789") == std::string::npos) {
      layer = std::stoll(number);
      return {layer, Site(s)};
    }
  }
  fields.fail(key, "must be layers.N.SITE with SITE one of attention, attended, feed_forward, gated");
}

}  // namespace

const char* site_name(Site site) { return kSiteNames[size_t(site)]; }

BitPlan Recipe::plan_of(int64_t layer, Site site) const {
  const auto it = site_plans.find({layer, site});
  return it == site_plans.end() ? activations.plan : it->second;
}

Recipe Recipe::parse(std::string_view json, const std::string& file_name) {
  const nlohmann::json object = parse_json(json, file_name);
  const JsonFields fields(object, file_name);
  Part::check(fields, {"name", "description", "weights", "rotation", "activations", "kv", "site_plans"});
  Recipe r;
  r.name = fields.string("name").value_or(std::filesystem::path(file_name).stem().string());
  const Part weights(fields, "weights", {"bits", "group", "method", "symmetric", "value_bits", "head_bits"});
  r.weights.bits = one_of(*weights, "bits", {4, 8, 16}, 16);
  r.weights.group = one_of(*weights, "group", {32, 64, 128}, 64);
  r.weights.symmetric = weights->boolean("symmetric").value_or(false);
  r.weights.value_bits = one_of(*weights, "value_bits", {4, 8, 16}, r.weights.bits);
  if (r.weights.value_bits != r.weights.bits && !(r.weights.bits == 4 && r.weights.value_bits == 8))
    weights->fail("value_bits", "must be that of bits, or 8 where bits is 4");
  r.weights.head_bits = one_of(*weights, "head_bits", {4, 8, 16}, 16);
  const std::string method = weights->string("method").value_or("rtn");
  if (method != "rtn" && method != "gptq") weights->fail("method", "is " + method + "; choose rtn or gptq");
  r.weights.gptq = method == "gptq";
  if (r.weights.gptq && r.weights.bits == 16) weights->fail("method", "gptq needs bits below 16");
  const Part rotation(fields, "rotation", {"residual", "head", "down", "seed"});
  r.rotation.residual = rotation->boolean("residual").value_or(false);
  r.rotation.head = rotation->boolean("head").value_or(false);
  r.rotation.down = rotation->boolean("down").value_or(false);
  r.rotation.seed = uint64_t(rotation->integer("seed", 0, INT64_MAX).value_or(0));
  r.activations = parse_values(fields, "activations", false);
  r.kv = parse_values(fields, "kv", true);
  if (const nlohmann::json* plans = fields.find("site_plans")) {
    const JsonFields sites(*plans, file_name, "site_plans.");
    if (!r.activations.quantised) fields.fail("site_plans", "needs activations below 16 bits");
    for (const auto& [key, value] : plans->items()) {
      const JsonFields plan(value, file_name, "site_plans." + key + ".");
      Part::check(plan, {"low_bits", "high_bits", "high_rows", "block", "transform", "levels"});
      r.site_plans[parse_site(key, sites)] = parse_plan(plan, r.activations.plan);
    }
  }
  return r;
}

Recipe Recipe::load(const std::string& name_or_file) {
  for (const auto& [name, text] : kBuiltinRecipes)
    if (name_or_file == name) return parse(text, std::string(name) + ".json");
  if (std::filesystem::exists(name_or_file)) return parse(read_file(name_or_file, 1 << 20), name_or_file);
  std::string choices;
  for (const std::string& name : recipe_names()) choices += (choices.empty() ? "" : ", ") + name;
  throw InputError("recipe " + name_or_file + ": neither a file nor one of " + choices);
}

std::string Recipe::to_json() const {
  nlohmann::ordered_json json{{"name", name},
                              {"weights",
                               {{"bits", weights.bits},
                                {"group", weights.group},
                                {"method", weights.gptq ? "gptq" : "rtn"},
                                {"symmetric", weights.symmetric},
                                {"value_bits", weights.value_bits},
                                {"head_bits", weights.head_bits}}},
                              {"rotation",
                               {{"residual", rotation.residual},
                                {"head", rotation.head},
                                {"down", rotation.down},
                                {"seed", rotation.seed}}},
                              {"activations", values_json(activations)},
                              {"kv", values_json(kv)}};
  for (const auto& [at, plan] : site_plans)
    json["site_plans"]["layers." + std::to_string(at.first) + "." + site_name(at.second)] = plan_json(plan);
  return json.dump(2);
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const auto& [name, text] : kBuiltinRecipes) names.emplace_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace stamp
