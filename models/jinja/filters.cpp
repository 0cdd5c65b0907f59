#include <algorithm>
#include <cmath>

#include "models/jinja/builtins.h"
#include "models/jinja/text.h"
#include "models/utf8.h"

namespace stamp::jinja {
namespace {

/// markupsafe.soft_str: text stays what it is, Markup included.
Value soft(Interpreter& in, const Value& value) {
  return value.is_string() ? value : in.text(in.string(value));
}

/// The method of the same name on the value's text.
template <const char* const& method>
Value as_method(Interpreter& in, const Value& value, CallArguments& args) {
  in.heap().work(1);
  return find_method(Kind::kString, method)->call(in, soft(in, value), args);
}
constexpr const char *kUpper = "upper", *kLower = "lower", *kCapitalize = "capitalize";

/// Looks up "a.b.0" of a value, as make_attrgetter.
class Getter {
 public:
  Getter(Interpreter& in, const Value& attribute, bool case_sensitive,
         const Value& otherwise = Value::missing())
      : in_(in), fold_(!case_sensitive), otherwise_(otherwise) {
    if (attribute.is_none()) return;
    if (!attribute.is_string()) {
      path_.push_back(attribute);
      return;
    }
    for (const std::string_view part : text::split(attribute.text(), ".", -1)) {
      const auto number = !part.empty() && text::is_ascii(part) &&
                                  part.find_first_not_of("0123456789") == std::string_view::npos
                              ? parse_int(part, 10)
                              : std::nullopt;
      path_.push_back(number ? Value::integer(*number) : Value::text(part));
    }
  }
  Value operator()(Value value) const {
    for (const Value& part : path_) {
      value = get_item(in_, value, part);
      if (value.is_undefined() && !otherwise_.is(Kind::kMissing) && !otherwise_.is_none()) value = otherwise_;
    }
    return fold(value);
  }

