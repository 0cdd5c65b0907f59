#include "models/jinja/interpreter.h"

#include <algorithm>

#include "models/jinja/builtins.h"
#include "models/jinja/text.h"
#include "models/utf8.h"

namespace stamp::jinja {
namespace {

constexpr int kMaxDepth = 1200;  // of nested evaluations: the stack of a thread holds several times as many
constexpr int kMaxJsonDepth = 128;

struct ItemsIterator : Iterator {
  explicit ItemsIterator(const std::vector<Value>* v) : items(v) {}
  bool next(Value& value) override { return at < items->size() && (value = (*items)[at++], true); }
  const std::vector<Value>* items;
  size_t at = 0;
};

struct CharacterIterator : Iterator {
  explicit CharacterIterator(std::string_view s) : text(s) {}
  bool next(Value& value) override {
    if (at >= text.size()) return false;
    const size_t length = utf8_length(static_cast<unsigned char>(text[at]));
    value = Value::text(text.substr(at, length));
    at += length;
    return true;
  }
  std::string_view text;
  size_t at = 0;
};

struct RangeIterator : Iterator {
  explicit RangeIterator(const Range& r) : range(r), size(r.size()) {}
  bool next(Value& value) override { return at < size && (value = range.at(at++), true); }
  Range range;
  int64_t size, at = 0;
};

struct DictIterator : Iterator {
  DictIterator(Heap& h, const Dict* d, View::Part p) : heap(h), dict(d), part(p) {}
  bool next(Value& value) override {
    if (at >= dict->items.size()) return false;
    const auto& [key, item] = dict->items[at++];
    value = part == View::Part::kKeys ? key : part == View::Part::kValues ? item : heap.tuple({key, item});
    return true;
  }
  Heap& heap;
  const Dict* dict;
  View::Part part;
  size_t at = 0;
};

/// The items of a loop, as its LoopContext gives them out: each with the loop itself.
struct LoopIterator : Iterator {
  LoopIterator(Heap& h, Loop* l) : heap(h), loop(l) {}
  bool next(Value& value) override {
    if (!loop_next(*loop, value)) return false;
    value = heap.tuple({value, Value::object(Kind::kLoop, loop)});
    return true;
  }
  Heap& heap;
  Loop* loop;
};

}  // namespace

Interpreter::Deeper::Deeper(Interpreter& interpreter) : depth(interpreter.depth_) {
  interpreter.heap_.work(1);
  if (depth >= kMaxDepth) throw Failure("the template's calls are nested too deeply");
  ++depth;
}

/// The items for which the condition holds, tested when they are asked for.
struct Interpreter::Guard : Iterator {
  Guard(Interpreter& i, Iterator* s, const Stmt& st, Frame* f) : in(i), source(s), stmt(st), frame(f) {}
  bool next(Value& value) override {
    while (source->next(value)) {
      in.assign(*stmt.target, value, frame);
      if (truth(in.eval(*stmt.exprs[1], frame))) return true;
    }
    return false;
  }
  Interpreter& in;
  Iterator* source;
  const Stmt& stmt;
  Frame* frame;
};

std::string Interpreter::run(const Ast& ast, const nlohmann::ordered_json& variables) {
  for (const auto& [name, value] : variables.items()) variables_.set(heap_, text(name), from_json(value, 0));
  return capture([&] { exec(ast.body, enter(ast.scope, nullptr)); });
}

Value Interpreter::from_json(const nlohmann::ordered_json& json, int depth) {
  using Type = nlohmann::ordered_json::value_t;
  if (depth > kMaxJsonDepth) throw Failure("the messages are nested too deeply");
  switch (json.type()) {
    case Type::boolean:
      return Value::boolean(json.get<bool>());
    case Type::number_integer:
      return Value::integer(json.get<int64_t>());
    case Type::number_unsigned:
      if (json.get<uint64_t>() > uint64_t(INT64_MAX))
        throw Failure("the number " + json.dump() + " does not fit 64 bits");
      return Value::integer(json.get<int64_t>());
    case Type::number_float:
      return Value::real(json.get<double>());
    case Type::string: {
      const std::string& s = json.get_ref<const std::string&>();
      return text::is_ascii(s) ? Value::text(s) : text(to_valid_utf8(s));
    }
    case Type::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item, depth + 1));
      return heap_.list(std::move(items));
    }
    case Type::object: {
      Dict* dict = heap_.make<Dict>();
      for (const auto& [name, value] : json.get_ref<const nlohmann::ordered_json::object_t&>())
        dict->set(heap_, text::is_ascii(name) ? Value::text(name) : text(to_valid_utf8(name)),
                  from_json(value, depth + 1));
      return Value::object(Kind::kDict, dict);
    }
    default:
      return Value();
  }
}

