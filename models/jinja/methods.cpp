#include <algorithm>
#include <cmath>

#include "models/jinja/builtins.h"
#include "models/jinja/text.h"
#include "models/utf8.h"

namespace stamp::jinja {
namespace {

using text::Side;

/// Text of the same kind as `self`: what a Markup's methods return is Markup.
Value like(Interpreter& in, const Value& self, std::string_view s) { return in.text(s, self.is_markup()); }
Value part_of(const Value& self, std::string_view s) { return Value::text(s, self.is_markup()); }

Value list_of(Interpreter& in, const Value& self, const std::vector<std::string_view>& parts) {
  in.heap().require(parts.size() * sizeof(Value));
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(part_of(self, part));
  return in.heap().list(std::move(items));
}

/// The product of two lengths, for methods that compare every pair.
void work_product(Interpreter& in, size_t a, size_t b) {
  in.heap().work(1 + int64_t(double(a) * double(b) / 16));
}

template <std::string (*convert)(std::string_view)>
Value converted(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters none("the method", args, {});
  in.heap().scan(8 * self.text().size());
  return like(in, self, convert(self.text()));
}

template <Side side>
Value strip(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("strip", args, {""});
  std::optional<std::string_view> chars;
  if (parameters.has(0) && !parameters.at(0).is_none()) chars = parameters.string(0);
  work_product(in, self.text().size(), chars ? chars->size() : 1);
  return part_of(self, text::strip(self.text(), chars, side));
}

template <std::vector<std::string_view> (*cut)(std::string_view, std::optional<std::string_view>, int64_t),
          bool right>
Value split(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("split", args, {"sep", "maxsplit"});
  std::optional<std::string_view> separator;
  if (parameters.has(0) && !parameters.at(0).is_none()) separator = parameters.string(0);
  if (separator && separator->empty()) throw Failure("empty separator");
  if (right && separator) work_product(in, self.text().size(), separator->size());
  in.heap().scan(4 * self.text().size());
  in.heap().require(16 * self.text().size());
  return list_of(in, self, cut(self.text(), separator, parameters.integer(1, -1)));
}

Value split_lines(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("splitlines", args, {"keepends"});
  in.heap().scan(self.text().size());
  return list_of(in, self, text::split_lines(self.text(), parameters.integer(0, 0) != 0));
}

template <bool last>
Value partition(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("partition", args, {""}, 1);
  const std::string_view s = self.text(), separator = parameters.string(0);
  if (separator.empty()) throw Failure("empty separator");
  work_product(in, s.size(), last ? separator.size() : 1);
  const size_t at = last ? s.rfind(separator) : text::find(s, separator);
  const auto part = [&](std::string_view p) { return part_of(self, p); };
  if (at == std::string_view::npos)
    return last ? in.heap().tuple({part(""), part(""), part(s)})
                : in.heap().tuple({part(s), part(""), part("")});
  return in.heap().tuple({part(s.substr(0, at)), part(separator), part(s.substr(at + separator.size()))});
}

/// Bytes of s[start:end], for the bounds that parameters 1 and 2 give.
std::pair<size_t, size_t> window(Interpreter& in, std::string_view s, const Parameters& parameters,
                                 bool& empty) {
  in.heap().scan(4 * s.size());
  empty = false;
  if (!parameters.has(1) && !parameters.has(2)) return {0, s.size()};
  const int64_t length = text::length(s);
  const auto bound = [&](size_t i, int64_t otherwise) {
    if (!parameters.has(i) || parameters.at(i).is_none()) return otherwise;
    const int64_t x = parameters.integer(i, 0);
    return x < 0 ? std::max<int64_t>(0, x + length) : x;
  };
  const int64_t start = bound(1, 0), end = std::min(bound(2, length), length);
  empty = start > end || start > length;
  return {text::byte_of(s, start), text::byte_of(s, end)};
}

template <bool last, bool must>
Value find(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("find", args, {"", "", ""}, 1);
  const std::string_view s = self.text(), part = parameters.string(0);
  bool empty = false;
  const auto [begin, end] = window(in, s, parameters, empty);
  size_t at = std::string_view::npos;
  if (!empty) {
    const std::string_view inside = s.substr(begin, end - begin);
    if (last) work_product(in, inside.size(), part.size());
    at = last ? inside.rfind(part) : text::find(inside, part);
  }
  if (at != std::string_view::npos) return Value::integer(text::length(s.substr(0, begin + at)));
  if (must) throw Failure("substring not found");
  return Value::integer(-1);
}

Value count(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("count", args, {"", "", ""}, 1);
  bool empty = false;
  const auto [begin, end] = window(in, self.text(), parameters, empty);
  const std::string_view part = parameters.string(0);
  return Value::integer(empty ? 0 : text::count(self.text().substr(begin, end - begin), part));
}

template <bool at_end>
Value matches(Interpreter& in, const Value& self, CallArguments& args) {
  const std::string name = at_end ? "endswith" : "startswith";
  const Parameters parameters(name, args, {"", "", ""}, 1);
  bool empty = false;
  const auto [begin, end] = window(in, self.text(), parameters, empty);
  const std::string_view s = self.text().substr(begin, empty ? 0 : end - begin);
  const auto one = [&](const Value& part) {
    if (!part.is_string())
      throw Failure(name + " first arg must be str or a tuple of str, not " +
                    std::string(type_name(part.kind())));
    in.heap().scan(part.text().size());
    return !empty && (at_end ? s.ends_with(part.text()) : s.starts_with(part.text()));
  };
  if (!parameters.at(0).is(Kind::kTuple)) return Value::boolean(one(parameters.at(0)));
  const auto& parts = parameters.at(0).as<List>().items;
  return Value::boolean(std::any_of(parts.begin(), parts.end(), one));
}

Value replace(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("replace", args, {"", "", ""}, 2);
  const std::string_view from = parameters.string(0);
  std::string escaped;
  std::string_view to = parameters.string(1);
  if (self.is_markup() && !parameters.at(1).is_markup()) to = escaped = text::escape_html(to);
  return like(in, self, replaced(in, self.text(), from, to, parameters.integer(2, -1)));
}

Value join(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("join", args, {""}, 1);
  const std::vector<Value> items = in.items_of(parameters.at(0));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].is_string() && !self.is_markup())
      throw Failure("sequence item " + std::to_string(i) + ": expected str instance, " +
                    std::string(type_name(items[i].kind())) + " found");
    if (i > 0) append(in, out, self.text());
    append(
        in, out,
        self.is_markup() && !items[i].is_markup() ? text::escape_html(in.string(items[i])) : items[i].text());
  }
  return like(in, self, out);
}