 private:
  Value fold(const Value& value) const {
    if (!fold_ || !value.is_string()) return value;
    in_.heap().scan(8 * value.text().size());
    return in_.text(text::lower(value.text()));
  }
  Interpreter& in_;
  bool fold_;
  Value otherwise_;
  std::vector<Value> path_;
};

// Text

Value trim(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("trim", args, {"chars"});
  CallArguments chars{{parameters.get(0, Value())}, {}};
  return find_method(Kind::kString, "strip")->call(in, soft(in, value), chars);
}
Value center(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("center", args, {"width"});
  CallArguments width{{parameters.get(0, Value::integer(80))}, {}};
  return find_method(Kind::kString, "center")->call(in, soft(in, value), width);
}
Value replace(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("replace", args, {"old", "new", "count"}, 2);
  const int64_t limit = parameters.has(2) && !parameters.at(2).is_none() ? parameters.integer(2, -1) : -1;
  return in.text(
      replaced(in, in.string(value), in.string(parameters.at(0)), in.string(parameters.at(1)), limit));
}
Value title(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("title", args, {});
  const Value input = soft(in, value);
  const std::string_view s = input.text();
  in.heap().scan(32 * s.size());
  const auto separates = [](char32_t c) {
    return text::is_space(c) ||
           (c < 0x80 && std::string_view("-({[<").find(char(c)) != std::string_view::npos);
  };
  std::string out;
  for (size_t at = 0; at < s.size();) {
    const size_t begin = at;
    const bool separator = separates(next_code_point(s, at));
    const size_t second = at;
    for (size_t next = at; next < s.size() && separates(next_code_point(s, next)) == separator;) at = next;
    out += text::upper(s.substr(begin, second - begin)) + text::lower(s.substr(second, at - second));
  }
  return in.text(out);
}
Value string(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("string", args, {});
  return soft(in, value);
}
Value safe(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("safe", args, {});
  return Value::text(soft(in, value).text(), true);
}
Value escape(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("escape", args, {});
  if (value.is_markup()) return value;
  in.heap().scan(value.is_string() ? value.text().size() : 1);
  return in.text(text::escape_html(in.string(value)), true);
}
Value force_escape(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("forceescape", args, {});
  return in.text(text::escape_html(in.string(value)), true);
}
Value indent(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("indent", args, {"width", "first", "blank"});
  const bool by_text = parameters.has(0) && parameters.at(0).is_string();
  const std::string indention =
      by_text ? std::string(parameters.string(0)) : times(" ", parameters.integer(0, 4));
  if (!value.is_string()) binary(in, Op::kAdd, value, Value::text("\n"));  // fails, as in Python
  const bool first = parameters.flag(1, false), blank = parameters.flag(2, false);
  const std::string text = std::string(value.text()) + "\n";
  std::string out = first ? indention : "";
  bool begun = false;
  for (const std::string_view line : text::split_lines(text, false)) {
    if (begun) append(in, out, "\n");
    if (begun && (blank || !line.empty())) append(in, out, indention);
    append(in, out, line);
    begun = true;
  }
  return in.text(out, value.is_markup());
}
Value shorten(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("truncate", args, {"length", "killwords", "end", "leeway"});
  const std::string_view end = parameters.string(2, "...");
  const int64_t length = parameters.integer(0, 255),
                leeway = parameters.has(3) && parameters.at(3).is_none() ? 5 : parameters.integer(3, 5);
  if (length < text::length(end))
    throw Failure("expected length >= " + std::to_string(text::length(end)) + ", got " +
                  std::to_string(length));
  if (leeway < 0) throw Failure("expected leeway >= 0, got " + std::to_string(leeway));
  const auto size = length_of(value);
  if (!size) throw Failure("object of type '" + std::string(type_name(value.kind())) + "' has no len()");
  if (*size <= length + leeway) return value;
  if (!value.is_string()) throw Failure("truncate() needs a string");
  std::string_view s = value.text().substr(0, text::byte_of(value.text(), length - text::length(end)));
  if (const size_t space = s.rfind(' '); !parameters.flag(1, false) && space != std::string_view::npos)
    s = s.substr(0, space);
  return binary(in, Op::kAdd, Value::text(s, value.is_markup()),
                parameters.has(2) ? parameters.at(2) : Value::text(end));
}
Value count_words(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("wordcount", args, {});
  const std::string s = in.string(value);
  int64_t words = 0;
  bool in_word = false;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_code_point(s, at);
    const bool part =
        c == '_' || text::is_alpha(c) || text::is_decimal(c) || text::is_digit(c) || text::is_numeric(c);
    words += part && !in_word;
    in_word = part;
  }
  return Value::integer(words);
}
Value format(Interpreter& in, const Value& value, CallArguments& args) {
  if (!args.positional.empty() && !args.named.empty())
    throw Failure("can't handle positional and keyword arguments at the same time");
  const Value input = soft(in, value);
  if (args.named.empty()) return binary(in, Op::kMod, input, in.heap().tuple(args.positional));
  Dict* dict = in.heap().make<Dict>();
  for (const auto& [name, item] : args.named) dict->set(in.heap(), Value::text(name), item);
  return binary(in, Op::kMod, input, Value::object(Kind::kDict, dict));
}
std::string url_quoted(Interpreter& in, const Value& value, bool for_query) {
  std::string out;
  for (const char c : in.string(value)) {
    static constexpr char kHex[] = "0123456789ABCDEF";
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (byte < 0x80 && std::isalnum(byte) != 0) ||
                       std::string_view("_.-~").find(c) != std::string_view::npos;
    if (plain || (c == '/' && !for_query)) out += c;
    else if (c == ' ' && for_query) out += '+';
    else out += {'%', kHex[byte >> 4], kHex[byte & 15]};
  }
  return out;
}
Value url_encode(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("urlencode", args, {});
  if (value.is_string() || !is_iterable(value)) return in.text(url_quoted(in, value, false));
  const Value source =
      value.is(Kind::kDict)
          ? Value::object(Kind::kView, in.heap().make<View>(&value.as<Dict>(), View::Part::kItems))
          : value;
  std::string out;
  for (const Value& item : in.items_of(source)) {
    const std::vector<Value> pair = in.items_of(item);
    if (pair.size() != 2) throw Failure("urlencode() needs pairs");
    append(in, out,
           (out.empty() ? "" : "&") + url_quoted(in, pair[0], true) + "=" + url_quoted(in, pair[1], true));
  }
  return in.text(out);
}
Value to_json_filter(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("tojson", args, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonOptions options;
  options.ensure_ascii = parameters.flag(0, false);
  options.sort_keys = parameters.flag(3, false);
  if (const Value& indent = parameters.get(1, Value()); !indent.is_none()) {
    options.indent = indent.is_string() ? std::string(indent.text()) : times(" ", parameters.integer(1, 0));
    options.item_separator = ",";
  }
  if (const Value& separators = parameters.get(2, Value()); !separators.is_none()) {
    const std::vector<Value> pair = in.items_of(separators);
    if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string())
      throw Failure("tojson(): separators must be two strings");
    options.item_separator = pair[0].text();
    options.key_separator = pair[1].text();
  }
  return in.text(to_json(in, value, options));
}

// Values

Value otherwise(Interpreter&, const Value& value, CallArguments& args) {
  const Parameters parameters("default", args, {"default_value", "boolean"});
  return value.is_undefined() || (parameters.flag(1, false) && !truth(value))
             ? parameters.get(0, Value::text(""))
             : value;
}
Value attr(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("attr", args, {"name"}, 1);
  const std::string_view name = parameters.string(0);
  const Value found = attribute(in, value, name);
  return found.is(Kind::kMissing) ? Value::undefined(Absent::kAttribute, name, value.kind()) : found;
}
Value length(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("length", args, {});
  if (value.is_string()) in.heap().scan(value.text().size());
  if (value.is(Kind::kLoop)) return loop_attribute(in, value.as<Loop>(), "length", value);
  const auto n = length_of(value);
  if (!n) throw Failure("object of type '" + std::string(type_name(value.kind())) + "' has no len()");
  return Value::integer(*n);
}
Value absolute(Interpreter&, const Value& value, CallArguments& args) {
  const Parameters none("abs", args, {});
  if (value.is_undefined()) throw Failure("bad operand type for abs(): 'Undefined'");
  if (!value.is_number())
    throw Failure("bad operand type for abs(): '" + std::string(type_name(value.kind())) + "'");
  if (value.is(Kind::kFloat)) return Value::real(std::fabs(value.real()));
  return value.integer() < 0 ? negate(value, true) : Value::integer(value.integer());
}
Value to_int(Interpreter&, const Value& value, CallArguments& args) {
  const Parameters parameters("int", args, {"default", "base"});
  const Value fallback = parameters.get(0, Value::integer(0));
  if (value.is_undefined()) throw Failure(undefined_message(value));
  if (value.is_integral()) return Value::integer(value.integer());
  if (value.is(Kind::kFloat))
    return std::isnan(value.real()) ? fallback : Value::integer(truncate(value.real()));
  if (!value.is_string()) return fallback;
  if (const auto i = parse_int(value.text(), int(std::clamp<int64_t>(parameters.integer(1, 10), -1, 99))))
    return Value::integer(*i);
  const auto x = parse_float(value.text());
  return x && std::isfinite(*x) ? Value::integer(truncate(*x)) : fallback;
}
Value to_float(Interpreter&, const Value& value, CallArguments& args) {
  const Parameters parameters("float", args, {"default"});
  if (value.is_undefined()) throw Failure(undefined_message(value));
  if (value.is_number()) return Value::real(value.real());
  const auto x = value.is_string() ? parse_float(value.text()) : std::nullopt;
  return x ? Value::real(*x) : parameters.get(0, Value::real(0));
}
Value round(Interpreter&, const Value& value, CallArguments& args) {
  const Parameters parameters("round", args, {"precision", "method"});
  const std::string_view method = parameters.string(1, "common");
  const int64_t precision = parameters.integer(0, 0);
  if (method != "common" && method != "ceil" && method != "floor")
    throw Failure("method must be common, ceil or floor");
  if (value.is_undefined())
    throw Failure(method == "common" ? "type Undefined doesn't define __round__ method"
                                     : undefined_message(value));
  if (!value.is_number())
    throw Failure("type " + std::string(type_name(value.kind())) + " doesn't define __round__ method");
  if (method == "common") {
    if (value.is_integral()) return Value::integer(round_integer(value.integer(), precision));
    return Value::real(round_real(value.real(), precision));
  }
  const double scale = std::pow(10.0, double(precision)), scaled = value.real() * scale;
  if (!std::isfinite(scaled)) throw Failure("cannot convert float " + repr_float(scaled) + " to integer");
  // Python goes over an integer, which has no negative zero.
  return Value::real(((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) + 0.0) / scale);
}

// Sequences

Value first(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("first", args, {});
  Value item;
  return in.iterate(value)->next(item)
             ? item
             : Value::undefined(Absent::kHint, "No first item, sequence was empty.");
}
bool is_reversible(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is(Kind::kDict) ||
         value.is(Kind::kRange) || value.is(Kind::kView);
}
Value last(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("last", args, {});
  if (!is_reversible(value))
    throw Failure("'" + std::string(type_name(value.kind())) + "' object is not reversible");
  const std::vector<Value> items = in.items_of(value);
  return items.empty() ? Value::undefined(Absent::kHint, "No last item, sequence was empty.") : items.back();
}
Value list(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("list", args, {});
  return in.heap().list(in.items_of(value));
}
Value reverse(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("reverse", args, {});
  if (value.is_string()) return slice(in, value, Value(), Value(), Value::integer(-1));
  std::vector<Value> items = in.items_of(value);
  std::reverse(items.begin(), items.end());
  const Value reversed = in.heap().list(std::move(items));
  return is_reversible(value) ? Value::object(Kind::kIterator, in.iterate(reversed)) : reversed;
}
Value join(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("join", args, {"d", "attribute"});
  const std::string separator = parameters.has(0) ? in.string(parameters.at(0)) : "";
  const Getter getter(in, parameters.get(1, Value()), true);
  std::string out;
  Iterator* items = in.iterate(value);
  bool begun = false;
  for (Value item; items->next(item); begun = true) {
    in.heap().work(1);
    if (begun) append(in, out, separator);
    append(in, out, in.string(getter(item)));
  }
  return in.text(out);
}
Value pairs(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters none("items", args, {});
  return make_iterator(in, [&in, value, items = static_cast<Iterator*>(nullptr)](Value& item) mutable {
    if (value.is_undefined()) return false;
    if (!value.is(Kind::kDict)) throw Failure("Can only get item pairs from a mapping.");
    if (items == nullptr)
      items =
          in.iterate(Value::object(Kind::kView, in.heap().make<View>(&value.as<Dict>(), View::Part::kItems)));
    return items->next(item);
  });
}

/// Sorts by the keys that go with the items; stable, also in reverse.
std::vector<Value> sorted(Interpreter& in, std::vector<Value> items, const std::vector<Value>& keys,
                          bool reverse) {
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = reverse ? order.size() - 1 - i : i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return less(in.heap(), keys[a], keys[b]); });
  if (reverse) std::reverse(order.begin(), order.end());
  std::vector<Value> out;
  out.reserve(items.size());
  for (const size_t i : order) out.push_back(items[i]);
  return out;
}
template <class Key>
std::vector<Value> keys_of(const std::vector<Value>& items, const Key& key) {
  std::vector<Value> keys;
  keys.reserve(items.size());
  for (const Value& item : items) keys.push_back(key(item));
  return keys;
}

