#pragma once
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "models/jinja/interpreter.h"

namespace stamp::jinja {

struct FilterEntry {
  std::string_view name;
  Value (*call)(Interpreter&, const Value& input, CallArguments&);
};
struct TestEntry {
  std::string_view name;
  bool (*call)(Interpreter&, const Value& input, CallArguments&);
};

/// Null if there is none.
const FilterEntry* find_filter(std::string_view name);
const TestEntry* find_test(std::string_view name);
/// A global function; missing if there is none.
Value find_global(Interpreter& in, std::string_view name);
/// A method of a Python type; null if the type has none of that name.
const MethodEntry* find_method(Kind kind, std::string_view name);

// Operators. Each throws Failure where Python raises.
Value binary(Interpreter& in, Op op, const Value& a, const Value& b);
Value negate(const Value& value, bool minus);
bool compare(Interpreter& in, Comparison comparison, const Value& a, const Value& b);
bool contains(Interpreter& in, const Value& container, const Value& item);
/// getattr(object, name) of Python in the sandbox; missing if there is no such attribute.
Value attribute(Interpreter& in, const Value& object, std::string_view name);
/// a.name and a[key] of jinja2: attributes and items stand in for each other, and what is missing is
/// undefined.
Value get_attribute(Interpreter& in, const Value& object, std::string_view name);
Value get_item(Interpreter& in, const Value& object, const Value& key);
/// a[start:stop:step]; bounds are None where they are left out.
Value slice(Interpreter& in, const Value& object, const Value& start, const Value& stop, const Value& step);
/// Whether iter(value) is possible.
bool is_iterable(const Value& value);
/// len(value); nothing if the type has none.
std::optional<int64_t> length_of(const Value& value);

// Attributes of jinja2's own objects; missing if there is none.
Value loop_attribute(Interpreter& in, Loop& loop, std::string_view name, const Value& self);
bool loop_next(Loop& loop, Value& value);

// Text, within the limits
std::string replaced(Interpreter& in, std::string_view s, std::string_view from, std::string_view to,
                     int64_t limit);
void append(Interpreter& in, std::string& out, std::string_view part);
std::string times(std::string_view s, int64_t n);

// Formatting
std::string format_percent(Interpreter& in, std::string_view format, const Value& args, bool markup);
std::string format_braces(Interpreter& in, std::string_view format, const CallArguments& args);
/// datetime.strftime of the local time.
std::string format_time(std::chrono::system_clock::time_point time, std::string_view format);
struct JsonOptions {
  bool ensure_ascii = false, sort_keys = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ", key_separator = ": ";
};
std::string to_json(Interpreter& in, const Value& value, const JsonOptions& options);
/// float(text), int(text, base) of Python; nothing where they raise ValueError.
std::optional<double> parse_float(std::string_view text);
std::optional<int64_t> parse_int(std::string_view text, int base);
/// int(x) of a float. Throws Failure for what does not fit.
int64_t truncate(double x);
/// round(x, digits), half to even.
double round_real(double x, int64_t digits);
int64_t round_integer(int64_t x, int64_t digits);

/// The arguments of a builtin function: by position, then by name. Throws Failure "<function>() ..." for too
/// many, too few, unknown and doubled ones.
class Parameters {
 public:
  Parameters(std::string_view function, const CallArguments& args,
             std::initializer_list<std::string_view> names, size_t required = 0);
  bool has(size_t i) const { return values_[i] != nullptr; }
  const Value& at(size_t i) const { return *values_[i]; }
  Value get(size_t i, const Value& otherwise) const { return has(i) ? at(i) : otherwise; }
  bool flag(size_t i, bool otherwise) const { return has(i) ? truth(at(i)) : otherwise; }
  int64_t integer(size_t i, int64_t otherwise) const;
  std::string_view string(size_t i) const;  // throws Failure if it is no string
  std::string_view string(size_t i, std::string_view otherwise) const {
    return has(i) ? string(i) : otherwise;
  }

 private:
  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

/// Functions of several files, made of an iterator that computes its items.
template <class F>
Value make_iterator(Interpreter& in, F next) {
  struct Computed : Iterator {
    Computed(Interpreter& i, F f) : in(i), compute(std::move(f)) {}
    bool next(Value& value) override {
      const Interpreter::Deeper deeper(in);  // its source may be such an iterator too
      return compute(value);
    }
    Interpreter& in;
    F compute;
  };
  return Value::object(Kind::kIterator, in.heap().make<Computed>(in, std::move(next)));
}

}  // namespace stamp::jinja
