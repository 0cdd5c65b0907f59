#include <map>
#include <optional>
#include <set>

#include "models/jinja/ast.h"
#include "models/jinja/builtins.h"

namespace stamp::jinja {
namespace {

/// The variables of one scope, as they become known.
struct Symbols {
  explicit Symbols(int64_t* b) : parent(nullptr), budget(b) {}
  explicit Symbols(const Symbols* p) : parent(p), budget(p->budget) {}

  const Symbols* parent;
  int64_t* budget;  // names that branches may still copy, so that no template takes long to resolve
  std::map<std::string, Load> loads;
  std::map<std::string, int> slots;  // also of names that only one branch of an if knows
  std::set<std::string> stores;

  std::optional<Slot> find(const std::string& name) const {
    int up = 0;
    for (const Symbols* s = this; s != nullptr; s = s->parent, ++up)
      if (s->loads.contains(name)) return Slot{up, s->slots.at(name)};
    return std::nullopt;
  }
  std::optional<Slot> find_outside(const std::string& name) const {
    auto slot = parent != nullptr ? parent->find(name) : std::nullopt;
    if (slot) ++slot->up;
    return slot;
  }
  int define(const std::string& name, Load load) {
    const int slot = slots.emplace(name, int(slots.size())).first->second;
    loads[name] = std::move(load);
    return slot;
  }
  void load(const std::string& name) {
    if (!find(name)) define(name, {Load::From::kContext, name, {}});
  }
  void store(const std::string& name) {
    stores.insert(name);
    if (loads.contains(name)) return;
    if (const auto outer = find_outside(name)) define(name, {Load::From::kOuter, {}, *outer});
    else define(name, {Load::From::kNothing, {}, {}});
  }
  int parameter(const std::string& name) {
    stores.insert(name);
    return define(name, {Load::From::kParameter, {}, {}});
  }
  /// What a branch of an if on that line begins with.
  Symbols branch(int line) const {
    if ((*budget -= int64_t(loads.size())) < 0) throw SyntaxError("too many branches and names", line);
    return *this;
  }
  /// Takes in what the branches of an if know. What only some of them assign keeps its outer value otherwise.
  void merge(const std::vector<Symbols>& branches) {
    std::set<std::string> assigned;
    for (const Symbols& branch : branches)
      for (const std::string& name : branch.stores)
        if (!stores.contains(name)) assigned.insert(name);
    for (const Symbols& branch : branches) {
      for (const auto& [name, load] : branch.loads) define(name, load);
      stores.insert(branch.stores.begin(), branch.stores.end());
    }
    for (const std::string& name : assigned) {
      if (const auto outer = find_outside(name)) loads[name] = {Load::From::kOuter, {}, *outer};
      else loads[name] = {Load::From::kContext, name, {}};
    }
  }
  Scope scope() const {
    Scope scope;
    scope.loads.resize(slots.size(), {Load::From::kNothing, {}, {}});
    for (const auto& [name, load] : loads) scope.loads[size_t(slots.at(name))] = load;
    return scope;
  }
};

template <class Visit>
void for_each_child(const Expr& expr, Visit visit) {
  const auto maybe = [&](const ExprPtr& child) {
    if (child != nullptr) visit(*child);
  };
  for (const ExprPtr& item : expr.items) maybe(item);
  if (expr.args == nullptr) return;
  for (const ExprPtr& value : expr.args->positional) maybe(value);
  for (const auto& [name, value] : expr.args->named) maybe(value);
  maybe(expr.args->star);
  maybe(expr.args->star_star);
}

// First pass over a scope: which names it has. Bodies that make scopes of their own are left out.

void collect(Symbols& symbols, const Expr& expr, bool parameter = false) {
  if (expr.op == Op::kName && (parameter || expr.parameter)) symbols.parameter(expr.name);
  else if (expr.op == Op::kName && expr.store) symbols.store(expr.name);
  else if (expr.op == Op::kName || expr.op == Op::kNsRef) symbols.load(expr.name);
  for_each_child(expr, [&](const Expr& child) { collect(symbols, child, parameter); });
}

void collect(Symbols& symbols, const Body& body);

void collect_branches(Symbols& symbols, const Stmt& stmt) {
  const auto with = [&](const Symbols& base, const Body& body) {
    Symbols branch = base.branch(stmt.line);
    collect(branch, body);
    return branch;
  };
  const auto guarded = [&](Symbols& base, size_t i) {
    collect(base, *stmt.exprs[i]);
    return with(base, stmt.bodies[i]);
  };
  // jinja2 keeps the elifs in one branch, each as an if of its own.
  std::vector<Symbols> branches{guarded(symbols, 0)};
  Symbols elifs = symbols.branch(stmt.line);
  for (size_t i = 1; i < stmt.exprs.size(); ++i) elifs.merge({guarded(elifs, i), elifs.branch(stmt.line)});
  branches.push_back(std::move(elifs));
  branches.push_back(stmt.bodies.size() > stmt.exprs.size() ? with(symbols, stmt.bodies.back()) : symbols);
  symbols.merge(branches);
}

void collect(Symbols& symbols, const Stmt& stmt) {
  switch (stmt.kind) {
    case StmtKind::kOutput:
      for (const ExprPtr& expr : stmt.exprs) collect(symbols, *expr);
      break;
    case StmtKind::kIf:
      collect_branches(symbols, stmt);
      break;
    case StmtKind::kFor:
    case StmtKind::kCall:
    case StmtKind::kFilter:
      collect(symbols, *stmt.exprs[0]);
      break;
    case StmtKind::kWith:
      for (size_t i = 1; i < stmt.exprs.size(); i += 2) collect(symbols, *stmt.exprs[i]);
      break;
    case StmtKind::kSet:
      collect(symbols, *stmt.exprs[0]);
      collect(symbols, *stmt.target);
      break;
    case StmtKind::kSetBlock:
    case StmtKind::kMacro:
      collect(symbols, *stmt.target);
      break;
    default:
      break;
  }
}

void collect(Symbols& symbols, const Body& body) {
  for (const auto& stmt : body) collect(symbols, *stmt);
}

/// Which of some names code reads before it assigns them, inner scopes included.
class Undeclared {
 public:
  explicit Undeclared(std::set<std::string> names) : names_(std::move(names)) {}
  const std::set<std::string>& in(const Body& body) {
    for (const auto& stmt : body) visit(*stmt);
    return found_;
  }