enum class Place { kLeft, kRight, kCenter };
template <Place place>
Value justify(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("justify", args, {"", ""}, 1);
  const bool escapes = self.is_markup() && parameters.has(1) && !parameters.at(1).is_markup();
  const std::string given(parameters.string(1, " ")), fill = escapes ? text::escape_html(given) : given;
  if (text::length(fill) != 1) throw Failure("The fill character must be exactly one character long");
  const int64_t width = parameters.integer(0, 0), length = text::length(self.text());
  const int64_t room = std::max<int64_t>(0, width - length);
  const int64_t left = place == Place::kLeft    ? 0
                       : place == Place::kRight ? room
                                                : room / 2 + (room & width & 1);
  const auto fills = [&](int64_t n) { return times(fill, n); };
  return like(in, self, fills(left) + std::string(self.text()) + fills(room - left));
}

Value fill_zeros(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("zfill", args, {""}, 1);
  const std::string_view s = self.text();
  const bool sign = s.starts_with('-') || s.starts_with('+');
  const std::string zeros = times("0", parameters.integer(0, 0) - text::length(s));
  return like(in, self, std::string(s.substr(0, sign)) + zeros + std::string(s.substr(sign)));
}

template <bool at_end>
Value remove_affix(Interpreter&, const Value& self, CallArguments& args) {
  const Parameters parameters("removeprefix", args, {""}, 1);
  std::string_view s = self.text();
  const std::string_view part = parameters.string(0);
  if (!part.empty() && at_end && s.ends_with(part)) s.remove_suffix(part.size());
  if (!part.empty() && !at_end && s.starts_with(part)) s.remove_prefix(part.size());
  return part_of(self, s);
}

