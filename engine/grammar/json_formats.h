#pragma once
#include <string_view>

#include "engine/grammar/expression.h"

namespace stamp::grammar {

/// The strings of a JSON Schema "format". Throws InputError for one that is not supported.
Expression format_expression(std::string_view name);

}  // namespace stamp::grammar
