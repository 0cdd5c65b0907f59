#pragma once
#include <string>
#include <vector>

#include "models/nlohmann.h"

namespace stamp::grammar {

using Schema = nlohmann::ordered_json;

[[noreturn]] void fail_schema(const std::string& place, const std::string& message);

/// One object of constraining keywords: references followed, allOf merged in, annotations left out, nullable
/// and a single type made a list of types. `root` is what references are in.
class SchemaReader {
 public:
  explicit SchemaReader(const Schema& root) : root_(root) {}
  Schema flatten(const Schema& schema, const std::string& place, int followed = 0) const;
  /// Both at once. Throws InputError for keywords that no single one can stand for.
  Schema merge(Schema a, const Schema& b, const std::string& place) const;
  /// Whether certainly no value is valid for both, which are flat.
  bool exclude(const Schema& a, const Schema& b, const std::string& place, int nested = 0) const;

 private:
  const Schema& resolve(const std::string& reference, const std::string& place) const;
  const Schema& root_;
};

/// The types that values of a flat schema may have, of "object", "array", "string", "number", "integer",
/// "boolean" and "null"; where it has "number" it has no "integer".
std::vector<std::string> types_of(const Schema& flat);
/// The type of a value; whole numbers are "integer".
std::string type_name(const Schema& value);
bool type_includes(const std::string& type, const std::string& other);

}  // namespace stamp::grammar
