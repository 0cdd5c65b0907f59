#include <algorithm>

#include "models/jinja/builtins.h"

namespace stamp::jinja {
namespace {

constexpr int64_t kMaxRange = 100000;  // of jinja2's sandbox
constexpr int64_t kMaxBound = int64_t{1} << 60;

Value make_range(Interpreter& in, CallArguments& args) {
  if (!args.named.empty()) throw Failure("range() takes no keyword arguments");
  const auto& values = args.positional;
  if (values.empty()) throw Failure("range expected at least 1 argument, got 0");
  if (values.size() > 3)
    throw Failure("range expected at most 3 arguments, got " + std::to_string(values.size()));
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].is_undefined() || !values[i].is_integral())
      throw Failure("'" + std::string(type_name(values[i].kind())) +
                    "' object cannot be interpreted as an integer");
    const int64_t x = values[i].integer();
    if (x > kMaxBound || x < -kMaxBound) throw Failure("a bound of range() is too large");
    bounds[values.size() == 1 ? 1 : i] = x;
  }
  if (bounds[2] == 0) throw Failure("range() arg 3 must not be zero");
  Range* range = in.heap().make<Range>(bounds[0], bounds[1], bounds[2]);
  if (range->size() > kMaxRange)
    throw Failure("Range too big. The sandbox blocks ranges larger than MAX_RANGE (" +
                  std::to_string(kMaxRange) + ").");
  return Value::object(Kind::kRange, range);
}

/// What dict(*args, **kwargs) has.
void fill(Interpreter& in, Dict& dict, const CallArguments& args) {
  if (args.positional.size() > 1)
    throw Failure("dict expected at most 1 argument, got " + std::to_string(args.positional.size()));
  if (!args.positional.empty() && args.positional[0].is(Kind::kDict)) {
    for (const auto& [key, value] : args.positional[0].as<Dict>().items) dict.set(in.heap(), key, value);
  } else if (!args.positional.empty()) {
    for (const Value& item : in.items_of(args.positional[0])) {
      const std::vector<Value> pair = in.items_of(item);
      if (pair.size() != 2)
        throw Failure("dictionary update sequence element has length " + std::to_string(pair.size()) +
                      "; 2 is required");
      dict.set(in.heap(), pair[0], pair[1]);
    }
  }
  for (const auto& [name, value] : args.named) dict.set(in.heap(), Value::text(name), value);
}

Value make_dict(Interpreter& in, CallArguments& args) {
  Dict* dict = in.heap().make<Dict>();
  fill(in, *dict, args);
  return Value::object(Kind::kDict, dict);
}

Value make_namespace(Interpreter& in, CallArguments& args) {
  Namespace* made = in.heap().make<Namespace>();
  fill(in, made->attributes, args);
  for (const auto& [name, value] : made->attributes.items)
    if (name.is_string() && name.text().starts_with('_'))
      throw Failure("a namespace cannot have an attribute that begins with an underscore");
  return Value::object(Kind::kNamespace, made);
}

Value make_cycler(Interpreter& in, CallArguments& args) {
  if (!args.named.empty()) throw Failure("cycler() takes no keyword arguments");
  if (args.positional.empty()) throw Failure("at least one item has to be provided");
  Cycler* cycler = in.heap().make<Cycler>();
  in.heap().reserve(args.positional.size() * sizeof(Value));
  cycler->items = args.positional;
  return Value::object(Kind::kCycler, cycler);
}

Value make_joiner(Interpreter& in, CallArguments& args) {
  const Parameters parameters("joiner", args, {"sep"});
  Joiner* joiner = in.heap().make<Joiner>();
  joiner->separator = parameters.get(0, Value::text(", "));
  return Value::object(Kind::kJoiner, joiner);
}

Value raise_exception(Interpreter& in, CallArguments& args) {
  const Parameters parameters("raise_exception", args, {"message"}, 1);
  throw Failure(in.string(parameters.at(0)));
}

Value strftime_now(Interpreter& in, CallArguments& args) {
  const Parameters parameters("strftime_now", args, {"format"}, 1);
  return in.text(format_time(in.now(), parameters.string(0)));
}

Value lipsum(Interpreter&, CallArguments&) { throw Failure("the function 'lipsum' is not supported"); }

}  // namespace

Value find_global(Interpreter& in, std::string_view name) {
  static constexpr std::pair<std::string_view, Value (*)(Interpreter&, CallArguments&)> kGlobals[] = {
      {"cycler", make_cycler}, {"dict", make_dict},           {"joiner", make_joiner},
      {"lipsum", lipsum},      {"namespace", make_namespace}, {"raise_exception", raise_exception},
      {"range", make_range},   {"strftime_now", strftime_now}};
  for (const auto& [known, call] : kGlobals)
    if (known == name) return Value::object(Kind::kFunction, in.heap().make<Function>(known, call));
  return Value::missing();
}