// Output

void Interpreter::emit(std::string_view text) {
  heap_.scan(text.size());
  if ((output_left_ -= int64_t(text.size())) < 0)
    throw Failure("the template's output is longer than the limit allows");
  *out_ += text;
}

void Interpreter::emit_string(const Value& value, const char* what) {
  if (!value.is_string())
    throw Failure(std::string(what) + " gives a '" + std::string(type_name(value.kind())) +
                  "' object instead of a string");
  emit(value.text());
}

template <class F>
std::string Interpreter::capture(F render) {
  struct Restore {
    std::string*& out;
    std::string* before;
    ~Restore() { out = before; }
  } restore{out_, out_};
  std::string text;
  out_ = &text;
  render();
  return text;
}

// Scopes and variables

Frame* Interpreter::enter(const Scope& scope, Frame* parent) {
  heap_.reserve(scope.loads.size() * sizeof(Value));
  Frame* frame = heap_.make<Frame>(parent, scope.loads.size());
  load(scope, frame);
  return frame;
}

void Interpreter::load(const Scope& scope, Frame* frame) {
  for (size_t i = 0; i < scope.loads.size(); ++i) {
    const Load& load = scope.loads[i];
    switch (load.from) {
      case Load::From::kParameter:
        break;
      case Load::From::kContext:
        frame->slots[i] = lookup(load.name);
        break;
      case Load::From::kNothing:
        frame->slots[i] = Value::missing();
        break;
      case Load::From::kOuter: {
        const Frame* outer = frame;
        for (int up = load.outer.up; up > 0; --up) outer = outer->parent;
        frame->slots[i] = outer->slots[size_t(load.outer.index)];
      }
    }
  }
}

Value Interpreter::lookup(const std::string& name) {
  if (const Value* value = variables_.find(heap_, name)) return *value;
  return find_global(*this, name);
}

Value& Interpreter::variable(const Expr& name, Frame* frame) {
  for (int up = name.slot.up; up > 0; --up) frame = frame->parent;
  return frame->slots[size_t(name.slot.index)];
}

void Interpreter::require_namespaces(const Expr& target, Frame* frame) {
  line_ = target.line;
  if (target.op == Op::kNsRef && !variable(target, frame).is(Kind::kNamespace))
    throw Failure("cannot assign attribute on non-namespace object");
  for (const ExprPtr& item : target.items) require_namespaces(*item, frame);
}

void Interpreter::assign(const Expr& target, const Value& value, Frame* frame) {
  line_ = target.line;
  if (target.op == Op::kName) {
    variable(target, frame) = value;
  } else if (target.op == Op::kNsRef) {
    require_namespaces(target, frame);  // a tuple's earlier target may have taken its name
    if (target.text.starts_with('_'))
      throw Failure("a namespace cannot have an attribute that begins with an underscore");
    variable(target, frame).as<Namespace>().attributes.set(heap_, Value::text(target.text), value);
  } else {
    Iterator* items = iterate(value);
    std::vector<Value> parts;
    for (Value item; items->next(item);) {
      if (parts.size() == target.items.size())
        throw Failure("too many values to unpack (expected " + std::to_string(target.items.size()) + ")");
      parts.push_back(item);
    }
    if (parts.size() < target.items.size())
      throw Failure("not enough values to unpack (expected " + std::to_string(target.items.size()) +
                    ", got " + std::to_string(parts.size()) + ")");
    for (size_t i = 0; i < parts.size(); ++i) assign(*target.items[i], parts[i], frame);
  }
}

// Statements

