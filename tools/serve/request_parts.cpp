#include "tools/serve/request_parts.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "kernels/error.h"
#include "models/json.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;
constexpr int64_t kMaxTokens = int64_t{1} << 24;
constexpr double kMaxTemperature = 100, kMaxPenalty = 100;
constexpr size_t kMaxStopBytes = 4096, kMaxBiases = 1024, kMaxName = 64;

std::optional<float> real(RequestFields& fields, const char* field, double low, double high) {
  const auto x = fields.number(field, low, high);
  return x ? std::optional(float(*x)) : std::nullopt;
}

/// The same for an interval without its lower end.
std::optional<float> positive(RequestFields& fields, const char* field, double high) {
  const auto x = real(fields, field, 0, high);
  if (x && !(*x > 0)) fields.fail(field, "must be greater than 0");
  return x;
}

std::vector<std::string> read_stops(RequestFields& fields) {
  const Json* value = fields.find("stop");
  if (value == nullptr) return {};
  std::vector<std::string> stops;
  const auto add = [&](const Json& stop) {
    if (!stop.is_string()) fields.fail("stop", "must be a string or a list of strings");
    stops.push_back(stop.get<std::string>());
    if (stops.back().empty()) fields.fail("stop", "may not be an empty string");
    if (stops.back().size() > kMaxStopBytes)
      fields.fail("stop", fmt::format("has a string of more than {} bytes", kMaxStopBytes));
  };
  if (!value->is_array()) {
    add(*value);
    return stops;
  }
  if (int64_t(value->size()) > kMaxStops)
    fields.fail("stop", fmt::format("has {} strings, at most {} are allowed", value->size(), kMaxStops));
  for (const Json& stop : *value) add(stop);
  return stops;
}

std::vector<std::pair<int32_t, float>> read_logit_bias(RequestFields& fields, int64_t vocab_size) {
  const Json* value = fields.find("logit_bias");
  std::vector<std::pair<int32_t, float>> biases;
  if (value == nullptr) return biases;
  if (!value->is_object()) fields.fail("logit_bias", "must be an object of token ids and numbers");
  if (value->size() > kMaxBiases)
    fields.fail("logit_bias",
                fmt::format("has {} tokens, at most {} are allowed", value->size(), kMaxBiases));
  for (const auto& [name, bias] : value->items()) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    if (error != std::errc() || end != name.data() + name.size() || id < 0 || id >= vocab_size)
      fields.fail("logit_bias", "names \"" + printable(name.substr(0, kMaxName)) +
                                    "\", which is not a token id below " + std::to_string(vocab_size));
    if (!bias.is_number() || !(std::fabs(bias.get<double>()) <= 100))
      fields.fail("logit_bias", "of token " + name + " must be a number between -100 and 100");
    biases.emplace_back(id, bias.get<float>());
  }
  return biases;
}

ResponseFormat read_format(RequestFields& fields) {
  ResponseFormat format;
  if (const Json* value = fields.find("response_format")) {
    RequestFields inner(*value, "response_format.");
    const std::string type = inner.required_string("type");
    if (type == "json_object") {
      format.kind = ResponseFormat::Kind::kJsonObject;
    } else if (type == "json_schema") {
      format.kind = ResponseFormat::Kind::kJsonSchema;
      const Json* schema = inner.find("json_schema");
      if (schema == nullptr) inner.fail("json_schema", "is missing");
      RequestFields named(*schema, "response_format.json_schema.");
      named.required_string("name");
      named.string("description");
      named.boolean("strict");
      const Json* body = named.find("schema");
      if (body == nullptr) named.fail("schema", "is missing");
      if (!body->is_object() && !body->is_boolean()) named.fail("schema", "must be a JSON schema");
      format.schema = *body;
      named.finish();
    } else if (type != "text") {
      inner.fail("type", "must be text, json_object or json_schema");
    }
    inner.finish();
  }
  if (auto regex = fields.string("guided_regex")) {
    if (format.kind != ResponseFormat::Kind::kText)
      fields.fail("guided_regex", "and response_format exclude each other");
    format.kind = ResponseFormat::Kind::kRegex;
    format.regex = *std::move(regex);
  }
  return format;
}

}  // namespace

Json parse_body(std::string_view body) {
  try {
    return parse_ordered_json(body, "the request body");
  } catch (const InputError& e) {
    throw ApiError(400, e.what());
  }
}

void read_generation_params(RequestFields& fields, int64_t vocab_size, GenerationParams& params) {
  params.model = fields.string("model").value_or("");
  SamplingChoice& sampling = params.sampling;
  sampling.temperature = real(fields, "temperature", 0, kMaxTemperature);
  sampling.top_p = positive(fields, "top_p", 1);
  sampling.min_p = real(fields, "min_p", 0, 1);
  sampling.repetition_penalty = positive(fields, "repetition_penalty", kMaxPenalty);
  sampling.presence_penalty = real(fields, "presence_penalty", -2, 2);
  sampling.frequency_penalty = real(fields, "frequency_penalty", -2, 2);
  if (const auto k = fields.integer("top_k", -1, INT32_MAX))
    sampling.top_k = int32_t(std::max<int64_t>(*k, 0));
  sampling.logit_bias = read_logit_bias(fields, vocab_size);
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) params.seed = uint64_t(*seed);
  params.max_tokens = fields.integer("max_tokens", 0, kMaxTokens);
  params.n = fields.integer("n", 1, kMaxChoices).value_or(1);
  params.stops = read_stops(fields);
  params.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  params.stream = fields.boolean("stream").value_or(false);
  if (const Json* options = fields.find("stream_options")) {
    if (!params.stream) fields.fail("stream_options", "is only allowed with stream");
    RequestFields inner(*options, "stream_options.");
    params.include_usage = inner.boolean("include_usage").value_or(false);
    inner.ignore({"include_obfuscation"});
    inner.finish();
  }
  params.format = read_format(fields);
  // Names and accounting on the provider's side.
  fields.ignore({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
                 "prompt_cache_retention"});
}

std::vector<int32_t> read_token_ids(const Json& list, const std::string& name, int64_t vocab_size) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (const Json& id : list) {
    const bool valid = id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < vocab_size;
    if (!valid)
      throw ApiError(400, fmt::format("{} must be token ids between 0 and {}", name, vocab_size - 1), name);
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace stamp
