#include <algorithm>

#include "models/jinja/builtins.h"
#include "models/jinja/text.h"

namespace stamp::jinja {
namespace {

/// The tests that look at nothing but the kind.
template <bool (*test)(const Value&)>
bool simple(Interpreter&, const Value& value, CallArguments& args) {
  const Parameters none("the test", args, {});
  return test(value);
}

bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_undefined(const Value& v) { return v.is_undefined(); }
bool is_none(const Value& v) { return v.is_none(); }
bool is_boolean(const Value& v) { return v.is(Kind::kBool); }
bool is_true(const Value& v) { return v.is(Kind::kBool) && v.integer() != 0; }
bool is_false(const Value& v) { return v.is(Kind::kBool) && v.integer() == 0; }
bool is_integer(const Value& v) { return v.is(Kind::kInt); }
bool is_float(const Value& v) { return v.is(Kind::kFloat); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.is_string(); }
bool is_mapping(const Value& v) { return v.is(Kind::kDict); }
bool is_sequence(const Value& v) {
  return v.is_undefined() || v.is_string() || v.is_sequence() || v.is(Kind::kDict) || v.is(Kind::kRange);
}
bool is_callable(const Value& v) {
  return v.is_undefined() || v.is(Kind::kMacro) || v.is(Kind::kFunction) || v.is(Kind::kMethod) ||
         v.is(Kind::kLoop) || v.is(Kind::kJoiner);
}
bool is_escaped(const Value& v) { return v.is_markup(); }

bool remainder_is(Interpreter& in, const Value& value, const Value& by, int64_t expected) {
  if (value.is_string()) {  // "%" formats, and the text it makes is no number
    format_percent(in, value.text(), by, false);
    return false;
  }
  return equal(in.heap(), binary(in, Op::kMod, value, by), Value::integer(expected));
}
bool is_odd(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("odd", args, {});
  return remainder_is(in, value, Value::integer(2), 1);
}
bool is_even(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("even", args, {});
  return remainder_is(in, value, Value::integer(2), 0);
}
bool is_divisible(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("divisibleby", args, {"num"}, 1);
  return remainder_is(in, value, parameters.at(0), 0);
}
bool is_lower(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("lower", args, {});
  return text::is_lower(in.string(value));
}
bool is_upper(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("upper", args, {});
  return text::is_upper(in.string(value));
}
bool is_filter(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("filter", args, {});
  hash(in.heap(), value);
  return value.is_string() && find_filter(value.text()) != nullptr;
}
bool is_test(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("test", args, {});
  hash(in.heap(), value);
  return value.is_string() && find_test(value.text()) != nullptr;
}
bool is_same(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("sameas", args, {"other"}, 1);
  const Value& other = parameters.at(0);
  if (value.kind() != other.kind()) return false;
  switch (value.kind()) {
    case Kind::kNone:
      return true;
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
      return equal(in.heap(), value, other);
    case Kind::kString:
      return value.text() == other.text();
    case Kind::kUndefined:
      return false;
    default:
      return value.object() == other.object();
  }
}
bool is_in(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("in", args, {"seq"}, 1);
  return contains(in, parameters.at(0), value);
}

template <Comparison comparison>
bool compares(Interpreter& in, const Value& value, CallArguments& args) {
  if (!args.named.empty() || args.positional.size() != 1)
    throw Failure("the test takes exactly one argument");
  return compare(in, comparison, value, args.positional[0]);
}

constexpr TestEntry kTests[] = {
    {"!=", compares<Comparison::kNotEqual>},
    {"<", compares<Comparison::kLess>},
    {"<=", compares<Comparison::kLessEqual>},
    {"==", compares<Comparison::kEqual>},
    {">", compares<Comparison::kGreater>},
    {">=", compares<Comparison::kGreaterEqual>},
    {"boolean", simple<is_boolean>},
    {"callable", simple<is_callable>},
    {"defined", simple<is_defined>},
    {"divisibleby", is_divisible},
    {"eq", compares<Comparison::kEqual>},
    {"equalto", compares<Comparison::kEqual>},
    {"escaped", simple<is_escaped>},
    {"even", is_even},
    {"false", simple<is_false>},
    {"filter", is_filter},
    {"float", simple<is_float>},
    {"ge", compares<Comparison::kGreaterEqual>},
    {"greaterthan", compares<Comparison::kGreater>},
    {"gt", compares<Comparison::kGreater>},
    {"in", is_in},
    {"integer", simple<is_integer>},
    {"iterable", simple<is_iterable>},
    {"le", compares<Comparison::kLessEqual>},
    {"lessthan", compares<Comparison::kLess>},
    {"lower", is_lower},
    {"lt", compares<Comparison::kLess>},
    {"mapping", simple<is_mapping>},
    {"ne", compares<Comparison::kNotEqual>},
    {"none", simple<is_none>},
    {"number", simple<is_number>},
    {"odd", is_odd},
    {"sameas", is_same},
    {"sequence", simple<is_sequence>},
    {"string", simple<is_string>},
    {"test", is_test},
    {"true", simple<is_true>},
    {"undefined", simple<is_undefined>},
    {"upper", is_upper},
};

}  // namespace

bool is_iterable(const Value& v) {
  return is_sequence(v) || v.is(Kind::kView) || v.is(Kind::kIterator) || v.is(Kind::kLoop);
}

const TestEntry* find_test(std::string_view name) {
  const auto it = std::lower_bound(std::begin(kTests), std::end(kTests), name,
                                   [](const TestEntry& t, auto n) { return t.name < n; });
  return it != std::end(kTests) && it->name == name ? it : nullptr;
}

}  // namespace stamp::jinja