 private:
  void visit(const Expr& expr) {
    if (expr.op == Op::kName) {
      if (expr.store) names_.erase(expr.name);
      else if (names_.contains(expr.name)) found_.insert(expr.name);
    }
    for_each_child(expr, [&](const Expr& child) { visit(child); });
  }
  void visit(const Stmt& stmt) {
    if (stmt.target != nullptr && stmt.kind != StmtKind::kMacro) visit(*stmt.target);
    const bool interleaved = stmt.kind == StmtKind::kIf;
    for (size_t i = 0; i < std::max(stmt.exprs.size(), stmt.bodies.size()); ++i) {
      if (i < stmt.exprs.size() && stmt.exprs[i] != nullptr) visit(*stmt.exprs[i]);
      if (interleaved && i < stmt.bodies.size()) in(stmt.bodies[i]);
    }
    if (!interleaved)
      for (const Body& body : stmt.bodies) in(body);
  }
  std::set<std::string> names_, found_;
};

// Second pass: every name gets its slot.

class Binder {
 public:
  struct Place {
    bool soft;  // in an if: a filter that does not exist is an error only when it is used
    bool loop;  // break is possible
  };

  void bind(const Symbols& symbols, Body& body, Place place) {
    for (auto& stmt : body) bind(symbols, *stmt, place);
  }

 private:
  void bind(const Symbols& symbols, Expr& expr, bool soft) {
    if (expr.op == Op::kName || expr.op == Op::kNsRef) {
      const auto slot = symbols.find(expr.name);
      if (!slot) throw SyntaxError("the name '" + expr.name + "' cannot be used here", expr.line);
      expr.slot = *slot;
    }
    if (expr.op == Op::kFilter) expr.filter = find_filter(expr.name);
    if (expr.op == Op::kFilter && !soft && expr.filter == nullptr)
      throw SyntaxError("No filter named '" + expr.name + "'.", expr.line);
    if (expr.op == Op::kFilter && !soft && expr.filter->call == nullptr)
      throw SyntaxError("the filter '" + expr.name + "' is not supported", expr.line);
    if (expr.op == Op::kTest) expr.test = find_test(expr.name);
    if (expr.op == Op::kTest && expr.test == nullptr && !soft)
      throw SyntaxError("No test named '" + expr.name + "'.", expr.line);
    const bool inner = soft || expr.op == Op::kCond;
    for_each_child(expr, [&](const Expr& child) { bind(symbols, const_cast<Expr&>(child), inner); });
  }

  void bind(const Symbols& symbols, Stmt& stmt, Place place) {
    switch (stmt.kind) {
      case StmtKind::kOutput:
        for (ExprPtr& expr : stmt.exprs) bind(symbols, *expr, place.soft);
        break;
      case StmtKind::kIf:
        for (ExprPtr& expr : stmt.exprs) bind(symbols, *expr, true);
        for (Body& body : stmt.bodies) bind(symbols, body, {true, place.loop});
        break;
      case StmtKind::kSet:
        bind(symbols, *stmt.exprs[0], place.soft);
        bind(symbols, *stmt.target, place.soft);
        break;
      case StmtKind::kFor:
        bind_for(symbols, stmt, place);
        break;
      case StmtKind::kMacro:
        bind(symbols, *stmt.target, place.soft);
        bind_macro(symbols, stmt, 0);
        break;
      case StmtKind::kCall:
        bind(symbols, *stmt.exprs[0], place.soft);
        bind_macro(symbols, stmt, 1);
        break;
      case StmtKind::kGeneration:
        bind_macro(symbols, stmt, 0);
        break;
      case StmtKind::kFilter:
      case StmtKind::kWith:
      case StmtKind::kSetBlock:
        bind_block(symbols, stmt, place);
        break;
      case StmtKind::kBreak:
      case StmtKind::kContinue:
        if (!place.loop)
          throw SyntaxError(
              std::string("'") + (stmt.kind == StmtKind::kBreak ? "break" : "continue") + "' outside loop",
              stmt.line);
        break;
      case StmtKind::kText:
        break;
    }
  }

