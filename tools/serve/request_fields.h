#pragma once
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "models/nlohmann.h"
#include "tools/serve/api_error.h"

namespace stamp {

/// Typed access to the fields of an object in a request. Every fault is an ApiError 400 that names the field.
/// Null counts as absent. A field that nothing asked for is refused at the end, so that no wish of the client
/// is passed over in silence.
class RequestFields {
 public:
  /// Both arguments must outlive this; `prefix` ("stream_options.") begins field names in messages.
  RequestFields(const nlohmann::ordered_json& object, std::string prefix = {});

  const nlohmann::ordered_json* find(const char* field);  // null if absent or null
  std::optional<bool> boolean(const char* field);
  std::optional<int64_t> integer(const char* field, int64_t low, int64_t high);
  std::optional<double> number(const char* field, double low, double high);
  std::optional<std::string> string(const char* field);
  std::string required_string(const char* field);

  /// Fields that change nothing in the answer.
  void ignore(std::initializer_list<const char*> fields);
  /// A field that would change the answer and is not supported: only its default may be given.
  void refuse(const char* field, const nlohmann::ordered_json& harmless = nullptr);
  /// Refuses what is left.
  void finish();

  std::string path(std::string_view field) const { return prefix_ + std::string(field); }
  [[noreturn]] void fail(std::string_view field, const std::string& message) const;

 private:
  const nlohmann::ordered_json& object_;
  std::string prefix_;
  std::set<std::string_view> known_;
};

}  // namespace stamp
