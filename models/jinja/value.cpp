#include "models/jinja/value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>

#include "models/jinja/interpreter.h"
#include "models/jinja/text.h"

namespace stamp::jinja {
namespace {

constexpr size_t kLinearSearch = 8;  // items of a dict without an index
constexpr size_t kChunk = size_t{64} << 10;

std::string object_name(Kind kind) {
  return kind == Kind::kNone ? "None" : std::string(type_name(kind)) + " object";
}

/// Numbers compare across types without rounding an integer to a double.
int compare_numbers(const Value& a, const Value& b, bool& ordered) {
  ordered = true;
  if (a.is_integral() && b.is_integral())
    return a.integer() < b.integer() ? -1 : int(a.integer() > b.integer());
  if (a.is(Kind::kFloat) && b.is(Kind::kFloat)) {
    ordered = !std::isnan(a.real()) && !std::isnan(b.real());
    return a.real() < b.real() ? -1 : int(a.real() > b.real());
  }
  if (a.is(Kind::kFloat)) return -compare_numbers(b, a, ordered);
  const double x = b.real();
  ordered = !std::isnan(x);
  if (x >= 0x1p63) return -1;
  if (x < -0x1p63) return 1;
  const int64_t whole = int64_t(x);
  if (a.integer() != whole) return a.integer() < whole ? -1 : 1;
  return x > double(whole) ? -1 : int(x < double(whole));
}

/// Counts nesting while values are walked.
struct Nesting {
  explicit Nesting(int& depth) : depth_(depth) {
    if (++depth_ > kMaxNesting) throw Failure("a value is nested too deeply");
  }
  ~Nesting() { --depth_; }
  int& depth_;
};

class Printer {
 public:
  explicit Printer(Heap& heap) : heap_(heap) {}

  void print(const Value& value) {
    heap_.work(1);
    const Nesting nesting(depth_);
    switch (value.kind()) {
      case Kind::kString:
        return string(value);
      case Kind::kList:
        return sequence("[", value.as<List>().items, "]");
      case Kind::kTuple:
        return sequence("(", value.as<List>().items, value.as<List>().items.size() == 1 ? ",)" : ")");
      case Kind::kDict:
        return dict(value.as<Dict>());
      case Kind::kView:
        return view(value.as<View>());
      case Kind::kNamespace:
        add("<Namespace ");
        dict(value.as<Namespace>().attributes);
        return add(">");
      default:
        return add(simple(value));
    }
  }
  std::string take() { return std::move(out_); }

  static std::string simple(const Value& value) {
    switch (value.kind()) {
      case Kind::kUndefined:
        return "Undefined";
      case Kind::kNone:
        return "None";
      case Kind::kBool:
        return value.integer() != 0 ? "True" : "False";
      case Kind::kInt:
        return std::to_string(value.integer());
      case Kind::kFloat:
        return repr_float(value.real());
      case Kind::kRange: {
        const Range& range = value.as<Range>();
        const std::string step = range.step == 1 ? "" : ", " + std::to_string(range.step);
        return "range(" + std::to_string(range.start) + ", " + std::to_string(range.stop) + step + ")";
      }
      case Kind::kMacro:
        return value.as<Macro>().repr();
      default:
        throw Failure("printing a '" + std::string(type_name(value.kind())) + "' object is not supported");
    }
  }

 private:
  void add(std::string_view text) {
    heap_.scan(text.size());
    if (out_.size() + text.size() > kMaxText) throw Failure("the text of a value is too long");
    out_ += text;
  }
  void string(const Value& value) {
    heap_.scan(value.text().size());
    add(value.is_markup() ? "Markup(" + text::quote(value.text()) + ")" : text::quote(value.text()));
  }
  void sequence(std::string_view open, const std::vector<Value>& items, std::string_view close) {
    add(open);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) add(", ");
      print(items[i]);
    }
    add(close);
  }
  void pair(const Value& key, std::string_view between, const Value& value) {
    print(key);
    add(between);
    print(value);
  }
  void dict(const Dict& dict) {
    add("{");
    for (size_t i = 0; i < dict.items.size(); ++i) {
      if (i > 0) add(", ");
      pair(dict.items[i].first, ": ", dict.items[i].second);
    }
    add("}");
  }
  void view(const View& view) {
    add(view.part == View::Part::kKeys     ? "dict_keys(["
        : view.part == View::Part::kValues ? "dict_values(["
                                           : "dict_items([");
    for (size_t i = 0; i < view.dict->items.size(); ++i) {
      const auto& [key, value] = view.dict->items[i];
      if (i > 0) add(", ");
      if (view.part == View::Part::kItems) {
        add("(");
        pair(key, ", ", value);
        add(")");
      } else {
        print(view.part == View::Part::kKeys ? key : value);
      }
    }
    add("])");
  }