bool loop_next(Loop& loop, Value& value) {
  if (!loop.after.is(Kind::kMissing)) value = std::exchange(loop.after, Value::missing());
  else if (!loop.iterator->next(value)) return false;
  ++loop.index0;
  loop.before = loop.current;
  loop.current = value;
  return true;
}

namespace {

bool peek(Loop& loop) {
  if (loop.after.is(Kind::kMissing)) {
    Value next;
    if (loop.iterator->next(next)) loop.after = next;
  }
  return !loop.after.is(Kind::kMissing);
}

int64_t loop_length(Interpreter& in, Loop& loop) {
  if (loop.length >= 0) return loop.length;
  if (const auto length = length_of(loop.iterable)) return loop.length = *length;
  // The rest has to be taken to be counted; the loop goes on with what was taken.
  List* rest = in.heap().make<List>();
  rest->items = in.items_of(Value::object(Kind::kIterator, loop.iterator));
  loop.length = int64_t(rest->items.size()) + loop.index0 + 1 + (loop.after.is(Kind::kMissing) ? 0 : 1);
  loop.iterator = in.iterate(Value::object(Kind::kList, rest));
  return loop.length;
}

Value cycle(Interpreter&, const Value& self, CallArguments& args) {
  if (!args.named.empty()) throw Failure("loop.cycle() takes no keyword arguments");
  if (args.positional.empty()) throw Failure("no items for cycling given");
  return args.positional[size_t(self.as<Loop>().index0) % args.positional.size()];
}

Value changed(Interpreter& in, const Value& self, CallArguments& args) {
  if (!args.named.empty()) throw Failure("loop.changed() takes no keyword arguments");
  Loop& loop = self.as<Loop>();
  const Value now = in.heap().tuple(args.positional);
  if (!loop.changed.is(Kind::kMissing) && equal(in.heap(), loop.changed, now)) return Value::boolean(false);
  loop.changed = now;
  return Value::boolean(true);
}

}  // namespace

Value loop_attribute(Interpreter& in, Loop& loop, std::string_view name, const Value& self) {
  static constexpr MethodEntry kCycle{"cycle", cycle}, kChanged{"changed", changed};
  const auto integer = [](int64_t i) { return Value::integer(i); };
  if (name == "index0") return integer(loop.index0);
  if (name == "index") return integer(loop.index0 + 1);
  if (name == "first") return Value::boolean(loop.index0 == 0);
  if (name == "last") return Value::boolean(!peek(loop));
  if (name == "length") return integer(loop_length(in, loop));
  if (name == "revindex") return integer(loop_length(in, loop) - loop.index0);
  if (name == "revindex0") return integer(loop_length(in, loop) - loop.index0 - 1);
  if (name == "depth") return integer(loop.depth0 + 1);
  if (name == "depth0") return integer(loop.depth0);
  if (name == "previtem")
    return loop.index0 == 0 ? Value::undefined(Absent::kHint, "there is no previous item") : loop.before;
  if (name == "nextitem")
    return peek(loop) ? loop.after : Value::undefined(Absent::kHint, "there is no next item");
  if (name == "cycle") return Value::object(Kind::kMethod, in.heap().make<Method>(self, &kCycle));
  if (name == "changed") return Value::object(Kind::kMethod, in.heap().make<Method>(self, &kChanged));
  return Value::missing();
}

Parameters::Parameters(std::string_view function, const CallArguments& args,
                       std::initializer_list<std::string_view> names, size_t required)
    : function_(function), names_(names), values_(names.size(), nullptr) {
  if (args.positional.size() > names_.size())
    throw Failure(function_ + "() takes at most " + std::to_string(names_.size()) + " arguments, " +
                  std::to_string(args.positional.size()) + " given");
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto it = std::find(names_.begin(), names_.end(), name);
    if (it == names_.end())
      throw Failure(function_ + "() got an unexpected keyword argument '" + std::string(name) + "'");
    const size_t i = size_t(it - names_.begin());
    if (values_[i] != nullptr)
      throw Failure(function_ + "() got multiple values for argument '" + std::string(name) + "'");
    values_[i] = &value;
  }
  for (size_t i = 0; i < required; ++i)
    if (values_[i] == nullptr)
      throw Failure(function_ + "() missing a required argument: '" + std::string(names_[i]) + "'");
}

int64_t Parameters::integer(size_t i, int64_t otherwise) const {
  if (!has(i)) return otherwise;
  if (at(i).is_undefined()) throw Failure(undefined_message(at(i)));
  if (!at(i).is_integral())
    throw Failure(function_ + "(): '" + std::string(names_[i]) + "' must be an integer, not '" +
                  std::string(type_name(at(i).kind())) + "'");
  return at(i).integer();
}

std::string_view Parameters::string(size_t i) const {
  if (!at(i).is_string())
    throw Failure(function_ + "(): '" + std::string(names_[i]) + "' must be a string, not '" +
                  std::string(type_name(at(i).kind())) + "'");
  return at(i).text();
}

}  // namespace stamp::jinja
