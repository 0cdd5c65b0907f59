#include <algorithm>
#include <cmath>

#include "models/jinja/builtins.h"
#include "models/jinja/text.h"

namespace stamp::jinja {
namespace {

std::string quoted_type(const Value& value) { return "'" + std::string(type_name(value.kind())) + "'"; }

[[noreturn]] void fail_operands(std::string_view op, const Value& a, const Value& b) {
  throw Failure("unsupported operand type(s) for " + std::string(op) + ": " + quoted_type(a) + " and " +
                quoted_type(b));
}
[[noreturn]] void fail_overflow() { throw Failure("a number does not fit 64 bits, which is not supported"); }

int64_t floor_divide(int64_t a, int64_t b) {
  if (a == INT64_MIN && b == -1) fail_overflow();
  const int64_t q = a / b;
  return q - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}
int64_t modulo(int64_t a, int64_t b) {
  if (b == -1) return 0;
  const int64_t r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
double modulo(double a, double b) {
  const double r = std::fmod(a, b);
  if (r != 0) return (r < 0) != (b < 0) ? r + b : r;
  return std::copysign(0.0, b);
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1 && __builtin_mul_overflow(result, base, &result)) fail_overflow();
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) fail_overflow();
  }
  return result;
}
Value power(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral() && b.integer() >= 0)
    return Value::integer(power(a.integer(), b.integer()));
  const double x = a.real(), y = b.real();
  if (x == 0 && y < 0) throw Failure("0.0 cannot be raised to a negative power");
  if (x < 0 && std::isfinite(x) && std::isfinite(y) && y != std::floor(y))
    throw Failure("complex numbers are not supported");
  const double z = std::pow(x, y);
  if (std::isinf(z) && std::isfinite(x) && std::isfinite(y)) throw Failure("Numerical result out of range");
  return Value::real(z);
}

Value arithmetic(Op op, const Value& a, const Value& b) {
  const bool whole = a.is_integral() && b.is_integral();
  if (op == Op::kPow) return power(a, b);
  const bool divides = op == Op::kDiv || op == Op::kFloorDiv || op == Op::kMod;
  if (divides && b.real() == 0)
    throw Failure(op == Op::kDiv ? (whole ? "division by zero" : "float division by zero")
                  : whole        ? "integer division or modulo by zero"
                                 : "float floor division or modulo by zero");
  if (!whole || op == Op::kDiv) {
    const double x = a.real(), y = b.real();
    switch (op) {
      case Op::kAdd:
        return Value::real(x + y);
      case Op::kSub:
        return Value::real(x - y);
      case Op::kMul:
        return Value::real(x * y);
      case Op::kDiv:
        return Value::real(x / y);
      case Op::kMod:
        return Value::real(modulo(x, y));
      default: {  // Python's float_divmod
        const double r = modulo(x, y), q = (x - r) / y;
        if (q == 0) return Value::real(std::copysign(0.0, x / y));
        const double f = std::floor(q);
        return Value::real(q - f > 0.5 ? f + 1 : f);
      }
    }
  }
  const int64_t x = a.integer(), y = b.integer();
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case Op::kAdd:
      overflow = __builtin_add_overflow(x, y, &result);
      break;
    case Op::kSub:
      overflow = __builtin_sub_overflow(x, y, &result);
      break;
    case Op::kMul:
      overflow = __builtin_mul_overflow(x, y, &result);
      break;
    case Op::kMod:
      result = modulo(x, y);
      break;
    default:
      result = floor_divide(x, y);
  }
  if (overflow) fail_overflow();
  return Value::integer(result);
}

Value repeat(Interpreter& in, const Value& sequence, int64_t times) {
  if (times <= 0) times = 0;
  if (sequence.is_string()) {
    return in.text(jinja::times(sequence.text(), times), sequence.is_markup());
  }
  const std::vector<Value>& items = sequence.as<List>().items;
  if (times > 0 && items.size() > (size_t{1} << 24) / size_t(times))
    throw Failure("the repeated list is too long");
  in.heap().require(items.size() * size_t(times) * sizeof(Value));
  std::vector<Value> out;
  out.reserve(items.size() * size_t(times));
  for (int64_t i = 0; i < times && !items.empty(); ++i) out.insert(out.end(), items.begin(), items.end());
  return sequence.is(Kind::kList) ? in.heap().list(std::move(out)) : in.heap().tuple(std::move(out));
}