Value sort(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("sort", args, {"reverse", "case_sensitive", "attribute"});
  const Value attribute = parameters.get(2, Value());
  const bool case_sensitive = parameters.flag(1, false);
  std::vector<Getter> getters;
  if (attribute.is_string())
    for (const std::string_view part : text::split(attribute.text(), ",", -1))
      getters.emplace_back(in, Value::text(part), case_sensitive);
  else getters.emplace_back(in, attribute, case_sensitive);
  std::vector<Value> items = in.items_of(value);
  const std::vector<Value> keys = keys_of(items, [&](const Value& item) {
    std::vector<Value> key;
    for (const Getter& getter : getters) key.push_back(getter(item));
    return in.heap().list(std::move(key));
  });
  return in.heap().list(sorted(in, std::move(items), keys, parameters.flag(0, false)));
}
Value sort_dict(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string_view by = parameters.string(1, "key");
  if (by != "key" && by != "value") throw Failure("You can only sort by either \"key\" or \"value\"");
  if (value.is_undefined()) throw Failure(undefined_message(value));
  if (!value.is(Kind::kDict))
    throw Failure("'" + std::string(type_name(value.kind())) + "' object has no attribute 'items'");
  const Getter key(in, Value::integer(by == "key" ? 0 : 1), parameters.flag(0, false));
  std::vector<Value> items =
      in.items_of(Value::object(Kind::kView, in.heap().make<View>(&value.as<Dict>(), View::Part::kItems)));
  const std::vector<Value> keys = keys_of(items, key);
  return in.heap().list(sorted(in, std::move(items), keys, parameters.flag(2, false)));
}
Value group_by(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = parameters.flag(2, false);
  const Value fallback = parameters.get(1, Value());
  const Getter key(in, parameters.at(0), case_sensitive, fallback),
      name(in, parameters.at(0), true, fallback);
  std::vector<Value> items = in.items_of(value);
  const std::vector<Value> keys = keys_of(items, key);
  items = sorted(in, std::move(items), keys, false);
  std::vector<Value> groups;
  for (size_t begin = 0, end = 0; begin < items.size(); begin = end) {
    const Value first = key(items[begin]);
    for (end = begin + 1; end < items.size() && equal(in.heap(), key(items[end]), first);) ++end;
    groups.push_back(in.heap().tuple({name(items[begin]), in.heap().list({items.begin() + ptrdiff_t(begin),
                                                                          items.begin() + ptrdiff_t(end)})}));
    groups.back().as<List>().group = true;
  }
  return in.heap().list(std::move(groups));
}
template <bool smallest>
Value extreme(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("min", args, {"case_sensitive", "attribute"});
  const Getter getter(in, parameters.get(1, Value()), parameters.flag(0, false));
  Iterator* items = in.iterate(value);
  Value best;
  if (!items->next(best)) return Value::undefined(Absent::kHint, "No aggregated item, sequence was empty.");
  Value best_key = getter(best);
  for (Value item; items->next(item);) {
    in.heap().work(1);
    const Value key = getter(item);
    if (key.is_undefined()) throw Failure(undefined_message(key));  // before the best one, which may be, too
    if (!(smallest ? less(in.heap(), key, best_key) : less(in.heap(), best_key, key))) continue;
    best = item;
    best_key = key;
  }
  return best;
}
Value sum(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("sum", args, {"attribute", "start"});
  const Getter getter(in, parameters.get(0, Value()), true);
  Value total = parameters.get(1, Value::integer(0));
  if (total.is_string()) throw Failure("sum() can't sum strings [use ''.join(seq) instead]");
  Iterator* items = in.iterate(value);
  for (Value item; items->next(item);) {
    in.heap().work(1);
    total = binary(in, Op::kAdd, total, getter(item));
  }
  return total;
}
Value unique(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("unique", args, {"case_sensitive", "attribute"});
  const Getter getter(in, parameters.get(1, Value()), parameters.flag(0, false));
  return make_iterator(in, [&in, value, getter, items = static_cast<Iterator*>(nullptr),
                            seen = in.heap().make<Dict>()](Value& item) mutable {
    if (items == nullptr) items = in.iterate(value);
    while (items->next(item)) {
      in.heap().work(1);
      const Value key = getter(item);
      if (seen->find(in.heap(), key) != nullptr) continue;
      seen->set(in.heap(), key, Value());
      return true;
    }
    return false;
  });
}