Interpreter::Flow Interpreter::exec(const Body& body, Frame* frame) {
  const Deeper deeper(*this);
  for (const auto& stmt : body)
    if (const Flow flow = exec(*stmt, frame); flow != Flow::kNormal) return flow;
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::exec(const Stmt& stmt, Frame* frame) {
  line_ = stmt.line;
  heap_.work(1);
  switch (stmt.kind) {
    case StmtKind::kText:
      emit(stmt.text);
      break;
    case StmtKind::kOutput:
      for (const ExprPtr& expr : stmt.exprs) {
        const Value value = eval(*expr, frame);
        if (value.is_string()) emit(value.text());
        else if (!value.is_undefined()) emit(string(value));
      }
      break;
    case StmtKind::kIf:
      return run_if(stmt, frame);
    case StmtKind::kFor:
      return run_for(stmt, frame);
    case StmtKind::kMacro:
      variable(*stmt.target, frame) = Value::object(Kind::kMacro, heap_.make<Macro>(&stmt, frame, 0));
      break;
    case StmtKind::kCall: {
      const Value caller = Value::object(Kind::kMacro, heap_.make<Macro>(&stmt, frame, 1));
      emit_string(eval_call(*stmt.exprs[0], frame, &caller), "the call");
      break;
    }
    case StmtKind::kSet: {
      require_namespaces(*stmt.target, frame);
      const Value value = eval(*stmt.exprs[0], frame);
      assign(*stmt.target, value, frame);
      break;
    }
    case StmtKind::kFilter:
    case StmtKind::kWith:
    case StmtKind::kSetBlock:
      return run_block(stmt, frame);
    case StmtKind::kGeneration:
      return exec(stmt.bodies[0], enter(stmt.scopes[0], frame));
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run_if(const Stmt& stmt, Frame* frame) {
  for (size_t i = 0; i < stmt.exprs.size(); ++i)
    if (truth(eval(*stmt.exprs[i], frame))) return exec(stmt.bodies[i], frame);
  return stmt.bodies.size() > stmt.exprs.size() ? exec(stmt.bodies.back(), frame) : Flow::kNormal;
}

Interpreter::Flow Interpreter::run_for(const Stmt& stmt, Frame* frame) {
  const Value iterable = eval(*stmt.exprs[0], frame);
  line_ = stmt.line;
  if (!stmt.recursive) return run_loop(stmt, frame, iterable, 0);
  emit(capture([&] { run_loop(stmt, frame, iterable, 0); }));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::run_loop(const Stmt& stmt, Frame* frame, const Value& iterable,
                                        int64_t depth) {
  Iterator* items = iterate(iterable);
  if (stmt.exprs[1] != nullptr) items = heap_.make<Guard>(*this, items, stmt, enter(stmt.scopes[2], frame));
  Frame* body = enter(stmt.scopes[0], frame);
  Loop* loop = nullptr;
  if (stmt.loop >= 0) {
    loop = heap_.make<Loop>();
    loop->iterable = stmt.exprs[1] != nullptr ? Value::object(Kind::kIterator, items) : iterable;
    loop->iterator = items;
    loop->depth0 = depth;
    if (stmt.recursive) loop->recursion = &stmt, loop->closure = frame;
    body->slots[size_t(stmt.loop)] = Value::object(Kind::kLoop, loop);
  }
  bool finished_one = false;  // jinja2 runs the else also if break or continue ended every pass
  for (Value item; loop != nullptr ? loop_next(*loop, item) : items->next(item);) {
    heap_.work(1);
    assign(*stmt.target, item, body);
    load(stmt.scopes[0], body);
    const Flow flow = exec(stmt.bodies[0], body);
    if (flow == Flow::kBreak) break;
    finished_one |= flow == Flow::kNormal;
    line_ = stmt.line;
  }
  if (finished_one || stmt.bodies[1].empty()) return Flow::kNormal;
  return exec(stmt.bodies[1], enter(stmt.scopes[1], frame));
}

Interpreter::Flow Interpreter::run_block(const Stmt& stmt, Frame* frame) {
  Frame* inner = enter(stmt.scopes[0], frame);
  if (stmt.kind == StmtKind::kWith) {
    for (size_t i = 0; i < stmt.exprs.size(); i += 2) {
      const Value value = eval(*stmt.exprs[i + 1], frame);
      assign(*stmt.exprs[i], value, inner);
    }
    return exec(stmt.bodies[0], inner);
  }
  Flow flow = Flow::kNormal;
  Value value = text(capture([&] { flow = exec(stmt.bodies[0], inner); }));
  if (flow != Flow::kNormal) return flow;
  line_ = stmt.line;
  if (stmt.exprs[0] != nullptr) value = eval_filter(*stmt.exprs[0], inner, &value);
  if (stmt.kind == StmtKind::kFilter) emit_string(value, "the filter");
  else assign(*stmt.target, value, frame);
  return flow;
}

// Calls

Value Interpreter::call(const Value& callee, CallArguments& args) {
  const Deeper deeper(*this);
  switch (callee.kind()) {
    case Kind::kMacro:
      return call_macro(callee.as<Macro>(), args);
    case Kind::kFunction:
      return callee.as<Function>().call(*this, args);
    case Kind::kLoop:
      return call_loop(callee.as<Loop>(), args);
    case Kind::kMethod: {
      const Method& method = callee.as<Method>();
      if (method.entry->call == nullptr)
        throw Failure("the method '" + std::string(type_name(method.self.kind())) + "." +
                      std::string(method.entry->name) + "' is not supported");
      return method.entry->call(*this, method.self, args);
    }
    case Kind::kJoiner: {
      Joiner& joiner = callee.as<Joiner>();
      const Parameters none("joiner", args, {});
      return std::exchange(joiner.used, true) ? joiner.separator : Value::text("");
    }
    case Kind::kUndefined:
      throw Failure(undefined_message(callee));
    default:
      throw Failure("'" + std::string(type_name(callee.kind())) + "' object is not callable");
  }
}

Value Interpreter::call_macro(const Macro& macro, CallArguments& args) {
  const Stmt& stmt = *macro.stmt;
  const MacroShape& shape = stmt.macro;
  const std::string name = "macro '" + shape.name + "'";
  Frame* frame = enter(stmt.scopes[0], macro.closure);
  const auto parameter = [&](size_t i) -> const Expr& { return *stmt.exprs[macro.first + i]; };
  const auto slot = [&](int index) -> Value& { return frame->slots[size_t(index)]; };
  const auto take = [&](std::string_view key, Value& value) {
    const auto it =
        std::find_if(args.named.begin(), args.named.end(), [&](const auto& n) { return n.first == key; });
    if (it == args.named.end()) return false;
    value = it->second;
    args.named.erase(it);
    return true;
  };
  heap_.work(int64_t(shape.parameters * args.named.size()));
  for (size_t i = 0; i < shape.parameters; ++i) {
    if (i < args.positional.size()) slot(parameter(i).slot.index) = args.positional[i];
    else take(parameter(i).name, slot(parameter(i).slot.index));
  }
  if (shape.caller >= 0 && (!take("caller", slot(shape.caller)) || slot(shape.caller).is_none()))
    slot(shape.caller) = Value::undefined(Absent::kHint, "No caller defined");
  if (shape.kwargs >= 0) {
    Dict* rest = heap_.make<Dict>();
    for (const auto& [key, value] : args.named) rest->set(heap_, Value::text(key), value);
    slot(shape.kwargs) = Value::object(Kind::kDict, rest);
  } else if (!args.named.empty()) {
    throw Failure(name + " takes no keyword argument '" + std::string(args.named[0].first) + "'");
  }
  const size_t taken = std::min(args.positional.size(), shape.parameters);
  if (shape.varargs >= 0)
    slot(shape.varargs) = heap_.tuple({args.positional.begin() + ptrdiff_t(taken), args.positional.end()});
  else if (args.positional.size() > shape.parameters)
    throw Failure(name + " takes not more than " + std::to_string(shape.parameters) + " argument(s)");

  for (size_t i = 0; i < shape.parameters; ++i) {
    Value& value = slot(parameter(i).slot.index);
    if (!value.is(Kind::kMissing)) continue;
    const size_t required = shape.parameters - shape.defaults;
    if (i >= required) {
      const Value made = eval(*stmt.exprs[macro.first + shape.parameters + i - required], frame);
      slot(parameter(i).slot.index) = made;
    } else {
      value = Value::undefined(Absent::kHint,
                               heap_.store("parameter '" + parameter(i).name + "' was not provided"));
    }
  }
  return text(capture([&] { exec(stmt.bodies[0], frame); }));
}

Value Interpreter::call_loop(const Loop& loop, CallArguments& args) {
  const Parameters parameters("loop", args, {"iterable"}, 1);
  if (loop.recursion == nullptr)
    throw Failure("The loop must have the 'recursive' marker to be called recursively.");
  return text(capture([&] { run_loop(*loop.recursion, loop.closure, parameters.at(0), loop.depth0 + 1); }));
}

Value Interpreter::apply(const FilterEntry* filter, std::string_view name, const Value& input,
                         CallArguments& args) {
  if (filter == nullptr) throw Failure("No filter named '" + std::string(name) + "' found.");
  if (filter->call == nullptr) throw Failure("the filter '" + std::string(name) + "' is not supported");
  heap_.work(1);
  return filter->call(*this, input, args);
}

Value Interpreter::call_filter(std::string_view name, const Value& input, CallArguments& args) {
  return apply(find_filter(name), name, input, args);
}

bool Interpreter::call_test(std::string_view name, const Value& input, CallArguments& args) {
  const TestEntry* test = find_test(name);
  if (test == nullptr) throw Failure("No test named '" + std::string(name) + "'.");
  heap_.work(1);
  return test->call(*this, input, args);
}

Iterator* Interpreter::iterate(const Value& value) {
  static const std::vector<Value> kNothing;
  switch (value.kind()) {
    case Kind::kUndefined:
      return heap_.make<ItemsIterator>(&kNothing);
    case Kind::kString:
      return heap_.make<CharacterIterator>(value.text());
    case Kind::kList:
    case Kind::kTuple:
      return heap_.make<ItemsIterator>(&value.as<List>().items);
    case Kind::kDict:
      return heap_.make<DictIterator>(heap_, &value.as<Dict>(), View::Part::kKeys);
    case Kind::kView:
      return heap_.make<DictIterator>(heap_, value.as<View>().dict, value.as<View>().part);
    case Kind::kRange:
      return heap_.make<RangeIterator>(value.as<Range>());
    case Kind::kIterator:
      return &value.as<Iterator>();
    case Kind::kLoop:
      return heap_.make<LoopIterator>(heap_, &value.as<Loop>());
    default:
      throw Failure("'" + std::string(type_name(value.kind())) + "' object is not iterable");
  }
}

std::vector<Value> Interpreter::items_of(const Value& value) {
  if (value.is_sequence()) {
    heap_.work(int64_t(value.as<List>().items.size()));
    return value.as<List>().items;
  }
  std::vector<Value> items;
  Iterator* iterator = iterate(value);
  for (Value item; iterator->next(item);) {
    heap_.work(1);
    heap_.require((items.size() + 1) * sizeof(Value));
    items.push_back(item);
  }
  return items;
}

// Expressions

Value Interpreter::eval(const Expr& expr, Frame* frame) {
  if (expr.op == Op::kConst) return expr.value;
  if (expr.op == Op::kName) {
    const Value& value = variable(expr, frame);
    return value.is(Kind::kMissing) ? Value::undefined(Absent::kName, expr.name) : value;
  }
  const Deeper deeper(*this);
  switch (expr.op) {
    case Op::kTuple:
      return heap_.tuple(eval_items(expr, frame));
    case Op::kList:
      return heap_.list(eval_items(expr, frame));
    case Op::kDict:
      return eval_dict(expr, frame);
    case Op::kConcat:
      return eval_concat(expr, frame);
    case Op::kCompare:
      return eval_compare(expr, frame);
    case Op::kSlice:
      return eval_slice(expr, frame);
    case Op::kCall:
      return eval_call(expr, frame);
    case Op::kFilter:
      return eval_filter(expr, frame, nullptr);
    case Op::kAnd: {
      const Value left = eval(*expr.items[0], frame);
      return truth(left) ? eval(*expr.items[1], frame) : left;
    }
    case Op::kOr: {
      const Value left = eval(*expr.items[0], frame);
      return truth(left) ? left : eval(*expr.items[1], frame);
    }
    case Op::kCond:
      if (truth(eval(*expr.items[0], frame))) return eval(*expr.items[1], frame);
      if (expr.items[2] != nullptr) return eval(*expr.items[2], frame);
      return Value::undefined(Absent::kHint,
                              heap_.store("the inline if-expression on line " + std::to_string(expr.line) +
                                          " evaluated to false and no else section was defined."));
    default:
      return eval_operator(expr, frame);
  }
}

Value Interpreter::eval_operator(const Expr& expr, Frame* frame) {
  const Value left = eval(*expr.items[0], frame);
  switch (expr.op) {
    case Op::kNot:
      return Value::boolean(!truth(left));
    case Op::kNeg:
    case Op::kPos:
      line_ = expr.line;
      return negate(left, expr.op == Op::kNeg);
    case Op::kGetattr:
      line_ = expr.line;
      return get_attribute(*this, left, expr.name);
    case Op::kGetitem: {
      const Value key = eval(*expr.items[1], frame);
      line_ = expr.line;
      return get_item(*this, left, key);
    }
    case Op::kTest: {
      CallArguments args = eval_arguments(*expr.args, frame);
      line_ = expr.line;
      if (expr.test == nullptr) throw Failure("No test named '" + expr.name + "' found.");
      return Value::boolean(expr.test->call(*this, left, args));
    }
    default: {
      const Value right = eval(*expr.items[1], frame);
      line_ = expr.line;
      return binary(*this, expr.op, left, right);
    }
  }
}

Value Interpreter::eval_compare(const Expr& expr, Frame* frame) {
  Value left = eval(*expr.items[0], frame);
  for (size_t i = 0; i < expr.compares.size(); ++i) {
    const Value right = eval(*expr.items[i + 1], frame);
    line_ = expr.line;
    if (!compare(*this, expr.compares[i], left, right)) return Value::boolean(false);
    left = right;
  }
  return Value::boolean(true);
}

std::vector<Value> Interpreter::eval_items(const Expr& expr, Frame* frame) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& item : expr.items) items.push_back(eval(*item, frame));
  return items;
}

Value Interpreter::eval_dict(const Expr& expr, Frame* frame) {
  Dict* dict = heap_.make<Dict>();
  for (size_t i = 0; i < expr.items.size(); i += 2) {
    const Value key = eval(*expr.items[i], frame), value = eval(*expr.items[i + 1], frame);
    line_ = expr.line;
    dict->set(heap_, key, value);
  }
  return Value::object(Kind::kDict, dict);
}

Value Interpreter::eval_concat(const Expr& expr, Frame* frame) {
  std::string_view all;
  const std::vector<Value> items = eval_items(expr, frame);
  line_ = expr.line;
  for (const Value& item : items) {
    if (item.is_string()) {
      all = heap_.concat(all, item.text());
    } else if (!item.is_undefined()) {
      const std::string part = string(item);
      all = all.empty() ? heap_.store(part) : heap_.concat(all, part);
    }
  }
  return Value::text(all);
}

Value Interpreter::eval_slice(const Expr& expr, Frame* frame) {
  Value parts[4];
  for (size_t i = 0; i < 4; ++i)
    if (expr.items[i] != nullptr) parts[i] = eval(*expr.items[i], frame);
  line_ = expr.line;
  return slice(*this, parts[0], parts[1], parts[2], parts[3]);
}

CallArguments Interpreter::eval_arguments(const Arguments& args, Frame* frame) {
  CallArguments values;
  for (const ExprPtr& value : args.positional) values.positional.push_back(eval(*value, frame));
  if (args.star != nullptr)
    for (const Value& value : items_of(eval(*args.star, frame))) values.positional.push_back(value);
  for (const auto& [name, value] : args.named) values.named.emplace_back(name, eval(*value, frame));
  if (args.star_star == nullptr) return values;
  const Value more = eval(*args.star_star, frame);
  if (!more.is(Kind::kDict))
    throw Failure("argument after ** must be a mapping, not " + std::string(type_name(more.kind())));
  for (const auto& [name, value] : more.as<Dict>().items) {
    heap_.work(1 + int64_t(args.named.size()));
    if (!name.is_string()) throw Failure("keywords must be strings");
    for (const auto& [known, expr] : args.named)
      if (known == name.text()) throw Failure("got multiple values for keyword argument '" + known + "'");
    values.named.emplace_back(name.text(), value);
  }
  return values;
}

Value Interpreter::eval_call(const Expr& expr, Frame* frame, const Value* caller) {
  const Value callee = eval(*expr.items[0], frame);
  CallArguments args = eval_arguments(*expr.args, frame);
  if (caller != nullptr) args.named.emplace_back("caller", *caller);
  line_ = expr.line;
  return call(callee, args);
}

Value Interpreter::eval_filter(const Expr& expr, Frame* frame, const Value* block) {
  // A chain of filters on a block has the block's text at its far end.
  const Value input = expr.items[0] != nullptr ? (block != nullptr ? eval_filter(*expr.items[0], frame, block)
                                                                   : eval(*expr.items[0], frame))
                                               : *block;
  CallArguments args = eval_arguments(*expr.args, frame);
  line_ = expr.line;
  return apply(expr.filter, expr.name, input, args);
}

}  // namespace stamp::jinja