Value add(Interpreter& in, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    if (a.is_markup() == b.is_markup())
      return Value::text(in.heap().concat(a.text(), b.text()), a.is_markup());
    const auto part = [&](const Value& v) {
      return v.is_markup() ? v.text() : in.heap().store(text::escape_html(v.text()));
    };
    return Value::text(in.heap().concat(part(a), part(b)), true);
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    const std::vector<Value>&first = a.as<List>().items, &more = b.as<List>().items;
    in.heap().require((first.size() + more.size()) * sizeof(Value));
    std::vector<Value> items;
    items.reserve(first.size() + more.size());
    items.insert(items.end(), first.begin(), first.end());
    items.insert(items.end(), more.begin(), more.end());
    return a.is(Kind::kList) ? in.heap().list(std::move(items)) : in.heap().tuple(std::move(items));
  }
  if (a.is_string())
    throw Failure("can only concatenate str (not \"" + std::string(type_name(b.kind())) + "\") to str");
  if (a.is_sequence())
    throw Failure("can only concatenate " + std::string(type_name(a.kind())) + " (not \"" +
                  std::string(type_name(b.kind())) + "\") to " + std::string(type_name(a.kind())));
  fail_operands("+", a, b);
}

std::string_view symbol(Op op) {
  switch (op) {
    case Op::kAdd:
      return "+";
    case Op::kSub:
      return "-";
    case Op::kMul:
      return "*";
    case Op::kDiv:
      return "/";
    case Op::kFloorDiv:
      return "//";
    case Op::kMod:
      return "%";
    default:
      return "** or pow()";
  }
}

/// Python's rules for the bounds of a slice of `size` items.
struct Bounds {
  int64_t start, stop, step, count;
};
Bounds bounds(int64_t size, const Value& start, const Value& stop, const Value& step) {
  const auto index = [](const Value& v) {
    if (!v.is_integral()) throw Failure("slice indices must be integers or None or have an __index__ method");
    return v.integer();
  };
  const int64_t stride = step.is_none() ? 1 : std::max(index(step), -INT64_MAX);
  if (stride == 0) throw Failure("slice step cannot be zero");
  const int64_t low = stride > 0 ? 0 : -1, high = stride > 0 ? size : size - 1;
  const auto clamp = [&](const Value& v, int64_t otherwise) {
    if (v.is_none()) return otherwise;
    int64_t i = index(v);
    if (i < 0) i += size;
    return std::clamp(i, low, high);
  };
  const int64_t first = clamp(start, stride > 0 ? low : high), last = clamp(stop, stride > 0 ? high : low);
  return {first, last, stride, Range(first, last, stride).size()};
}

std::optional<int64_t> checked_index(const Value& key, int64_t size) {
  if (!key.is_integral()) return std::nullopt;
  const int64_t i = key.integer() < 0 ? key.integer() + size : key.integer();
  return i >= 0 && i < size ? std::optional(i) : std::nullopt;
}

/// object[key] of Python; missing where it raises a TypeError or a LookupError.
Value subscript(Interpreter& in, const Value& object, const Value& key) {
  switch (object.kind()) {
    case Kind::kString: {
      const std::string_view s = object.text();
      in.heap().scan(s.size());
      const auto i = checked_index(key, text::length(s));
      if (!i) return Value::missing();
      const size_t begin = text::byte_of(s, *i);
      return Value::text(s.substr(begin, text::byte_of(s.substr(begin), 1)), object.is_markup());
    }
    case Kind::kList:
    case Kind::kTuple: {
      const auto& items = object.as<List>().items;
      const auto i = checked_index(key, int64_t(items.size()));
      return i ? items[size_t(*i)] : Value::missing();
    }
    case Kind::kRange: {
      const Range& range = object.as<Range>();
      const auto i = checked_index(key, range.size());
      return i ? range.at(*i) : Value::missing();
    }
    case Kind::kDict: {
      if (key.is(Kind::kList) || key.is(Kind::kDict)) return Value::missing();
      const Value* value = object.as<Dict>().find(in.heap(), key);
      return value != nullptr ? *value : Value::missing();
    }
    default:
      return Value::missing();
  }
}

Value macro_attribute(Interpreter& in, const Macro& macro, std::string_view name) {
  const MacroShape& shape = macro.stmt->macro;
  if (name == "name") return shape.name.empty() ? Value() : Value::text(shape.name);
  if (name == "catch_kwargs") return Value::boolean(shape.kwargs >= 0);
  if (name == "catch_varargs") return Value::boolean(shape.varargs >= 0);
  if (name == "caller") return Value::boolean(shape.caller >= 0);
  if (name == "explicit_caller") return Value::boolean(shape.explicit_caller);
  if (name != "arguments") return Value::missing();
  std::vector<Value> names;
  for (size_t i = 0; i < shape.parameters; ++i)
    names.push_back(Value::text(macro.stmt->exprs[macro.first + i]->name));
  return in.heap().tuple(std::move(names));
}

}  // namespace