/// A generator over the items of `value`: nothing is looked at, not even the arguments, before the first item
/// is taken.
template <class Prepare, class Step>
Value generate(Interpreter& in, const Value& value, Prepare prepare, Step step) {
  return make_iterator(in, [&in, value, prepare, step, items = static_cast<Iterator*>(nullptr),
                            begun = false](Value& item) mutable {
    if (!begun && truth(value)) {
      prepare();
      items = in.iterate(value);
    }
    begun = true;
    while (items != nullptr && items->next(item)) {
      in.heap().work(1);
      if (step(item)) return true;
    }
    return false;
  });
}

Value map(Interpreter& in, const Value& value, CallArguments& args) {
  const auto named = [&](std::string_view name) {
    return std::find_if(args.named.begin(), args.named.end(), [&](const auto& n) { return n.first == name; });
  };
  if (args.positional.empty() && named("attribute") != args.named.end()) {
    const Value fallback = named("default") != args.named.end() ? named("default")->second : Value::missing();
    const Getter getter(in, named("attribute")->second, true, fallback);
    const auto check = [args] {
      for (const auto& [name, ignored] : args.named)
        if (name != "attribute" && name != "default")
          throw Failure("Unexpected keyword argument '" + std::string(name) + "'");
    };
    return generate(in, value, check, [getter](Value& item) { return item = getter(item), true; });
  }
  const auto check = [args] {
    if (args.positional.empty()) throw Failure("map requires a filter argument");
    if (!args.positional[0].is_string())
      throw Failure("No filter named " + std::string(type_name(args.positional[0].kind())) + " found.");
  };
  return generate(in, value, check, [&in, args](Value& item) {
    CallArguments rest{{args.positional.begin() + 1, args.positional.end()}, args.named};
    item = in.call_filter(args.positional[0].text(), item, rest);
    return true;
  });
}

