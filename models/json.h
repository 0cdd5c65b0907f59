#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/nlohmann.h"

namespace stamp {

/// Parses one JSON value. Throws InputError "<file_name>: ..." on a syntax error, a duplicate key, nesting
/// deeper than 64, bytes that are not UTF-8, or text after the value.
nlohmann::json parse_json(std::string_view text, const std::string& file_name);
/// The same with objects in the order of the text, which a chat template shows to the model.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& file_name);

/// The same for a file of at most `max_bytes`.
nlohmann::json read_json_file(const std::filesystem::path& file, uint64_t max_bytes = uint64_t{64} << 20);

/// A file's bytes. Throws InputError naming the file if it is missing, not a regular file, or larger than
/// `max_bytes`.
std::string read_file(const std::filesystem::path& file, uint64_t max_bytes);

/// The text with control characters written as \u00XX: names out of files must not break a message's one
/// line.
std::string printable(std::string_view text);

/// Typed access to the fields of a JSON object. Every error is an InputError "<file>: <field> ...". A null
/// counts as absent.
class JsonFields {
 public:
  /// Throws if `object` is not an object. Both arguments must outlive this; `prefix` ("rope_scaling.") begins
  /// field names in messages.
  JsonFields(const nlohmann::json& object, std::string file, std::string prefix = {});

  bool has(const char* field) const { return find(field) != nullptr; }
  const nlohmann::json* find(const char* field) const;  // null if absent or null
  std::optional<int64_t> integer(const char* field, int64_t low, int64_t high) const;
  int64_t required_integer(const char* field, int64_t low, int64_t high) const;
  std::optional<double> number(const char* field, double low, double high) const;
  double required_number(const char* field, double low, double high) const;
  std::optional<bool> boolean(const char* field) const;
  std::optional<std::string> string(const char* field) const;
  /// A whole number or an array of whole numbers.
  std::vector<int32_t> ids(const char* field, int64_t high) const;

  [[noreturn]] void fail(const std::string& field, const std::string& message) const;
  const nlohmann::json& object() const { return object_; }
  const std::string& file() const { return file_; }
  const std::string& prefix() const { return prefix_; }

 private:
  const nlohmann::json& object_;
  std::string file_, prefix_;
};

}  // namespace stamp