Value attribute(Interpreter& in, const Value& object, std::string_view name) {
  if (object.is_undefined() && !name.starts_with("__")) throw Failure(undefined_message(object));
  if (object.is(Kind::kTuple) && object.as<List>().group && (name == "grouper" || name == "list"))
    return object.as<List>().items[name == "grouper" ? 0 : 1];
  if (object.is(Kind::kCycler) && name == "current")
    return object.as<Cycler>().items[object.as<Cycler>().position];
  if (object.is(Kind::kNamespace)) {
    const Value* value = object.as<Namespace>().attributes.find(in.heap(), name);
    return value != nullptr ? *value : Value::missing();
  }
  if (object.is(Kind::kLoop)) {
    if (const Value value = loop_attribute(in, object.as<Loop>(), name, object); !value.is(Kind::kMissing))
      return value;
  }
  if (object.is(Kind::kMacro)) {
    if (const Value value = macro_attribute(in, object.as<Macro>(), name); !value.is(Kind::kMissing))
      return value;
  }
  static constexpr std::string_view kDunder[] = {
      "__class__", "__doc__", "__init__", "__dict__",    "__eq__",       "__str__",   "__repr__",
      "__hash__",  "__len__", "__iter__", "__getitem__", "__contains__", "__module__"};
  static constexpr std::string_view kMutating[] = {"append",     "clear",  "pop",     "popitem",
                                                   "setdefault", "update", "reverse", "insert",
                                                   "sort",       "extend", "remove"};
  const MethodEntry* method = find_method(object.kind(), name);
  if (method == nullptr && (!name.starts_with("__") ||
                            std::find(std::begin(kDunder), std::end(kDunder), name) == std::end(kDunder)))
    return Value::missing();
  const bool mutates = (object.is(Kind::kList) || object.is(Kind::kDict)) &&
                       std::find(std::begin(kMutating), std::end(kMutating), name) != std::end(kMutating);
  if (name.starts_with('_') || mutates)
    return Value::undefined(Absent::kUnsafe, in.heap().store(name), object.kind());
  return Value::object(Kind::kMethod, in.heap().make<Method>(object, method));
}

Value binary(Interpreter& in, Op op, const Value& a, const Value& b) {
  if (op == Op::kSub && (a.is(Kind::kView) || b.is(Kind::kView))) throw Failure("sets are not supported");
  if (a.is_undefined() || (b.is_undefined() && !(op == Op::kMod && a.is_string())))
    throw Failure(undefined_message(a.is_undefined() ? a : b));
  if (a.is_number() && b.is_number()) return arithmetic(op, a, b);
  if (op == Op::kAdd) return add(in, a, b);
  if (op == Op::kMul) {
    const auto repeatable = [](const Value& v) { return v.is_string() || v.is_sequence(); };
    if (repeatable(a) && b.is_integral()) return repeat(in, a, b.integer());
    if (repeatable(b) && a.is_integral()) return repeat(in, b, a.integer());
  }
  if (op == Op::kMod && a.is_string())
    return in.text(format_percent(in, a.text(), b, a.is_markup()), a.is_markup());
  fail_operands(symbol(op), a, b);
}

Value negate(const Value& value, bool minus) {
  if (value.is_undefined()) throw Failure(undefined_message(value));
  if (value.is(Kind::kFloat)) return Value::real(minus ? -value.real() : value.real());
  if (!value.is_integral())
    throw Failure(std::string("bad operand type for unary ") + (minus ? "-" : "+") + ": " +
                  quoted_type(value));
  if (minus && value.integer() == INT64_MIN) fail_overflow();
  return Value::integer(minus ? -value.integer() : value.integer());
}

bool contains(Interpreter& in, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      if (!item.is_string())
        throw Failure("'in <string>' requires string as left operand, not " +
                      std::string(type_name(item.kind())));
      in.heap().scan(4 * container.text().size());
      return text::find(container.text(), item.text()) != std::string_view::npos;
    case Kind::kDict:
      return container.as<Dict>().find(in.heap(), item) != nullptr;
    case Kind::kView:
      if (container.as<View>().part == View::Part::kKeys)
        return container.as<View>().dict->find(in.heap(), item) != nullptr;
      break;
    case Kind::kNamespace:
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      throw Failure("argument of type " + quoted_type(container) + " is not iterable");
    default:
      break;
  }
  Iterator* items = in.iterate(container);
  for (Value candidate; items->next(candidate);) {
    in.heap().work(1);
    if (equal(in.heap(), candidate, item)) return true;
  }
  return false;
}

