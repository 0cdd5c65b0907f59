#include "engine/grammar/expression.h"

#include "models/utf8.h"

namespace stamp::grammar {

Expression nothing() { return graph(2, {}); }

Expression empty() { return graph(1, {}); }

Expression characters(CodePoints set, Spelling spelling) {
  Expression e;
  e.kind = Expression::Kind::kCharacters;
  e.characters = std::move(set);
  e.spelling = spelling;
  return e;
}

Expression literal(std::string_view text, Spelling spelling) {
  std::vector<Expression> parts;
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    parts.push_back(characters({{c, c}}, spelling));
  }
  return sequence(std::move(parts));
}

Expression sequence(std::vector<Expression> parts) {
  std::vector<Expression::Arc> arcs;
  for (uint32_t i = 0; i < parts.size(); ++i) arcs.push_back({i, i + 1, std::move(parts[i])});
  const auto nodes = uint32_t(arcs.size() + 1);
  return graph(nodes, std::move(arcs));
}

Expression choice(std::vector<Expression> parts) {
  std::vector<Expression::Arc> arcs;
  for (Expression& part : parts) arcs.push_back({0, 1, std::move(part)});
  return graph(2, std::move(arcs));
}

Expression repeat(Expression part, uint32_t least, uint32_t most) {
  Expression e;
  e.kind = Expression::Kind::kRepeat;
  e.part.push_back(std::move(part));
  e.least = least;
  e.most = most;
  return e;
}

Expression optional(Expression part) { return repeat(std::move(part), 0, 1); }

Expression call(uint32_t rule) {
  Expression e;
  e.kind = Expression::Kind::kCall;
  e.rule = rule;
  return e;
}

Expression machine(Dfa dfa) {
  Expression e;
  e.kind = Expression::Kind::kMachine;
  e.machine.push_back(std::move(dfa));
  return e;
}

Expression graph(uint32_t nodes, std::vector<Expression::Arc> arcs) {
  Expression e;
  e.nodes = nodes;
  e.arcs = std::move(arcs);
  return e;
}

Expression respell(Expression expression, Spelling spelling) {
  expression.spelling = spelling;
  for (auto& arc : expression.arcs) arc.label = respell(std::move(arc.label), spelling);
  for (auto& part : expression.part) part = respell(std::move(part), spelling);
  return expression;
}

}  // namespace stamp::grammar
