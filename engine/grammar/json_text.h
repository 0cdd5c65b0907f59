#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/grammar/automaton.h"
#include "engine/grammar/expression.h"
#include "models/nlohmann.h"

namespace stamp::grammar {

/// Spaces behind a line break, at most.
inline constexpr uint32_t kMaxIndent = 64;

/// Expressions for JSON's syntax, with rules for what is in many places. Between tokens there may be nothing,
/// a space, or (not around a colon) a line break with spaces or tabs: all that json.dumps writes.
class JsonText {
 public:
  /// The first rule is the caller's.
  JsonText() : grammar_(1) {}

  uint32_t add_rule() {
    grammar_.emplace_back();
    return uint32_t(grammar_.size() - 1);
  }
  void define(uint32_t rule, const Expression& expression) { grammar_[rule] = compile(expression, budget_); }
  Grammar take() { return std::move(grammar_); }
  Budget& budget() { return budget_; }

  Expression any_value() {
    return rule(&JsonText::any_value_, [this] { return value_body(); });
  }
  Expression any_string();
  Expression any_number();
  /// A string of so many characters.
  Expression string(uint32_t least, uint32_t most);
  /// One value, as json.dumps writes it or with other white space.
  Expression constant(const nlohmann::ordered_json& value);

  struct Property {
    std::string name;
    bool required;
    Expression value;
  };
  /// The properties in this order, then others with values of `additional`.
  Expression object(const std::vector<Property>& properties, const std::optional<Expression>& additional);
  /// `first` items, then others like `rest`, in all `least` to `most`.
  Expression array(const std::vector<Expression>& first, const std::optional<Expression>& rest,
                   uint32_t least, uint32_t most);

 private:
  template <class Body>
  Expression rule(std::optional<uint32_t> JsonText::*which, Body&& body) {
    if (!(this->*which)) {
      const uint32_t id = add_rule();
      this->*which = id;  // first: the body may call it
      define(id, body());
    }
    return call(*(this->*which));
  }
  Expression value_body();
  Expression gap();
  Expression name_and(Expression name, Expression value);
  Expression other_name(const std::vector<Property>& properties);

  Grammar grammar_;
  Budget budget_;
  std::optional<uint32_t> any_value_, any_string_, any_number_, character_, indent_;
};

/// A string's content between its quotes.
Expression quoted(Expression content);

}  // namespace stamp::grammar