/// select, reject, selectattr and rejectattr.
template <bool keep, bool by_attribute>
Value choose(Interpreter& in, const Value& value, CallArguments& args) {
  constexpr size_t kTest = by_attribute ? 1 : 0;
  const auto check = [args] {
    if (by_attribute && args.positional.empty()) throw Failure("Missing parameter for attribute name");
    if (args.positional.size() > kTest && !args.positional[kTest].is_string())
      throw Failure("No test named " + std::string(type_name(args.positional[kTest].kind())) + " found.");
  };
  const Getter getter(in, by_attribute && !args.positional.empty() ? args.positional[0] : Value(), true);
  return generate(in, value, check, [&in, args, getter](Value& item) {
    const Value subject = by_attribute ? getter(item) : item;
    if (args.positional.size() <= kTest) return truth(subject) == keep;
    CallArguments rest{{args.positional.begin() + kTest + 1, args.positional.end()}, args.named};
    return in.call_test(args.positional[kTest].text(), subject, rest) == keep;
  });
}

Value batch(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("batch", args, {"linecount", "fill_with"}, 1);
  const int64_t width = parameters.integer(0, 0);
  const Value fill = parameters.get(1, Value());
  return make_iterator(in, [&in, value, width, fill, items = static_cast<Iterator*>(nullptr),
                            row = std::vector<Value>(), done = false](Value& out) mutable {
    if (items == nullptr) items = in.iterate(value);
    for (Value item; !done && items->next(item);) {
      in.heap().work(1);
      const bool full = int64_t(row.size()) == width;
      if (full) out = in.heap().list(std::exchange(row, {}));
      row.push_back(item);
      if (full) return true;
    }
    if (std::exchange(done, true) || row.empty()) return false;
    in.heap().require(!fill.is_none() && width > int64_t(row.size()) ? uint64_t(width) * sizeof(Value) : 0);
    while (!fill.is_none() && int64_t(row.size()) < width) row.push_back(fill);
    out = in.heap().list(std::move(row));
    return true;
  });
}
Value columns(Interpreter& in, const Value& value, CallArguments& args) {
  const Parameters parameters("slice", args, {"slices", "fill_with"}, 1);
  const int64_t slices = parameters.integer(0, 0);
  const Value fill = parameters.get(1, Value());
  return make_iterator(in, [&in, value, slices, fill, items = std::vector<Value>(), number = int64_t{0},
                            at = size_t{0}](Value& out) mutable {
    if (number == 0) items = in.items_of(value);
    if (number == 0 && slices == 0) throw Failure("integer division or modulo by zero");
    if (number >= slices) return false;
    in.heap().work(1);
    const int64_t longer = int64_t(items.size()) % slices;
    const size_t count = items.size() / size_t(slices) + (number < longer ? 1 : 0);
    std::vector<Value> column(items.begin() + ptrdiff_t(at), items.begin() + ptrdiff_t(at + count));
    if (!fill.is_none() && number >= longer) column.push_back(fill);
    at += count;
    ++number;
    out = in.heap().list(std::move(column));
    return true;
  });
}

