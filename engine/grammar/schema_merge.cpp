#include "engine/grammar/schema_merge.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "kernels/error.h"
#include "models/json.h"

namespace stamp::grammar {
namespace {

constexpr int kMaxFollowed = 64;

bool is_annotation(std::string_view key) {
  constexpr std::string_view kAnnotations[] = {"title",
                                               "description",
                                               "default",
                                               "example",
                                               "examples",
                                               "deprecated",
                                               "readOnly",
                                               "writeOnly",
                                               "$schema",
                                               "$id",
                                               "id",
                                               "$comment",
                                               "$defs",
                                               "definitions",
                                               "contentMediaType",
                                               "contentEncoding",
                                               "externalDocs",
                                               "xml"};
  return std::ranges::count(kAnnotations, key) > 0 || key.starts_with("x-");
}

constexpr std::array<std::string_view, 6> kTypes{"object", "array", "string", "number", "boolean", "null"};

struct KeywordsOfType {
  std::string_view type;
  std::vector<std::string_view> keywords;
};
const std::vector<KeywordsOfType>& keywords_of_types() {
  static const std::vector<KeywordsOfType> table{
      {"object", {"properties", "required", "additionalProperties"}},
      {"array", {"items", "prefixItems", "minItems", "maxItems"}},
      {"string", {"minLength", "maxLength", "pattern", "format"}},
      {"number", {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}}};
  return table;
}

Schema list_of_types(const Schema& type, const std::string& place) {
  Schema list = type.is_array() ? type : Schema::array({type});
  if (list.empty()) fail_schema(place, "'type' is an empty list");
  for (const auto& name : list)
    if (!name.is_string() || (name != "integer" && std::ranges::count(kTypes, name.get<std::string>()) == 0))
      fail_schema(place,
                  "'type' must be object, array, string, number, integer, boolean, null or a list of these");
  return list;
}

/// The types in both lists; of number and integer that is integer.
Schema common_types(const Schema& a, const Schema& b) {
  Schema both = Schema::array();
  const auto add = [&both](const std::string& type) {
    if (std::ranges::count(both, Schema(type)) == 0) both.push_back(type);
  };
  for (const std::string x : a)
    for (const std::string y : b) {
      if (type_includes(x, y)) add(y);
      else if (type_includes(y, x)) add(x);
    }
  return both;
}

/// As in URIs; what is no escape stays.
std::string percent_decoded(std::string_view text) {
  const auto hex = [&](size_t at) {
    constexpr std::string_view kDigits = "0123456789abcdefABCDEF";
    const size_t digit = at < text.size() ? kDigits.find(text[at]) : std::string_view::npos;
    return digit == std::string_view::npos ? -1 : int(digit < 16 ? digit : digit - 6);
  };
  std::string decoded;
  for (size_t at = 0; at < text.size(); ++at) {
    const bool escape = text[at] == '%' && hex(at + 1) >= 0 && hex(at + 2) >= 0;
    decoded += escape ? char(16 * hex(at + 1) + hex(at + 2)) : text[at];
    if (escape) at += 2;
  }
  return decoded;
}

}  // namespace

void fail_schema(const std::string& place, const std::string& message) {
  throw InputError((place.empty() ? "/" : printable(place)) + ": " + printable(message));
}

bool type_includes(const std::string& type, const std::string& other) {
  return type == other || (type == "number" && other == "integer");
}

std::string type_name(const Schema& value) {
  if (value.is_number_integer()) return "integer";
  if (value.is_number()) return "number";
  return value.type_name();
}

std::vector<std::string> types_of(const Schema& flat) {
  std::vector<std::string> types;
  const auto add = [&types](const std::string& type) {
    if (std::ranges::none_of(types, [&](const std::string& has) { return type_includes(has, type); })) {
      std::erase_if(types, [&](const std::string& has) { return type_includes(type, has); });
      types.push_back(type);
    }
  };
  if (flat.contains("type")) {
    for (const std::string type : flat["type"]) add(type);
    return types;
  }
  for (const auto& [type, keywords] : keywords_of_types())
    for (const std::string_view keyword : keywords)
      if (flat.contains(keyword)) add(std::string(type));
  if (types.size() == 1) return types;
  return {kTypes.begin(), kTypes.end()};
}

const Schema& SchemaReader::resolve(const std::string& reference, const std::string& place) const {
  if (!reference.starts_with('#') || (reference.size() > 1 && reference[1] != '/'))
    fail_schema(place,
                "$ref '" + reference + "': only references into the schema itself (#/...) are supported");
  try {
    return root_.at(Schema::json_pointer(percent_decoded(std::string_view(reference).substr(1))));
  } catch (const nlohmann::json::exception&) {
    fail_schema(place, "$ref '" + reference + "': there is no such place in the schema");
  }
}

Schema SchemaReader::flatten(const Schema& schema, const std::string& place, int followed) const {
  if (followed > kMaxFollowed) fail_schema(place, "references that lead back to themselves");
  if (schema.is_boolean() && schema.get<bool>()) return Schema::object();
  if (schema.is_boolean()) fail_schema(place, "no value is valid for the schema 'false'");
  if (!schema.is_object()) fail_schema(place, "a schema must be an object or a boolean");
  Schema flat = Schema::object();
  for (const auto& [key, value] : schema.items()) {
    if (is_annotation(key) || key == "$ref" || key == "allOf" || key == "nullable") continue;
    flat[key] = key == "type" ? list_of_types(value, place) : value;
  }
  if (const auto reference = schema.find("$ref"); reference != schema.end()) {
    if (!reference->is_string()) fail_schema(place, "'$ref' must be a string");
    const Schema& target = resolve(reference->get<std::string>(), place);
    flat = merge(std::move(flat), flatten(target, reference->get<std::string>(), followed + 1), place);
  }
  if (const auto parts = schema.find("allOf"); parts != schema.end()) {
    if (!parts->is_array()) fail_schema(place, "'allOf' must be a list");
    for (size_t i = 0; i < parts->size(); ++i)
      flat = merge(std::move(flat), flatten((*parts)[i], place + "/allOf/" + std::to_string(i), followed + 1),
                   place);
  }
  if (const auto nullable = schema.find("nullable"); nullable != schema.end() && *nullable == true) {
    if (flat.contains("const") || flat.contains("anyOf") || flat.contains("oneOf"))
      fail_schema(place, "'nullable' beside const, anyOf or oneOf is not supported");
    if (!flat.contains("type")) flat["type"] = types_of(flat);
    if (std::ranges::count(flat["type"], Schema("null")) == 0) flat["type"].push_back("null");
    if (flat.contains("enum") && flat["enum"].is_array()) flat["enum"].push_back(nullptr);
  }
  return flat;
}

Schema SchemaReader::merge(Schema a, const Schema& b, const std::string& place) const {
  const auto closes = [](const Schema& s) {
    return s.contains("additionalProperties") && s["additionalProperties"] != true;
  };
  const auto names_more = [](const Schema& s, const Schema& than) {
    if (!s.contains("properties") || !s["properties"].is_object()) return false;
    return std::ranges::any_of(s["properties"].items(), [&](const auto& property) {
      return !than.contains("properties") || !than["properties"].contains(property.key());
    });
  };
  if ((closes(a) && names_more(b, a)) || (closes(b) && names_more(a, b)))
    fail_schema(place,
                "additionalProperties beside properties of another schema in allOf or $ref is not supported");
  for (const auto& [key, value] : b.items()) {
    const auto mine = a.find(key);
    if (mine == a.end() || *mine == value) {
      a[key] = value;
    } else if (key == "type") {
      a[key] = common_types(*mine, value);
      if (a[key].empty()) fail_schema(place, "no value has the types of all parts");
    } else if (key == "properties" && mine->is_object() && value.is_object()) {
      for (const auto& [name, property] : value.items()) {
        Schema& own = (*mine)[name];
        own = own.is_null() || own == property ? property : Schema{{"allOf", {own, property}}};
      }
    } else if (key == "required" && mine->is_array()) {
      for (const auto& name : value)
        if (std::ranges::count(*mine, name) == 0) mine->push_back(name);
    } else if (key == "enum" && mine->is_array() && value.is_array()) {
      Schema both = Schema::array();
      for (const auto& x : *mine)
        if (std::ranges::count(value, x) > 0) both.push_back(x);
      *mine = both;
    } else if (key.starts_with("min") || key == "exclusiveMinimum") {
      if (value > *mine) *mine = value;
    } else if (key.starts_with("max") || key == "exclusiveMaximum") {
      if (value < *mine) *mine = value;
    } else {
      fail_schema(place, "'" + key + "' in two parts of allOf or beside $ref is not supported");
    }
  }
  return a;
}

bool SchemaReader::exclude(const Schema& a, const Schema& b, const std::string& place, int nested) const {
  if (nested > kMaxFollowed) return false;
  const auto values = [](const Schema& s) {
    if (s.contains("const")) return Schema::array({s["const"]});
    return s.contains("enum") ? s["enum"] : Schema();
  };
  const Schema of_a = values(a), of_b = values(b);
  if (of_a.is_array() && of_b.is_array())
    return std::ranges::none_of(of_a, [&](const Schema& x) { return std::ranges::count(of_b, x) > 0; });
  const auto types = [&](const Schema& s, const Schema& list) {
    std::vector<std::string> names;
    for (const auto& x : list.is_array() ? list : Schema::array()) names.push_back(type_name(x));
    return list.is_array() ? names : types_of(s);
  };
  // Only what is said outright counts: keywords alone do not exclude values of other types.
  const auto said = [](const Schema& s) {
    return s.contains("type") || s.contains("const") || s.contains("enum");
  };
  if (!said(a) || !said(b)) return false;
  bool share_objects = false;
  for (const std::string& x : types(a, of_a))
    for (const std::string& y : types(b, of_b)) {
      if (!type_includes(x, y) && !type_includes(y, x)) continue;
      if (x != "object" || y != "object") return false;
      share_objects = true;
    }
  if (!share_objects) return true;
  const auto requires_name = [](const Schema& s, const std::string& name) {
    return s.contains("required") && s["required"].is_array() &&
           std::ranges::count(s["required"], Schema(name)) > 0;
  };
  const auto property = [](const Schema& s, const std::string& name) -> const Schema* {
    return s.contains("properties") && s["properties"].is_object() && s["properties"].contains(name)
               ? &s["properties"][name]
               : nullptr;
  };
  for (const auto& [one, other] : {std::pair(&a, &b), std::pair(&b, &a)}) {
    if (!one->contains("required") || !(*one)["required"].is_array()) continue;
    for (const auto& name : (*one)["required"]) {
      if (!name.is_string()) continue;
      const Schema *mine = property(*one, name), *theirs = property(*other, name);
      if (theirs == nullptr && other->contains("additionalProperties") &&
          (*other)["additionalProperties"] == false)
        return true;
      if (mine != nullptr && theirs != nullptr && requires_name(*other, name) &&
          exclude(flatten(*mine, place), flatten(*theirs, place), place, nested + 1))
        return true;
    }
  }
  return false;
}

}  // namespace stamp::grammar