template <bool (*holds)(char32_t)>
Value all_are(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters none("the method", args, {});
  const std::string_view s = self.text();
  in.heap().scan(8 * s.size());
  for (size_t at = 0; at < s.size();)
    if (!holds(next_code_point(s, at))) return Value::boolean(false);
  return Value::boolean(!s.empty());
}
template <bool (*holds)(std::string_view)>
Value whole_is(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters none("the method", args, {});
  in.heap().scan(8 * self.text().size());
  return Value::boolean(holds(self.text()));
}
bool is_alphanumeric(char32_t c) {
  return text::is_alpha(c) || text::is_decimal(c) || text::is_digit(c) || text::is_numeric(c);
}

Value format(Interpreter& in, const Value& self, CallArguments& args) {
  if (self.is_markup()) throw Failure("the method 'Markup.format' is not supported");
  return in.text(format_braces(in, self.text(), args));
}

Value get(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("get", args, {"", ""}, 1);
  const Value* value = self.as<Dict>().find(in.heap(), parameters.at(0));
  return value != nullptr ? *value : parameters.get(1, Value());
}
template <View::Part part>
Value view(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters none("the method", args, {});
  return Value::object(Kind::kView, in.heap().make<View>(&self.as<Dict>(), part));
}
Value copy(Interpreter&, const Value& self, CallArguments& args) {  // nothing can change either of them
  const Parameters none("copy", args, {});
  return self;
}
Value count_item(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("count", args, {""}, 1);
  const std::vector<Value> items = in.items_of(self);
  return Value::integer(std::count_if(items.begin(), items.end(), [&](const Value& item) {
    return equal(in.heap(), item, parameters.at(0));
  }));
}
Value index_item(Interpreter& in, const Value& self, CallArguments& args) {
  const Parameters parameters("index", args, {"", "", ""}, 1);
  const std::vector<Value> items = in.items_of(self);
  const int64_t size = int64_t(items.size());
  const auto bound = [&](size_t i, int64_t otherwise) {
    const int64_t x = parameters.integer(i, otherwise);
    return std::clamp<int64_t>(x < 0 ? x + size : x, 0, size);
  };
  for (int64_t i = bound(1, 0), end = bound(2, size); i < end; ++i)
    if (equal(in.heap(), items[size_t(i)], parameters.at(0))) return Value::integer(i);
  throw Failure(repr(in.heap(), parameters.at(0)) + " is not in the " + std::string(type_name(self.kind())));
}
Value next_of_cycle(Interpreter&, const Value& self, CallArguments& args) {
  const Parameters none("next", args, {});
  Cycler& cycler = self.as<Cycler>();
  const Value value = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return value;
}
Value reset_cycle(Interpreter&, const Value& self, CallArguments& args) {
  const Parameters none("reset", args, {});
  self.as<Cycler>().position = 0;
  return Value();
}
Value is_whole(Interpreter&, const Value& self, CallArguments& args) {
  const Parameters none("is_integer", args, {});
  return Value::boolean(std::isfinite(self.real()) && self.real() == std::floor(self.real()));
}