  Heap& heap_;
  std::string out_;
  int depth_ = 0;
};

bool equal_at(Heap& heap, const Value& a, const Value& b, int depth);

bool equal_sequences(Heap& heap, const std::vector<Value>& a, const std::vector<Value>& b, int depth) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(),
                    [&](const Value& x, const Value& y) { return equal_at(heap, x, y, depth); });
}

/// Keys are equal as sets; the other views only to themselves, which no two expressions give.
bool equal_views(Heap& heap, const View& a, const View& b) {
  if (a.part != b.part || a.part == View::Part::kValues) return &a == &b;
  if (a.part == View::Part::kItems)
    return equal(heap, Value::object(Kind::kDict, const_cast<Dict*>(a.dict)),
                 Value::object(Kind::kDict, const_cast<Dict*>(b.dict)));
  return a.dict->items.size() == b.dict->items.size() &&
         std::all_of(a.dict->items.begin(), a.dict->items.end(),
                     [&](const auto& item) { return b.dict->find(heap, item.first) != nullptr; });
}

bool equal_at(Heap& heap, const Value& a, const Value& b, int depth) {
  if (depth > kMaxNesting) throw Failure("a value is nested too deeply");
  heap.work(1);
  if (a.is_number() && b.is_number()) {
    bool ordered = false;
    return compare_numbers(a, b, ordered) == 0 && ordered;
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kNone:
    case Kind::kMissing:
    case Kind::kUndefined:
      return true;
    case Kind::kString:
      heap.scan(std::min(a.text().size(), b.text().size()));
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple:
      return equal_sequences(heap, a.as<List>().items, b.as<List>().items, depth + 1);
    case Kind::kDict: {
      const Dict &x = a.as<Dict>(), &y = b.as<Dict>();
      return x.items.size() == y.items.size() &&
             std::all_of(x.items.begin(), x.items.end(), [&](const auto& item) {
               const Value* other = y.find(heap, item.first);
               return other != nullptr && equal_at(heap, item.second, *other, depth + 1);
             });
    }
    case Kind::kRange: {
      const Range &x = a.as<Range>(), &y = b.as<Range>();
      const int64_t n = x.size();
      return n == y.size() && (n == 0 || (x.start == y.start && (n == 1 || x.step == y.step)));
    }
    case Kind::kView:
      return equal_views(heap, a.as<View>(), b.as<View>());
    case Kind::kMethod:
      return a.as<Method>().entry == b.as<Method>().entry &&
             a.as<Method>().self.object() == b.as<Method>().self.object();
    default:
      return a.object() == b.object();
  }
}

/// Whether a < b, or a <= b where `or_equal`.
bool order(Heap& heap, const Value& a, const Value& b, bool or_equal, int depth) {
  if (depth > kMaxNesting) throw Failure("a value is nested too deeply");
  heap.work(1);
  if (a.is_number() && b.is_number()) {
    bool ordered = false;
    const int c = compare_numbers(a, b, ordered);
    return ordered && (or_equal ? c <= 0 : c < 0);
  }
  if (a.is_string() && b.is_string()) {  // UTF-8 sorts by bytes as it does by code points
    heap.scan(std::min(a.text().size(), b.text().size()));
    return or_equal ? a.text() <= b.text() : a.text() < b.text();
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    const auto &x = a.as<List>().items, &y = b.as<List>().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i)
      if (!equal_at(heap, x[i], y[i], depth + 1)) return order(heap, x[i], y[i], or_equal, depth + 1);
    return or_equal ? x.size() <= y.size() : x.size() < y.size();
  }
  if (a.is_undefined() || b.is_undefined()) throw Failure(undefined_message(a.is_undefined() ? a : b));
  if (a.is(Kind::kView) && b.is(Kind::kView)) throw Failure("sets are not supported");
  throw Failure(std::string("'") + (or_equal ? "<=" : "<") + "' not supported between instances of '" +
                std::string(type_name(a.kind())) + "' and '" + std::string(type_name(b.kind())) + "'");
}

