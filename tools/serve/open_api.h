#pragma once
#include <string_view>

namespace stamp {

/// tools/serve/openapi.json; CMake writes the definition.
extern const std::string_view kOpenApi;

}  // namespace stamp
