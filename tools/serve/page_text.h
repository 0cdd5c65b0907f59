#pragma once
#include <string_view>

namespace stamp {

/// tools/serve/page.html; CMake writes the definition.
extern const std::string_view kPageText;

}  // namespace stamp