// Every attribute that Python's types have, so that one that is not supported is never taken for a missing
// key.
constexpr MethodEntry kStr[] = {
    {"capitalize", converted<text::capitalize>},
    {"casefold", converted<text::case_fold>},
    {"center", justify<Place::kCenter>},
    {"count", count},
    {"encode", nullptr},
    {"endswith", matches<true>},
    {"expandtabs", nullptr},
    {"find", find<false, false>},
    {"format", format},
    {"format_map", nullptr},
    {"index", find<false, true>},
    {"isalnum", all_are<is_alphanumeric>},
    {"isalpha", all_are<text::is_alpha>},
    {"isascii", whole_is<text::is_ascii>},
    {"isdecimal", all_are<text::is_decimal>},
    {"isdigit", all_are<text::is_digit>},
    {"isidentifier", nullptr},
    {"islower", whole_is<text::is_lower>},
    {"isnumeric", nullptr},
    {"isprintable", whole_is<text::is_printable>},
    {"isspace", all_are<text::is_space>},
    {"istitle", whole_is<text::is_title>},
    {"isupper", whole_is<text::is_upper>},
    {"join", join},
    {"ljust", justify<Place::kLeft>},
    {"lower", converted<text::lower>},
    {"lstrip", strip<Side::kLeft>},
    {"maketrans", nullptr},
    {"partition", partition<false>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"replace", replace},
    {"rfind", find<true, false>},
    {"rindex", find<true, true>},
    {"rjust", justify<Place::kRight>},
    {"rpartition", partition<true>},
    {"rsplit", split<text::rsplit, true>},
    {"rstrip", strip<Side::kRight>},
    {"split", split<text::split, false>},
    {"splitlines", split_lines},
    {"startswith", matches<false>},
    {"strip", strip<Side::kBoth>},
    {"swapcase", converted<text::swap_case>},
    {"title", converted<text::title>},
    {"translate", nullptr},
    {"upper", converted<text::upper>},
    {"zfill", fill_zeros},
};
constexpr MethodEntry kDict[] = {
    {"clear", nullptr},
    {"copy", copy},
    {"fromkeys", nullptr},
    {"get", get},
    {"items", view<View::Part::kItems>},
    {"keys", view<View::Part::kKeys>},
    {"pop", nullptr},
    {"popitem", nullptr},
    {"setdefault", nullptr},
    {"update", nullptr},
    {"values", view<View::Part::kValues>},
};
constexpr MethodEntry kList[] = {
    {"append", nullptr}, {"clear", nullptr},    {"copy", copy},      {"count", count_item},
    {"extend", nullptr}, {"index", index_item}, {"insert", nullptr}, {"pop", nullptr},
    {"remove", nullptr}, {"reverse", nullptr},  {"sort", nullptr},
};
constexpr MethodEntry kTuple[] = {{"count", count_item}, {"index", index_item}};
constexpr MethodEntry kInt[] = {{"as_integer_ratio", nullptr},
                                {"bit_count", nullptr},
                                {"bit_length", nullptr},
                                {"conjugate", nullptr},
                                {"denominator", nullptr},
                                {"from_bytes", nullptr},
                                {"imag", nullptr},
                                {"numerator", nullptr},
                                {"real", nullptr},
                                {"to_bytes", nullptr}};
constexpr MethodEntry kFloat[] = {{"as_integer_ratio", nullptr},
                                  {"conjugate", nullptr},
                                  {"fromhex", nullptr},
                                  {"hex", nullptr},
                                  {"imag", nullptr},
                                  {"is_integer", is_whole},
                                  {"real", nullptr}};
constexpr MethodEntry kCycler[] = {{"next", next_of_cycle}, {"reset", reset_cycle}};

template <size_t n>
const MethodEntry* search(const MethodEntry (&table)[n], std::string_view name) {
  const auto it = std::lower_bound(table, table + n, name,
                                   [](const MethodEntry& m, std::string_view s) { return m.name < s; });
  return it != table + n && it->name == name ? it : nullptr;
}

}  // namespace

const MethodEntry* find_method(Kind kind, std::string_view name) {
  switch (kind) {
    case Kind::kString:
      return search(kStr, name);
    case Kind::kDict:
      return search(kDict, name);
    case Kind::kList:
      return search(kList, name);
    case Kind::kTuple:
    case Kind::kRange:
      return search(kTuple, name);
    case Kind::kBool:
    case Kind::kInt:
      return search(kInt, name);
    case Kind::kFloat:
      return search(kFloat, name);
    case Kind::kCycler:
      return search(kCycler, name);
    default:
      return nullptr;
  }
}

std::string replaced(Interpreter& in, std::string_view s, std::string_view from, std::string_view to,
                     int64_t limit) {
  in.heap().scan(8 * s.size());
  int64_t n = text::count(s, from);
  if (limit >= 0) n = std::min(n, limit);
  if (double(s.size()) + double(n) * double(to.size()) > double(kMaxText))
    throw Failure("the replaced text is too long");
  return text::replace(s, from, to, limit);
}

void append(Interpreter& in, std::string& out, std::string_view part) {
  in.heap().scan(part.size());
  if (out.size() + part.size() > kMaxText) throw Failure("the joined text is too long");
  out += part;
}

std::string times(std::string_view s, int64_t n) {
  if (n > 0 && s.size() > kMaxText / size_t(n)) throw Failure("the repeated string is too long");
  std::string out;
  for (; n > 0 && !s.empty(); --n) out += s;
  return out;
}

}  // namespace stamp::jinja