size_t hash_at(Heap& heap, const Value& value, int depth) {
  if (depth > kMaxNesting) throw Failure("a value is nested too deeply");
  heap.work(1);
  switch (value.kind()) {
    case Kind::kString:
      heap.scan(value.text().size());
      return std::hash<std::string_view>()(value.text());
    case Kind::kBool:
    case Kind::kInt:
      return std::hash<double>()(double(value.integer()));
    case Kind::kFloat:
      return std::hash<double>()(value.real());
    case Kind::kNone:
    case Kind::kMissing:
    case Kind::kUndefined:
      return size_t(value.kind());
    case Kind::kTuple: {
      size_t h = 17;
      for (const Value& item : value.as<List>().items) h = h * 1000003 + hash_at(heap, item, depth + 1);
      return h;
    }
    case Kind::kView:
      if (value.as<View>().part == View::Part::kValues) return std::hash<const void*>()(value.object());
      [[fallthrough]];
    case Kind::kList:
    case Kind::kDict:
      throw Failure("unhashable type: '" + std::string(type_name(value.kind())) + "'");
    default:
      return std::hash<const void*>()(value.object());
  }
}

}  // namespace

Value Value::boolean(bool b) {
  Value v(Kind::kBool);
  v.bool_ = b;
  return v;
}
Value Value::integer(int64_t i) {
  Value v(Kind::kInt);
  v.int_ = i;
  return v;
}
Value Value::real(double d) {
  Value v(Kind::kFloat);
  v.real_ = d;
  return v;
}
Value Value::text(std::string_view s, bool markup) {
  Value v(Kind::kString);
  v.flag_ = markup ? 1 : 0;
  v.text_ = s.data();
  v.size_ = s.size();
  return v;
}
Value Value::object(Kind kind, Object* object) {
  Value v(kind);
  v.object_ = object;
  return v;
}
Value Value::undefined(Absent why, std::string_view text, Kind of) {
  Value v(Kind::kUndefined);
  v.flag_ = uint8_t(why);
  v.of_ = of;
  v.text_ = text.data();
  v.size_ = text.size();
  return v;
}

size_t Dict::locate(Heap& heap, const Value& key, size_t h) const {
  if (index_.empty()) {
    for (size_t i = 0; i < items.size(); ++i)
      if (equal(heap, items[i].first, key)) return i;
    return items.size();
  }
  const auto [begin, end] = index_.equal_range(h);
  for (auto it = begin; it != end; ++it)
    if (equal(heap, items[it->second].first, key)) return it->second;
  return items.size();
}

const Value* Dict::find(Heap& heap, const Value& key) const {
  const size_t at = locate(heap, key, hash(heap, key));
  return at < items.size() ? &items[at].second : nullptr;
}

void Dict::set(Heap& heap, const Value& key, const Value& value) {
  const size_t h = hash(heap, key), at = locate(heap, key, h);
  if (at < items.size()) {
    items[at].second = value;
    return;
  }
  heap.reserve(2 * sizeof(Value) + 32);
  items.emplace_back(key, value);
  if (!index_.empty()) {
    index_.emplace(h, at);
  } else if (items.size() > kLinearSearch) {
    for (size_t i = 0; i < items.size(); ++i) index_.emplace(hash(heap, items[i].first), i);
  }
}

int64_t Range::size() const {
  if (step > 0 ? start >= stop : start <= stop) return 0;
  const uint64_t span = step > 0 ? uint64_t(stop) - uint64_t(start) : uint64_t(start) - uint64_t(stop);
  const uint64_t stride = step > 0 ? uint64_t(step) : uint64_t(0) - uint64_t(step);
  return int64_t(std::min<uint64_t>((span - 1) / stride + 1, INT64_MAX));
}

void Heap::require(uint64_t bytes) const {
  if (bytes > uint64_t(memory_)) throw Failure("the template needs more memory than the limit allows");
}

void Heap::reserve(uint64_t bytes) {
  require(bytes);
  memory_ -= int64_t(bytes);
}

void Heap::fail_work() {
  throw Failure("the template does more work than the limit allows; does it loop without end?");
}

