#pragma once
#include <string>
#include <vector>

#include "engine/grammar/automaton.h"
#include "engine/grammar/expression.h"
#include "models/nlohmann.h"

namespace stamp::grammar {

/// The grammar of the JSON texts that are valid for a JSON schema (draft 2020-12), as tools and
/// `response_format` have them. What is written is narrower than what the schema allows where that changes no
/// meaning: properties come in the schema's order; a schema that names properties has no others, unless
/// additionalProperties says so, and then they come last; without a type, keywords of a single type imply it.
/// Numbers and white space are bounded as constrain_to_json_object() says; integers have 64 bits; numbers
/// with bounds have no exponent.
///
/// Supported: type, enum, const, anyOf, oneOf whose alternatives exclude one another by type, by a constant
/// property or by a property that the other forbids, allOf that can be merged, $ref within the schema ($defs,
/// recursion), nullable; properties, required, additionalProperties; items, prefixItems, minItems, maxItems;
/// minLength, maxLength, pattern (see regex.h), format (date, time, date-time, uuid, ipv4, email, hostname);
/// minimum, maximum, exclusiveMinimum, exclusiveMaximum. Annotations are ignored. Everything else could make
/// texts invalid and is refused by name: throws InputError "<place>: ...", the place being a JSON pointer.
Grammar grammar_of_schema(const nlohmann::ordered_json& schema);

struct NamedSchema {
  std::string name;
  nlohmann::ordered_json schema;
};
/// How calls of tools are written: open, objects {"name": ..., ARGUMENTS: ...} with `between` between them,
/// close.
struct CallSyntax {
  Expression open = empty(), between = empty(), close = empty();
  std::string arguments{};  // the field's name
  uint32_t most = 1;        // calls, at least one
};
/// The grammar of calls whose arguments are valid for the schema that the name has. Throws as
/// grammar_of_schema(), the place beginning with the name.
Grammar grammar_of_calls(const std::vector<NamedSchema>& tools, const CallSyntax& syntax);

}  // namespace stamp::grammar
