#include "engine/grammar/json_schema.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>

#include "engine/grammar/json_formats.h"
#include "engine/grammar/json_numbers.h"
#include "engine/grammar/json_text.h"
#include "engine/grammar/regex.h"
#include "engine/grammar/schema_merge.h"
#include "kernels/error.h"
#include "models/json.h"

namespace stamp::grammar {
namespace {

constexpr int kMaxNesting = 100;
constexpr size_t kMaxRules = 5000;
constexpr size_t kMaxBytes = size_t{256} << 10;  // of a schema: each level copies what is below it

bool is_supported(std::string_view key) {
  constexpr std::string_view kSupported[] = {"type",
                                             "enum",
                                             "const",
                                             "anyOf",
                                             "oneOf",
                                             "properties",
                                             "required",
                                             "additionalProperties",
                                             "items",
                                             "prefixItems",
                                             "minItems",
                                             "maxItems",
                                             "minLength",
                                             "maxLength",
                                             "pattern",
                                             "format",
                                             "minimum",
                                             "maximum",
                                             "exclusiveMinimum",
                                             "exclusiveMaximum",
                                             "multipleOf"};
  return std::ranges::count(kSupported, key) > 0;
}

/// Adds the place to errors that have none.
template <class Work>
auto within(const std::string& place, Work&& work) {
  try {
    return work();
  } catch (const InputError& e) {
    fail_schema(place, e.what());
  }
}

class SchemaCompiler {
 public:
  SchemaCompiler(const Schema& root, JsonText& json) : reader_(root), json_(json) {
    if (root.dump().size() > kMaxBytes)
      throw InputError("is longer than " + std::to_string(kMaxBytes) + " bytes");
  }

  /// A call of the schema's rule.
  Expression value(const Schema& schema, const std::string& place) {
    return call_of(reader_.flatten(schema, place), place);
  }

 private:
  Expression call_of(const Schema& flat, const std::string& place) {
    if (flat.empty()) return json_.any_value();
    if (flat == Schema{{"type", {"string"}}}) return json_.any_string();
    if (flat == Schema{{"type", {"number"}}}) return json_.any_number();
    const auto [known, fresh] = rules_.try_emplace(flat.dump(), 0);
    if (!fresh) return call(known->second);
    if (rules_.size() > kMaxRules) fail_schema(place, "more than " + std::to_string(kMaxRules) + " schemas");
    if (++nesting_ > kMaxNesting) fail_schema(place, "nested deeper than " + std::to_string(kMaxNesting));
    const uint32_t rule = known->second = json_.add_rule();
    const Expression expression = body(flat, place);
    within(place, [&] { json_.define(rule, expression); });
    --nesting_;
    return call(rule);
  }

  Expression body(const Schema& flat, const std::string& place) {
    for (const auto& [key, keyword] : flat.items())
      if (!is_supported(key)) fail_schema(place, "'" + key + "' is not supported");
    if (flat.contains("const") || flat.contains("enum")) return constants(flat, place);
    if (flat.contains("anyOf") || flat.contains("oneOf")) return alternatives(flat, place);
    std::vector<Expression> parts;
    for (const std::string& type : types_of(flat)) parts.push_back(of_type(type, flat, place));
    return choice(std::move(parts));
  }

  Expression of_type(const std::string& type, const Schema& flat, const std::string& place) {
    if (type == "object") return object(flat, place);
    if (type == "array") return array(flat, place);
    if (type == "string") return string(flat, place);
    if (type == "number" || type == "integer") return number(type == "integer", flat, place);
    return type == "null" ? literal("null") : choice({literal("true"), literal("false")});
  }

  Expression constants(const Schema& flat, const std::string& place) {
    for (const auto& [key, keyword] : flat.items())
      if (key != "const" && key != "enum" && key != "type")
        fail_schema(place, "'" + key + "' beside const or enum is not supported");
    Schema values = flat.contains("enum") ? flat["enum"] : Schema::array({flat["const"]});
    if (!values.is_array() || values.empty()) fail_schema(place, "'enum' must be a list that is not empty");
    std::vector<Expression> parts;
    for (const Schema& value : values) {
      const auto fits = [&](const std::string& type) { return type_includes(type, type_name(value)); };
      if (flat.contains("type") && std::ranges::none_of(types_of(flat), fits)) continue;
      if (flat.contains("const") && flat["const"] != value) continue;
      parts.push_back(json_.constant(value));
    }
    if (parts.empty()) fail_schema(place, "no value of const or enum has the type");
    return choice(std::move(parts));
  }