Value Heap::sequence(Kind kind, std::vector<Value> items) {
  reserve(items.size() * sizeof(Value));
  work(int64_t(items.size()));
  List* made = make<List>();
  made->items = std::move(items);
  return Value::object(kind, made);
}

char* Heap::allocate(size_t bytes) {
  reserve(bytes);
  work(int64_t(bytes / 16));
  if (bytes > room_) {
    room_ = std::max(bytes, std::min(kChunk << std::min<size_t>(chunks_.size(), 8), size_t(memory_) + bytes));
    chunks_.push_back(std::make_unique_for_overwrite<char[]>(room_));
    free_ = chunks_.back().get();
  }
  char* begin = free_;
  free_ += bytes;
  room_ -= bytes;
  return begin;
}

std::string_view Heap::store(std::string_view bytes) {
  if (bytes.empty()) return {};
  char* copy = allocate(bytes.size());
  std::memcpy(copy, bytes.data(), bytes.size());
  return {copy, bytes.size()};
}

std::string_view Heap::concat(std::string_view left, std::string_view right) {
  if (right.empty()) return left;
  if (left.empty()) return right;
  const bool last = left.data() + left.size() == free_ && right.size() <= room_;
  if (last) {
    std::memcpy(allocate(right.size()), right.data(), right.size());
    return {left.data(), left.size() + right.size()};
  }
  char* copy = allocate(left.size() + right.size());
  std::memcpy(copy, left.data(), left.size());
  std::memcpy(copy + left.size(), right.data(), right.size());
  return {copy, left.size() + right.size()};
}

std::string_view type_name(Kind kind) {
  switch (kind) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kView:
      return "dict view";
    case Kind::kRange:
      return "range";
    case Kind::kIterator:
      return "generator";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kMacro:
      return "Macro";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kFunction:
      return "function";
    case Kind::kMethod:
      return "method";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
  }
  return "?";
}

std::string undefined_message(const Value& value) {
  const std::string name(value.text());
  switch (value.why()) {
    case Absent::kName:
      return text::quote(name) + " is undefined";
    case Absent::kAttribute:
      return text::quote(object_name(value.of())) + " has no attribute " + text::quote(name);
    case Absent::kElement:
      return object_name(value.of()) + " has no element " + name;
    case Absent::kHint:
      return name;
    case Absent::kUnsafe:
      return "access to attribute " + text::quote(name) + " of '" + std::string(type_name(value.of())) +
             "' object is unsafe.";
  }
  return name;
}

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.real() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !value.as<List>().items.empty();
    case Kind::kDict:
      return !value.as<Dict>().items.empty();
    case Kind::kView:
      return !value.as<View>().dict->items.empty();
    case Kind::kRange:
      return value.as<Range>().size() > 0;
    default:
      return true;
  }
}

std::string to_string(Heap& heap, const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_string()) return std::string(value.text());
  return repr(heap, value);
}

std::string repr(Heap& heap, const Value& value) {
  Printer printer(heap);
  printer.print(value);
  return printer.take();
}

std::string repr_float(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x < 0 ? "-inf" : "inf";
  // The shortest digits that read back as x, laid out as Python's float_repr_style "short".
  std::array<char, 40> buffer;
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), x, std::chars_format::scientific).ptr;
  const std::string_view text(buffer.data(), size_t(end - buffer.data()));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  const std::string sign = text[0] == '-' ? "-" : "";
  std::string digits(text.substr(sign.size(), e - sign.size()));
  std::erase(digits, '.');
  if (exponent < -4 || exponent >= 16) {
    std::string mantissa = digits.substr(0, 1);
    if (digits.size() > 1) mantissa.append(1, '.').append(digits, 1);
    const std::string power = std::to_string(std::abs(exponent));
    return sign + mantissa + (exponent < 0 ? "e-" : "e+") + (power.size() < 2 ? "0" + power : power);
  }
  if (exponent < 0) return sign + "0." + std::string(size_t(-exponent - 1), '0') + digits;
  const size_t whole = size_t(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

bool equal(Heap& heap, const Value& a, const Value& b) { return equal_at(heap, a, b, 0); }
bool less(Heap& heap, const Value& a, const Value& b) { return order(heap, a, b, false, 0); }
bool less_equal(Heap& heap, const Value& a, const Value& b) { return order(heap, a, b, true, 0); }
size_t hash(Heap& heap, const Value& value) { return hash_at(heap, value, 0); }

}  // namespace stamp::jinja
