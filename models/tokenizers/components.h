#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/json.h"

namespace stamp {

// What the readers of a tokenizer.json's components share. Each component is an object with a "type".

inline std::string required_string(const JsonFields& fields, const char* name) {
  const auto x = fields.string(name);
  if (!x) fields.fail(name, "is missing");
  return *x;
}

inline bool required_boolean(const JsonFields& fields, const char* name) {
  const auto x = fields.boolean(name);
  if (!x) fields.fail(name, "is missing");
  return *x;
}

/// A field that is one character.
char32_t required_character(const JsonFields& fields, const char* name);

/// Calls visit(fields) for each object of the array `name`.
template <class Visit>
void for_each_object(const JsonFields& fields, const char* name, Visit&& visit) {
  const nlohmann::json* list = fields.find(name);
  if (list == nullptr) fields.fail(name, "is missing");
  if (!list->is_array()) fields.fail(name, "must be an array");
  for (size_t i = 0; i < list->size(); ++i)
    visit(JsonFields((*list)[i], fields.file(), fields.prefix() + name + "[" + std::to_string(i) + "]."));
}

/// The components in the array `name` of a Sequence.
template <class Component>
std::vector<std::unique_ptr<Component>> parse_sequence(const JsonFields& fields, const char* name) {
  std::vector<std::unique_ptr<Component>> parts;
  for_each_object(fields, name, [&](const JsonFields& part) { parts.push_back(Component::parse(part)); });
  return parts;
}

/// The component in the field `name`; null if it is absent.
template <class Component>
std::unique_ptr<Component> parse_optional(const JsonFields& fields, const char* name) {
  const nlohmann::json* part = fields.find(name);
  if (part == nullptr) return nullptr;
  return Component::parse(JsonFields(*part, fields.file(), fields.prefix() + name + "."));
}

}  // namespace stamp
