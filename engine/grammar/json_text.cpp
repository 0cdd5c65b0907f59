#include "engine/grammar/json_text.h"

#include "engine/grammar/regex.h"

namespace stamp::grammar {
namespace {

Expression text(std::string_view bytes) { return literal(bytes); }

Expression json_character() { return characters(CodePoints::all(), Spelling::kJsonFree); }

}  // namespace

Expression quoted(Expression content) { return sequence({text("\""), std::move(content), text("\"")}); }

Expression JsonText::gap() {
  const Expression indent = rule(&JsonText::indent_, [] {
    const auto run = [](std::string_view c, uint32_t most) { return repeat(text(c), 0, most); };
    return sequence({text("\n"), choice({run(" ", kMaxIndent), run("\t", kMaxIndent / 4)})});
  });
  return optional(choice({text(" "), indent}));
}

Expression JsonText::any_string() {
  return rule(&JsonText::any_string_, [] { return quoted(repeat(json_character(), 0)); });
}

Expression JsonText::string(uint32_t least, uint32_t most) {
  // A call for each character: a copy of all spellings for each would need too many states.
  const Expression one = rule(&JsonText::character_, [] { return json_character(); });
  return quoted(repeat(one, least, most));
}

Expression JsonText::any_number() {
  return rule(&JsonText::any_number_, [] {
    return parse_regex(R"(-?(0|[1-9]\d{0,19})(\.\d{1,20})?)"
                       R"(([eE](\+?(0?\d\d?|1\d\d|2[0-7]\d)|-(0?\d\d?|[12]\d\d|3[0-2]\d)))?)",
                       RegexMatch::kWhole);
  });
}

Expression JsonText::value_body() {
  return choice({object({}, any_value()), array({}, any_value(), 0, Expression::kNoLimit), any_string(),
                 any_number(), text("true"), text("false"), text("null")});
}

Expression JsonText::constant(const nlohmann::ordered_json& value) {
  if (value.is_string()) return quoted(literal(value.get_ref<const std::string&>(), Spelling::kJson));
  if (value.is_array()) {
    std::vector<Expression> items;
    for (const auto& item : value) items.push_back(constant(item));
    const auto count = uint32_t(items.size());
    return array(items, std::nullopt, count, count);
  }
  if (value.is_object()) {
    std::vector<Property> properties;
    for (const auto& [name, item] : value.items()) properties.push_back({name, true, constant(item)});
    return object(properties, std::nullopt);
  }
  return text(value.dump());
}

Expression JsonText::name_and(Expression name, Expression value) {
  return sequence({std::move(name), text(":"), optional(text(" ")), std::move(value)});
}

/// Any but these, however they are written.
Expression JsonText::other_name(const std::vector<Property>& properties) {
  if (properties.empty()) return any_string();
  std::vector<Expression> names;
  for (const Property& property : properties) names.push_back(literal(property.name, Spelling::kJsonFree));
  const Dfa all = compile(repeat(json_character(), 0), budget_);
  return quoted(machine(subtract(all, compile(choice(std::move(names)), budget_))));
}

Expression JsonText::object(const std::vector<Property>& properties,
                            const std::optional<Expression>& additional) {
  // Before property i: node first(i) if there is none yet, later(i) if there is, due(i) behind the comma.
  const auto count = uint32_t(properties.size());
  const auto first = [](uint32_t i) { return 1 + 3 * i; };
  const auto later = [](uint32_t i) { return 2 + 3 * i; };
  const auto due = [](uint32_t i) { return 3 + 3 * i; };
  const uint32_t end = due(count) + 1;
  const Expression comma = sequence({text(","), gap()});
  std::vector<Expression::Arc> arcs{{0, first(0), sequence({text("{"), gap()})}};
  for (uint32_t i = 0; i < count; ++i) {
    const Property& property = properties[i];
    arcs.push_back({first(i), due(i), empty()});
    arcs.push_back({later(i), due(i), comma});
    arcs.push_back(
        {due(i), later(i + 1), name_and(quoted(literal(property.name, Spelling::kJson)), property.value)});
    if (property.required) continue;
    arcs.push_back({first(i), first(i + 1), empty()});
    arcs.push_back({later(i), later(i + 1), empty()});
  }
  if (additional) {
    arcs.push_back({first(count), due(count), empty()});
    arcs.push_back({later(count), due(count), comma});
    arcs.push_back({due(count), later(count), name_and(other_name(properties), *additional)});
  }
  arcs.push_back({first(count), end, text("}")});
  arcs.push_back({later(count), end, sequence({gap(), text("}")})});
  return graph(end + 1, std::move(arcs));
}

Expression JsonText::array(const std::vector<Expression>& first, const std::optional<Expression>& rest,
                           uint32_t least, uint32_t most) {
  if (!rest) most = std::min(most, uint32_t(first.size()));
  // Node 1 + i: behind i items. Without a limit the last one stands for all further counts.
  const bool endless = most == Expression::kNoLimit;
  const uint32_t counted = endless ? std::max(uint32_t(first.size() + 1), least) : most;
  const uint32_t end = counted + 2;
  const Expression comma = sequence({text(","), gap()});
  std::vector<Expression::Arc> arcs{{0, 1, sequence({text("["), gap()})}};
  for (uint32_t i = 0; i <= counted; ++i) {
    const uint32_t node = 1 + i;
    const Expression* item = i < first.size() ? &first[i] : rest ? &*rest : nullptr;
    if (i >= least) arcs.push_back({node, end, i == 0 ? text("]") : sequence({gap(), text("]")})});
    if (item == nullptr || (i == counted && !endless)) continue;
    arcs.push_back({node, std::min(node + 1, end - 1), i == 0 ? *item : sequence({comma, *item})});
  }
  return graph(end + 1, std::move(arcs));
}

}  // namespace stamp::grammar