  Expression alternatives(const Schema& flat, const std::string& place) {
    const bool exclusive = flat.contains("oneOf");
    const std::string keyword = exclusive ? "oneOf" : "anyOf";
    if (exclusive && flat.contains("anyOf")) fail_schema(place, "oneOf beside anyOf is not supported");
    const Schema& list = flat[keyword];
    if (!list.is_array() || list.empty())
      fail_schema(place, "'" + keyword + "' must be a list that is not empty");
    Schema common = flat;
    common.erase(keyword);
    std::vector<Schema> flats;
    std::vector<Expression> parts;
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string at = place + "/" + keyword + "/" + std::to_string(i);
      flats.push_back(reader_.merge(common, reader_.flatten(list[i], at), at));
      const bool nests = flats.back().contains("anyOf") || flats.back().contains("oneOf");
      const bool refers = list[i].is_object() && list[i].contains("$ref");
      parts.push_back(nests || refers || flats.back().empty() ? call_of(flats.back(), at)
                                                              : body(flats.back(), at));
    }
    for (size_t i = 0; exclusive && i < flats.size(); ++i)
      for (size_t j = 0; j < i; ++j)
        if (!reader_.exclude(flats[j], flats[i], place))
          fail_schema(place,
                      "oneOf/" + std::to_string(j) + " and oneOf/" + std::to_string(i) +
                          " may both be valid, which is not supported: use anyOf, or different types or a "
                          "property with different constants in both");
    return choice(std::move(parts));
  }

  Expression object(const Schema& flat, const std::string& place) {
    const Schema properties = flat.value("properties", Schema::object());
    const Schema required = flat.value("required", Schema::array());
    if (!properties.is_object()) fail_schema(place, "'properties' must be an object");
    if (!required.is_array() || std::ranges::any_of(required, [](const Schema& x) { return !x.is_string(); }))
      fail_schema(place, "'required' must be a list of names");
    const Schema additional =
        flat.value("additionalProperties", Schema(properties.empty() && required.empty()));
    const bool open = additional != false;
    std::vector<JsonText::Property> list;
    for (const auto& [name, property] : properties.items())
      list.push_back({name, std::ranges::count(required, Schema(name)) > 0,
                      value(property, place + "/properties/" + name)});
    for (const std::string name : required) {
      if (properties.contains(name)) continue;
      if (flat.contains("additionalProperties") && !open)
        fail_schema(place, "requires '" + name + "', which additionalProperties forbids");
      const Schema schema = open ? additional : Schema(true);
      if (std::ranges::none_of(list, [&](const auto& property) { return property.name == name; }))
        list.push_back({name, true, value(schema, place + "/additionalProperties")});
    }
    return json_.object(
        list, open ? std::optional(value(additional, place + "/additionalProperties")) : std::nullopt);
  }

  Expression array(const Schema& flat, const std::string& place) {
    const Schema prefix = flat.value("prefixItems", Schema::array());
    if (!prefix.is_array()) fail_schema(place, "'prefixItems' must be a list of schemas");
    std::vector<Expression> first;
    for (size_t i = 0; i < prefix.size(); ++i)
      first.push_back(value(prefix[i], place + "/prefixItems/" + std::to_string(i)));
    const Schema items = flat.value("items", Schema(true));
    if (items.is_array()) fail_schema(place, "'items' as a list is not supported: use prefixItems");
    const auto [least, most] = counts(flat, "minItems", "maxItems", place);
    const auto rest = items == false ? std::nullopt : std::optional(value(items, place + "/items"));
    if (!rest && least > first.size())
      fail_schema(place, "'minItems' is above the number of items there may be");
    return json_.array(first, rest, least, most);
  }

  /// A lower and an upper count.
  std::pair<uint32_t, uint32_t> counts(const Schema& flat, const char* low, const char* high,
                                       const std::string& place) {
    const auto count = [&](const char* key, uint32_t otherwise) {
      if (!flat.contains(key)) return otherwise;
      const Schema& x = flat[key];
      if (!x.is_number_integer() || x < 0 || x > 1'000'000)
        fail_schema(place, std::string("'") + key + "' must be a whole number from 0 to 1000000");
      return x.get<uint32_t>();
    };
    const std::pair result{count(low, 0), count(high, Expression::kNoLimit)};
    if (result.first > result.second)
      fail_schema(place, std::string("'") + low + "' is above '" + high + "'");
    return result;
  }

