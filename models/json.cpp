#include "models/json.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <type_traits>
#include <unordered_set>

#include "kernels/error.h"

template class nlohmann::basic_json<>;
template class nlohmann::basic_json<nlohmann::ordered_map>;
template class nlohmann::detail::serializer<nlohmann::json>;
template class nlohmann::detail::serializer<nlohmann::ordered_json>;

namespace stamp {
namespace {

using OrderedJson = nlohmann::ordered_json;
using Json = nlohmann::json;
constexpr size_t kMaxDepth = 64;

/// Builds the value as events arrive, so that depth and duplicates are refused before they cost anything.
template <class Json>
class Builder {
 public:
  using number_integer_t = typename Json::number_integer_t;
  using number_unsigned_t = typename Json::number_unsigned_t;
  using number_float_t = typename Json::number_float_t;
  using string_t = typename Json::string_t;
  using binary_t = typename Json::binary_t;

  explicit Builder(std::string file_name) : file_name_(std::move(file_name)) {}

  bool null() { return add(nullptr); }
  bool boolean(bool x) { return add(x); }
  bool number_integer(number_integer_t x) { return add(x); }
  bool number_unsigned(number_unsigned_t x) { return add(x); }
  bool number_float(number_float_t x, const string_t&) { return add(x); }
  bool string(string_t& x) { return add(std::move(x)); }
  bool binary(binary_t&) { return false; }
  bool start_object(size_t) {
    keys_.emplace_back();
    return open(Json::object());
  }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() {
    keys_.pop_back();
    return close();
  }
  bool end_array() { return close(); }
  bool key(string_t& name) {
    key_ = std::move(name);
    if (!keys_.back().insert(key_).second)
      throw InputError(file_name_ + ": duplicate key \"" + printable(key_) + "\"");
    return true;
  }
  bool parse_error(size_t position, const std::string&, const typename Json::exception&) {
    throw InputError(file_name_ + ": not valid JSON near byte " + std::to_string(position));
  }

  Json take() { return std::move(root_); }

 private:
  template <class T>
  bool add(T&& value) {
    place(Json(std::forward<T>(value)));
    return true;
  }
  Json* place(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    Json& parent = *open_.back();
    if (parent.is_array())
      return &parent.template get_ref<typename Json::array_t&>().emplace_back(std::move(value));
    auto& object = parent.template get_ref<typename Json::object_t&>();
    if constexpr (std::is_same_v<Json, OrderedJson>)  // whose operator[] looks at every key
      return &static_cast<std::vector<typename Json::object_t::value_type>&>(object)
                  .emplace_back(key_, std::move(value))
                  .second;
    else return &(object[key_] = std::move(value));
  }
  bool open(Json container) {
    if (open_.size() == kMaxDepth)
      throw InputError(file_name_ + ": nested deeper than " + std::to_string(kMaxDepth) + " levels");
    open_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::string file_name_, key_;
  Json root_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the open objects
  std::vector<Json*> open_;  // containers from the root inwards; a parent does not grow while a child is open
};

}  // namespace

Json parse_json(std::string_view text, const std::string& file_name) {
  Builder<Json> builder(file_name);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

OrderedJson parse_ordered_json(std::string_view text, const std::string& file_name) {
  Builder<OrderedJson> builder(file_name);
  OrderedJson::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string read_file(const std::filesystem::path& file, uint64_t max_bytes) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) throw InputError(file.string() + ": no such file");
  if (!std::filesystem::is_regular_file(status)) throw InputError(file.string() + ": not a regular file");
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError(file.string() + ": cannot be opened: " + std::strerror(errno));
  const uint64_t size = std::filesystem::file_size(file, error);
  if (error) throw InputError(file.string() + ": " + error.message());
  if (size > max_bytes)
    throw InputError(file.string() + ": has " + std::to_string(size) + " bytes, more than the limit of " +
                     std::to_string(max_bytes));
  std::string text(size, '\0');
  in.read(text.data(), std::streamsize(size));
  if (uint64_t(in.gcount()) != size) throw InputError(file.string() + ": cannot be read to its end");
  return text;
}

Json read_json_file(const std::filesystem::path& file, uint64_t max_bytes) {
  return parse_json(read_file(file, max_bytes), file.string());
}

std::string printable(std::string_view text) {
  std::string clean;
  for (const unsigned char c : text) {
    if (c >= 0x20 && c != 0x7f) {
      clean += char(c);
      continue;
    }
    clean += "\\u00";
    clean += "0123456789abcdef"[c >> 4];
    clean += "0123456789abcdef"[c & 15];
  }
  return clean;
}

JsonFields::JsonFields(const Json& object, std::string file, std::string prefix)
    : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {
  if (!object.is_object())
    throw InputError(file_ + ": " + (prefix_.empty() ? "the file" : prefix_.substr(0, prefix_.size() - 1)) +
                     " is not a JSON object");
}

void JsonFields::fail(const std::string& field, const std::string& message) const {
  throw InputError(file_ + ": " + prefix_ + printable(field + " " + message));
}

const Json* JsonFields::find(const char* field) const {
  const auto it = object_.find(field);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<int64_t> JsonFields::integer(const char* field, int64_t low, int64_t high) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  const bool fits = value->is_number_unsigned() ? value->get<uint64_t>() <= uint64_t(INT64_MAX)
                                                : value->is_number_integer();
  if (!fits) fail(field, "must be a whole number");
  const int64_t x = value->get<int64_t>();
  if (x < low || x > high)
    fail(field, "is " + std::to_string(x) + ", must be between " + std::to_string(low) + " and " +
                    std::to_string(high));
  return x;
}

int64_t JsonFields::required_integer(const char* field, int64_t low, int64_t high) const {
  const auto x = integer(field, low, high);
  if (!x) fail(field, "is missing");
  return *x;
}

std::optional<double> JsonFields::number(const char* field, double low, double high) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) fail(field, "must be a number");
  const double x = value->get<double>();
  if (!(x >= low && x <= high)) fail(field, "is " + value->dump() + ", out of range");
  return x;
}

double JsonFields::required_number(const char* field, double low, double high) const {
  const auto x = number(field, low, high);
  if (!x) fail(field, "is missing");
  return *x;
}

std::optional<bool> JsonFields::boolean(const char* field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) fail(field, "must be true or false");
  return value->get<bool>();
}

std::optional<std::string> JsonFields::string(const char* field) const {
  const Json* value = find(field);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(field, "must be a string");
  return value->get<std::string>();
}

std::vector<int32_t> JsonFields::ids(const char* field, int64_t high) const {
  const Json* value = find(field);
  std::vector<int32_t> ids;
  if (value == nullptr) return ids;
  const auto add = [&](const Json& x) {
    if (!x.is_number_integer() || x.get<int64_t>() < 0 || x.get<int64_t>() > high)
      fail(field, "must be token ids between 0 and " + std::to_string(high));
    ids.push_back(x.get<int32_t>());
  };
  if (value->is_array())
    for (const Json& x : *value) add(x);
  else add(*value);
  return ids;
}

}  // namespace stamp
