#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "models/jinja/ast.h"
#include "models/jinja/value.h"

namespace stamp::jinja {

struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

/// The variables of a scope that is entered.
struct Frame : Object {
  Frame(Frame* p, size_t slots) : parent(p), slots(slots, Value::missing()) {}
  Frame* parent;
  std::vector<Value> slots;
};

struct Macro : Object {
  Macro(const Stmt* s, Frame* f, size_t i) : stmt(s), closure(f), first(i) {}
  std::string repr() const {
    return "<Macro " + (stmt->macro.name.empty() ? "anonymous" : "'" + stmt->macro.name + "'") + ">";
  }
  const Stmt* stmt;
  Frame* closure;
  size_t first;  // its parameters begin at stmt->exprs[first]
};

/// The `loop` of a for. Looks one item ahead only when asked to, as jinja2's LoopContext.
struct Loop : Object {
  Value iterable;
  Iterator* iterator = nullptr;
  int64_t index0 = -1, length = -1, depth0 = 0;
  Value before, current, after = Value::missing(), changed = Value::missing();
  const Stmt* recursion = nullptr;  // of a recursive loop
  Frame* closure = nullptr;
};

/// Runs one template once.
class Interpreter {
 public:
  Interpreter(const Limits& limits, std::chrono::system_clock::time_point now)
      : heap_(limits), output_left_(limits.output), now_(now) {}

  /// `variables` is an object that outlives this. Throws Failure; line() then says where.
  std::string run(const Ast& ast, const nlohmann::ordered_json& variables);
  int line() const { return line_; }

  struct Deeper {  // counts the depth of the recursion while it lives
    explicit Deeper(Interpreter& interpreter);
    ~Deeper() { --depth; }
    int& depth;
  };

  // What filters, tests and methods are made of.
  Heap& heap() { return heap_; }
  std::chrono::system_clock::time_point now() const { return now_; }
  Value call(const Value& callee, CallArguments& args);
  Value call_filter(std::string_view name, const Value& input, CallArguments& args);
  bool call_test(std::string_view name, const Value& input, CallArguments& args);
  /// iter(value)
  Iterator* iterate(const Value& value);
  /// list(value)
  std::vector<Value> items_of(const Value& value);
  Value text(std::string_view bytes, bool markup = false) { return heap_.text(bytes, markup); }
  std::string string(const Value& value) { return to_string(heap_, value); }

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  struct Guard;  // the iterator of a for with a condition

  Flow exec(const Body& body, Frame* frame);
  Flow exec(const Stmt& stmt, Frame* frame);
  Flow run_if(const Stmt& stmt, Frame* frame);
  Flow run_for(const Stmt& stmt, Frame* frame);
  Flow run_loop(const Stmt& stmt, Frame* frame, const Value& iterable, int64_t depth);
  Flow run_block(const Stmt& stmt, Frame* frame);
  Frame* enter(const Scope& scope, Frame* parent);
  void load(const Scope& scope, Frame* frame);
  void assign(const Expr& target, const Value& value, Frame* frame);
  void require_namespaces(const Expr& target, Frame* frame);
  Value& variable(const Expr& name, Frame* frame);
  Value lookup(const std::string& name);

  void emit(std::string_view text);
  void emit_string(const Value& value, const char* what);
  template <class F>
  std::string capture(F render);

  Value eval(const Expr& expr, Frame* frame);
  Value eval_operator(const Expr& expr, Frame* frame);
  Value eval_compare(const Expr& expr, Frame* frame);
  Value eval_dict(const Expr& expr, Frame* frame);
  Value eval_concat(const Expr& expr, Frame* frame);
  Value eval_slice(const Expr& expr, Frame* frame);
  Value eval_call(const Expr& expr, Frame* frame, const Value* caller = nullptr);
  Value eval_filter(const Expr& expr, Frame* frame, const Value* block);
  std::vector<Value> eval_items(const Expr& expr, Frame* frame);
  CallArguments eval_arguments(const Arguments& args, Frame* frame);
  Value apply(const FilterEntry* filter, std::string_view name, const Value& input, CallArguments& args);
  Value call_macro(const Macro& macro, CallArguments& args);
  Value call_loop(const Loop& loop, CallArguments& args);
  Value from_json(const nlohmann::ordered_json& json, int depth);

  Heap heap_;
  int64_t output_left_;
  std::chrono::system_clock::time_point now_;
  int line_ = 1, depth_ = 0;
  std::string* out_ = nullptr;
  Dict variables_;
  friend struct Deeper;
};

}  // namespace stamp::jinja
