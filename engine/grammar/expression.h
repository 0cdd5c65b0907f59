#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/grammar/code_points.h"
#include "engine/grammar/dfa.h"

namespace stamp::grammar {

/// How characters are written as bytes.
enum class Spelling {
  kUtf8,
  kJson,      // within a JSON string: UTF-8, and the escapes that json.dumps writes
  kJsonFree,  // within a JSON string: in all the ways that JSON has
};

/// What a text may be: a regular expression that may call rules. A value; compile() turns it into a Dfa.
struct Expression {
  struct Arc;
  enum class Kind { kCharacters, kGraph, kRepeat, kCall, kMachine };

  Kind kind = Kind::kGraph;
  CodePoints characters{};              // kCharacters: one of these
  Spelling spelling = Spelling::kUtf8;  // and how
  std::vector<Arc> arcs{};              // kGraph: any way from node 0 to node `nodes` - 1
  uint32_t nodes = 1;                   // kGraph
  std::vector<Expression> part{};       // kRepeat: one, which comes `least` to `most` times
  uint32_t least = 0, most = kNoLimit;  // kRepeat
  uint32_t rule = 0;                    // kCall
  std::vector<Dfa> machine{};           // kMachine: one, without calls

  static constexpr uint32_t kNoLimit = UINT32_MAX;
};

/// A step of a graph.
struct Expression::Arc {
  uint32_t from, to;
  Expression label;
};

Expression nothing();  // no text at all
Expression empty();    // the text without characters
Expression characters(CodePoints set, Spelling spelling = Spelling::kUtf8);
/// The characters of valid UTF-8 in a row.
Expression literal(std::string_view text, Spelling spelling = Spelling::kUtf8);
Expression sequence(std::vector<Expression> parts);
Expression choice(std::vector<Expression> parts);
Expression repeat(Expression part, uint32_t least, uint32_t most = Expression::kNoLimit);
Expression optional(Expression part);
Expression call(uint32_t rule);
Expression machine(Dfa dfa);
Expression graph(uint32_t nodes, std::vector<Expression::Arc> arcs);

/// The same with other bytes for its characters.
Expression respell(Expression expression, Spelling spelling);

/// What may still be spent on a grammar, so that hostile ones end in an error: some seconds, some 100 MB.
struct Budget {
  size_t work = 100'000'000;  // looks at a node
  size_t states = 200'000;    // of all automata
};

/// Throws InputError, without a prefix, if that takes more than kMaxStates or the budget.
Dfa compile(const Expression& expression, Budget& budget);

}  // namespace stamp::grammar
