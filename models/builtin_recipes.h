#pragma once
#include <span>
#include <string_view>
#include <utility>

namespace stamp {

/// Name and text of each configs/*.json that is a recipe; CMake writes the definition, so that the program
/// needs no data files beside it.
extern const std::span<const std::pair<std::string_view, std::string_view>> kBuiltinRecipes;

}  // namespace stamp
