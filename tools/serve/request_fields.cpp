#include "tools/serve/request_fields.h"

#include <fmt/format.h>

#include "models/json.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kMaxFields = 256;  // each look-up walks through them all

}  // namespace

RequestFields::RequestFields(const Json& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {
  const std::string name = prefix_.empty() ? "the request body" : prefix_.substr(0, prefix_.size() - 1);
  const std::string param = prefix_.empty() ? "" : name;
  if (!object.is_object()) throw ApiError(400, name + " must be a JSON object", param);
  if (object.size() > kMaxFields)
    throw ApiError(
        400, fmt::format("{} has {} fields, at most {} are allowed", name, object.size(), kMaxFields), param);
}

void RequestFields::fail(std::string_view field, const std::string& message) const {
  throw ApiError(400, path(field) + " " + message, path(field));
}

const Json* RequestFields::find(const char* field) {
  known_.insert(field);
  const auto it = object_.find(field);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<bool> RequestFields::boolean(const char* field) {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail(field, "must be true or false");
  return value->get<bool>();
}

std::optional<int64_t> RequestFields::integer(const char* field, int64_t low, int64_t high) {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_integer()) fail(field, "must be a whole number");
  const bool fits = !value->is_number_unsigned() || value->get<uint64_t>() <= uint64_t(INT64_MAX);
  const int64_t x = fits ? value->get<int64_t>() : INT64_MAX;
  if (!fits || x < low || x > high)
    fail(field, fmt::format("is {}, must be between {} and {}", value->dump(), low, high));
  return x;
}

std::optional<double> RequestFields::number(const char* field, double low, double high) {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) fail(field, "must be a number");
  const double x = value->get<double>();
  if (!(x >= low && x <= high))
    fail(field, fmt::format("is {}, must be between {} and {}", value->dump(), low, high));
  return x;
}

std::optional<std::string> RequestFields::string(const char* field) {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(field, "must be a string");
  return value->get<std::string>();
}

std::string RequestFields::required_string(const char* field) {
  auto value = string(field);
  if (!value) fail(field, "is missing");
  return *std::move(value);
}

void RequestFields::ignore(std::initializer_list<const char*> fields) {
  known_.insert(fields.begin(), fields.end());
}

void RequestFields::refuse(const char* field, const Json& harmless) {
  const Json* value = find(field);
  if (value != nullptr && *value != harmless) fail(field, "is not supported");
}

void RequestFields::finish() {
  for (const auto& [name, value] : object_.items())
    if (!value.is_null() && !known_.contains(name))
      throw ApiError(400, path(printable(name)) + " is not a known field", path(printable(name)));
}

}  // namespace stamp