constexpr FilterEntry kFilters[] = {
    {"abs", absolute},
    {"attr", attr},
    {"batch", batch},
    {"capitalize", as_method<kCapitalize>},
    {"center", center},
    {"count", length},
    {"d", otherwise},
    {"default", otherwise},
    {"dictsort", sort_dict},
    {"e", escape},
    {"escape", escape},
    {"filesizeformat", nullptr},
    {"first", first},
    {"float", to_float},
    {"forceescape", force_escape},
    {"format", format},
    {"groupby", group_by},
    {"indent", indent},
    {"int", to_int},
    {"items", pairs},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", list},
    {"lower", as_method<kLower>},
    {"map", map},
    {"max", extreme<false>},
    {"min", extreme<true>},
    {"pprint", nullptr},
    {"random", nullptr},
    {"reject", choose<false, false>},
    {"rejectattr", choose<false, true>},
    {"replace", replace},
    {"reverse", reverse},
    {"round", round},
    {"safe", safe},
    {"select", choose<true, false>},
    {"selectattr", choose<true, true>},
    {"slice", columns},
    {"sort", sort},
    {"string", string},
    {"striptags", nullptr},
    {"sum", sum},
    {"title", title},
    {"tojson", to_json_filter},
    {"trim", trim},
    {"truncate", shorten},
    {"unique", unique},
    {"upper", as_method<kUpper>},
    {"urlencode", url_encode},
    {"urlize", nullptr},
    {"wordcount", count_words},
    {"wordwrap", nullptr},
    {"xmlattr", nullptr},
};

}  // namespace

const FilterEntry* find_filter(std::string_view name) {
  const auto it = std::lower_bound(std::begin(kFilters), std::end(kFilters), name,
                                   [](const FilterEntry& f, auto n) { return f.name < n; });
  return it != std::end(kFilters) && it->name == name ? it : nullptr;
}

}  // namespace stamp::jinja
