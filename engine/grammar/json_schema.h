#pragma once
#include <nlohmann/json.hpp>

#include "engine/grammar/automaton.h"

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

}  // namespace stamp::grammar
