#pragma once
#include <stdexcept>
#include <string>
#include <utility>

#include "models/nlohmann.h"

namespace stamp {

/// A request that is refused: the status and OpenAI's error object. Thrown while a request is read, and
/// written as the answer at one place.
struct ApiError : std::runtime_error {
  /// `param`: the field at fault; empty: none in particular. `code`: for programs, such as
  /// "model_not_found"; empty: null.
  ApiError(int http_status, const std::string& message, std::string at = {}, std::string name = {})
      : std::runtime_error(message), status(http_status), param(std::move(at)), code(std::move(name)) {}

  int status;
  std::string param, code;
  int retry_after = 0;  // seconds; 0: no such header

  const char* type() const;
  /// {"error": {"message", "type", "param", "code"}}
  nlohmann::ordered_json json() const;
};

}  // namespace stamp