  void refuse_loop_as_target(const Expr& expr) {
    if (expr.op == Op::kName && expr.store && !expr.parameter && expr.name == "loop")
      throw SyntaxError("Can't assign to special loop variable in for-loop target", expr.line);
    for_each_child(expr, [&](const Expr& child) { refuse_loop_as_target(child); });
  }
  void refuse_loop_as_target(const Stmt& stmt) {
    if (stmt.target != nullptr && stmt.kind != StmtKind::kMacro) refuse_loop_as_target(*stmt.target);
    for (const Body& body : stmt.bodies)
      for (const auto& inner : body) refuse_loop_as_target(*inner);
  }

  void bind_for(const Symbols& symbols, Stmt& stmt, Place place) {
    Symbols body(&symbols), other(&symbols), test(&symbols);
    collect(body, *stmt.target, true);  // first, so that the target has the same slots in the test's scope
    if (stmt.recursive || Undeclared({"loop"}).in(stmt.bodies[0]).contains("loop"))
      stmt.loop = body.parameter("loop");
    collect(body, stmt.bodies[0]);
    collect(other, stmt.bodies[1]);
    collect(test, *stmt.target, true);
    if (stmt.exprs[1] != nullptr) collect(test, *stmt.exprs[1]);
    refuse_loop_as_target(stmt);

    bind(symbols, *stmt.exprs[0], place.soft);
    if (stmt.exprs[1] != nullptr) bind(test, *stmt.exprs[1], false);
    bind(body, *stmt.target, false);
    bind(body, stmt.bodies[0], {false, true});
    bind(other, stmt.bodies[1], {false, place.loop && !stmt.recursive});
    stmt.scopes = {body.scope(), other.scope(), test.scope()};
  }

  /// The parameters and defaults of a macro, a call block or a generation block begin at exprs[first].
  void bind_macro(const Symbols& symbols, Stmt& stmt, size_t first) {
    Symbols inner(&symbols);
    MacroShape& macro = stmt.macro;
    for (size_t i = first; i < stmt.exprs.size(); ++i) collect(inner, *stmt.exprs[i]);
    collect(inner, stmt.bodies[0]);
    std::set<std::string> declared;
    for (size_t i = 0; i < macro.parameters; ++i) declared.insert(stmt.exprs[first + i]->name);
    const std::set<std::string> implicit = Undeclared({"caller", "kwargs", "varargs"}).in(stmt.bodies[0]);
    macro.explicit_caller = declared.contains("caller");
    if (implicit.contains("caller") && macro.explicit_caller) {
      for (size_t i = 0; i + macro.defaults < macro.parameters; ++i)
        if (stmt.exprs[first + i]->name == "caller")
          throw SyntaxError(
              "the special \"caller\" argument of a macro must be omitted or be given a default", stmt.line);
    }
    const auto implied = [&](const char* name, int& slot) {
      if (implicit.contains(name) && !declared.contains(name)) slot = inner.parameter(name);
    };
    implied("caller", macro.caller);
    implied("kwargs", macro.kwargs);
    implied("varargs", macro.varargs);
    for (size_t i = first; i < stmt.exprs.size(); ++i) bind(inner, *stmt.exprs[i], false);
    bind(inner, stmt.bodies[0], {false, false});
    stmt.scopes = {inner.scope()};
  }

  void bind_block(const Symbols& symbols, Stmt& stmt, Place place) {
    Symbols inner(&symbols);
    const bool with = stmt.kind == StmtKind::kWith;
    if (with)
      for (size_t i = 0; i < stmt.exprs.size(); i += 2) collect(inner, *stmt.exprs[i]);
    else if (stmt.exprs[0] != nullptr) collect(inner, *stmt.exprs[0]);
    collect(inner, stmt.bodies[0]);
    for (size_t i = 0; i < stmt.exprs.size(); ++i)
      if (stmt.exprs[i] != nullptr) bind(with && i % 2 == 1 ? symbols : inner, *stmt.exprs[i], false);
    bind(inner, stmt.bodies[0], {false, place.loop});
    if (stmt.kind == StmtKind::kSetBlock) bind(symbols, *stmt.target, place.soft);
    stmt.scopes = {inner.scope()};
  }
};

}  // namespace

void resolve(Ast& ast) {
  int64_t budget = 1'000'000;
  Symbols root(&budget);
  collect(root, ast.body);
  Binder().bind(root, ast.body, {false, false});
  ast.scope = root.scope();
}

}  // namespace stamp::jinja