  Expression string(const Schema& flat, const std::string& place) {
    const auto [least, most] = counts(flat, "minLength", "maxLength", place);
    const bool counted = least > 0 || most != Expression::kNoLimit;
    std::vector<Expression> conditions;
    const auto add = [&](const char* key, auto&& parse) {
      if (!flat.contains(key)) return;
      if (!flat[key].is_string()) fail_schema(place, std::string("'") + key + "' must be a string");
      const std::string text = flat[key];
      conditions.push_back(respell(within(place + "/" + key, [&] { return parse(text); }), Spelling::kJson));
    };
    add("pattern", [](const std::string& text) { return parse_regex(text, RegexMatch::kAnywhere); });
    add("format", [](const std::string& text) { return format_expression(text); });
    if (conditions.empty()) return counted ? json_.string(least, most) : json_.any_string();
    if (counted) conditions.push_back(repeat(characters(CodePoints::all(), Spelling::kJson), least, most));
    return within(place, [&] {
      Dfa all = compile(conditions[0], json_.budget());
      for (size_t i = 1; i < conditions.size(); ++i)
        all = intersect(all, compile(conditions[i], json_.budget()));
      return quoted(machine(std::move(all)));
    });
  }

  Expression number(bool integer, const Schema& flat, const std::string& place) {
    for (const char* key : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
      if (flat.contains(key) && !flat[key].is_number())
        fail_schema(place, std::string("'") + key + "' must be a number");
    if (flat.contains("multipleOf") && !(integer && flat["multipleOf"] == 1))
      fail_schema(place, "'multipleOf' is not supported");
    return integer ? integers(flat, place) : numbers(flat, place);
  }

  static Expression integers(const Schema& flat, const std::string& place) {
    constexpr int64_t kLow = INT64_MIN, kHigh = INT64_MAX;
    // The whole numbers next to a bound; beyond 64 bits there are none.
    const auto whole = [&](const char* key, bool up) {
      const Schema& x = flat[key];
      if (x.is_number_unsigned()) return int64_t(std::min(x.get<uint64_t>(), uint64_t(kHigh)));
      if (x.is_number_integer()) return x.get<int64_t>();
      const double rounded = up ? std::ceil(x.get<double>()) : std::floor(x.get<double>());
      if (std::abs(rounded) < 9e18) return int64_t(rounded);
      return rounded < 0 ? kLow : kHigh;
    };
    int64_t low = kLow, high = kHigh;
    bool none = false;
    if (flat.contains("minimum")) low = whole("minimum", true);
    if (flat.contains("maximum")) high = whole("maximum", false);
    if (flat.contains("exclusiveMinimum")) {
      const int64_t below = whole("exclusiveMinimum", false);
      none = none || below == kHigh;
      if (!none) low = std::max(low, below + 1);
    }
    if (flat.contains("exclusiveMaximum")) {
      const int64_t above = whole("exclusiveMaximum", true);
      none = none || above == kLow;
      if (!none) high = std::min(high, above - 1);
    }
    if (none || low > high) fail_schema(place, "no whole number is within the bounds");
    return integers_between(low, high);
  }

  Expression numbers(const Schema& flat, const std::string& place) {
    const auto low = bound(flat, "minimum", "exclusiveMinimum", [](double a, double b) { return a > b; });
    const auto high = bound(flat, "maximum", "exclusiveMaximum", [](double a, double b) { return a < b; });
    if (!low && !high) return json_.any_number();
    Expression result = within(place, [&] { return numbers_between(low, high, json_.budget()); });
    if (result.machine.front().states.empty()) fail_schema(place, "no number is within the bounds");
    return result;
  }

  template <class Tighter>
  static std::optional<Bound> bound(const Schema& flat, const char* inclusive, const char* exclusive,
                                    Tighter&& tighter) {
    std::optional<Bound> result;
    if (flat.contains(inclusive)) result = {flat[inclusive].get<double>(), true};
    if (flat.contains(exclusive))
      if (const double x = flat[exclusive]; !result || !tighter(result->value, x)) result = {x, false};
    return result;
  }

  SchemaReader reader_;
  JsonText& json_;
  std::map<std::string, uint32_t> rules_;  // by flat schema
  int nesting_ = 0;
};

}  // namespace

Grammar grammar_of_schema(const Schema& schema) {
  JsonText json;
  json.define(0, SchemaCompiler(schema, json).value(schema, ""));
  return json.take();
}

Grammar grammar_of_calls(const std::vector<NamedSchema>& tools, const CallSyntax& syntax) {
  JsonText json;
  std::vector<Expression> calls;
  for (const auto& [name, schema] : tools) {
    const Expression arguments = SchemaCompiler(schema, json).value(schema, name);
    calls.push_back(json.object({{"name", true, json.constant(name)}, {syntax.arguments, true, arguments}},
                                std::nullopt));
  }
  const uint32_t one = json.add_rule();
  json.define(one, choice(std::move(calls)));
  json.define(0, sequence({syntax.open, call(one),
                           repeat(sequence({syntax.between, call(one)}), 0, syntax.most - 1), syntax.close}));
  return json.take();
}

}  // namespace stamp::grammar