bool compare(Interpreter& in, Comparison comparison, const Value& a, const Value& b) {
  const bool orders = comparison >= Comparison::kLess && comparison <= Comparison::kGreaterEqual;
  if (orders && a.is_undefined()) throw Failure(undefined_message(a));
  switch (comparison) {
    case Comparison::kEqual:
      return equal(in.heap(), a, b);
    case Comparison::kNotEqual:
      return !equal(in.heap(), a, b);
    case Comparison::kLess:
      return less(in.heap(), a, b);
    case Comparison::kLessEqual:
      return less_equal(in.heap(), a, b);
    case Comparison::kGreater:
      return less(in.heap(), b, a);
    case Comparison::kGreaterEqual:
      return less_equal(in.heap(), b, a);
    case Comparison::kIn:
      return contains(in, b, a);
    case Comparison::kNotIn:
      return !contains(in, b, a);
  }
  return false;
}

Value get_attribute(Interpreter& in, const Value& object, std::string_view name) {
  if (const Value value = attribute(in, object, name); !value.is(Kind::kMissing)) return value;
  if (object.is(Kind::kDict)) {
    if (const Value* value = object.as<Dict>().find(in.heap(), name)) return *value;
  }
  if (object.is_undefined()) throw Failure(undefined_message(object));
  return Value::undefined(Absent::kAttribute, name, object.kind());
}

Value get_item(Interpreter& in, const Value& object, const Value& key) {
  if (object.is_undefined()) throw Failure(undefined_message(object));
  if (const Value value = subscript(in, object, key); !value.is(Kind::kMissing)) return value;
  if (!key.is_string())
    return Value::undefined(Absent::kElement, in.heap().store(repr(in.heap(), key)), object.kind());
  if (const Value value = attribute(in, object, key.text()); !value.is(Kind::kMissing)) return value;
  return Value::undefined(Absent::kAttribute, key.text(), object.kind());
}

Value slice(Interpreter& in, const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) throw Failure(undefined_message(object));
  if (object.is(Kind::kRange)) {
    const Range& range = object.as<Range>();
    const Bounds b = bounds(range.size(), start, stop, step);
    int64_t stride = 0;
    if (__builtin_mul_overflow(range.step, b.step, &stride)) fail_overflow();
    return Value::object(Kind::kRange, in.heap().make<Range>(range.start + b.start * range.step,
                                                             range.start + b.stop * range.step, stride));
  }
  if (object.is_sequence()) {
    const auto& items = object.as<List>().items;
    const Bounds b = bounds(int64_t(items.size()), start, stop, step);
    std::vector<Value> out;
    in.heap().require(size_t(b.count) * sizeof(Value));
    out.reserve(size_t(b.count));
    for (int64_t i = 0; i < b.count; ++i) out.push_back(items[size_t(b.start + i * b.step)]);
    return object.is(Kind::kList) ? in.heap().list(std::move(out)) : in.heap().tuple(std::move(out));
  }
  if (!object.is_string()) throw Failure(quoted_type(object) + " object is not subscriptable");
  const std::string_view s = object.text();
  in.heap().scan(2 * s.size());
  const Bounds b = bounds(text::length(s), start, stop, step);
  if (b.step == 1) {
    const std::string_view rest = s.substr(text::byte_of(s, b.start));
    return Value::text(rest.substr(0, text::byte_of(rest, b.count)), object.is_markup());
  }
  in.heap().require(16 * s.size());
  const std::vector<std::string_view> all = text::characters(s);
  std::string out;
  for (int64_t i = 0; i < b.count; ++i) out += all[size_t(b.start + i * b.step)];
  return in.text(out, object.is_markup());
}

std::optional<int64_t> length_of(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return text::length(value.text());
    case Kind::kList:
    case Kind::kTuple:
      return int64_t(value.as<List>().items.size());
    case Kind::kDict:
      return int64_t(value.as<Dict>().items.size());
    case Kind::kView:
      return int64_t(value.as<View>().dict->items.size());
    case Kind::kRange:
      return value.as<Range>().size();
    default:
      return std::nullopt;
  }
}

}  // namespace stamp::jinja
