#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/jinja/value.h"

namespace stamp::jinja {

struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Body = std::vector<std::unique_ptr<Stmt>>;

enum class Op {
  kConst,   // value
  kName,    // name, slot
  kNsRef,   // name.text as a target; slot of the namespace
  kTuple,   // items
  kList,    // items
  kDict,    // items: key, value, key, value, ...
  kConcat,  // items
  kAdd,     // items: left, right; so for all to kOr
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
  kAnd,
  kOr,
  kNot,  // items: operand
  kNeg,
  kPos,
  kCompare,  // items: one more than compares
  kGetattr,  // items: object; name
  kGetitem,  // items: object, index
  kSlice,    // items: object, start, stop, step; all but the object may be null
  kCall,     // items: callee; args
  kFilter,   // items: input, null in a filter block; name; args
  kTest,     // items: input; name; args
  kCond,     // items: test, then, else; else may be null
};

enum class Comparison { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

/// Where a variable lives: `up` scopes outwards, at `index` there.
struct Slot {
  int up = 0, index = 0;
};

struct Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, star_star;
};

struct FilterEntry;
struct TestEntry;

struct Expr {
  Expr(Op o, int l) : op(o), line(l) {}
  Op op;
  int line;
  bool store = false;  // a name that is assigned to
  bool parameter = false;
  Value value;
  std::string name;
  std::string text;  // of a string constant; the attribute of kNsRef
  std::vector<ExprPtr> items;
  std::vector<Comparison> compares;
  std::unique_ptr<Arguments> args;
  Slot slot;
  const FilterEntry* filter = nullptr;
  const TestEntry* test = nullptr;
};

/// How a variable of a scope gets its first value when the scope is entered.
struct Load {
  enum class From { kParameter, kContext, kOuter, kNothing };
  From from;
  std::string name;  // kContext
  Slot outer;        // kOuter, seen from the scope itself
};

/// A scope's variables; load[i] is how slot i begins.
struct Scope {
  std::vector<Load> loads;
};

enum class StmtKind {
  kText,        // text
  kOutput,      // exprs
  kIf,          // branches: exprs[i] guards bodies[i]; a last body without one is the else
  kFor,         // target, exprs: iterable, test (may be null); bodies: body, else; scopes: body, else, test
  kMacro,       // name, exprs: parameters, then defaults; bodies: body
  kCall,        // exprs: call, parameters, defaults; bodies: body
  kFilter,      // exprs: filter; bodies: body
  kWith,        // exprs: target, value, target, value, ...; bodies: body
  kSet,         // target, exprs: value
  kSetBlock,    // target, exprs: filter (may be null); bodies: body
  kGeneration,  // bodies: body
  kBreak,
  kContinue,
};

struct MacroShape {
  std::string name;
  size_t parameters = 0, defaults = 0;
  int caller = -1, kwargs = -1, varargs = -1;  // slots of the implicit parameters the body uses
  bool explicit_caller = false;
};

struct Stmt {
  Stmt(StmtKind k, int l) : kind(k), line(l) {}
  StmtKind kind;
  int line;
  std::string text;
  ExprPtr target;
  std::vector<ExprPtr> exprs;
  std::vector<Body> bodies;
  std::vector<Scope> scopes;
  bool recursive = false;
  int loop = -1;  // slot of `loop` in a for's body, if it is used
  MacroShape macro;
};

struct Ast {
  Body body;
  Scope scope;
};

/// An error in the template's text.
class SyntaxError : public std::runtime_error {
 public:
  SyntaxError(const std::string& message, int l) : std::runtime_error(message), line(l) {}
  int line;
};

/// Parses and resolves all names. Throws SyntaxError. String values view into the tree.
std::unique_ptr<const Ast> parse(std::string_view source);

/// Gives every variable its slot, by jinja2's rules of scoping (its idtracking module). Throws SyntaxError
/// for a filter or a test that does not exist, unless an if or an inline if guards it, and for break or
/// continue outside of a loop.
void resolve(Ast& ast);

}  // namespace stamp::jinja
