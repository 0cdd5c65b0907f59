#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "models/jinja/template.h"

namespace stamp::jinja {

/// What goes wrong while a template runs. Interpreter::run adds the file and the line.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Kind : uint8_t {
  kMissing,  // a variable without a value; no expression sees it
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kView,  // dict.keys(), .values(), .items()
  kRange,
  kIterator,  // a generator or iterator: its items can be taken once
  kNamespace,
  kMacro,
  kLoop,
  kFunction,
  kMethod,
  kCycler,
  kJoiner,
};

/// Why a value is undefined, for the message.
enum class Absent : uint8_t { kName, kAttribute, kElement, kHint, kUnsafe };

struct Object {
  virtual ~Object() = default;
};

/// A Python value. Trivial to copy: objects and text belong to the Heap, the syntax tree or the caller's
/// variables, which all outlive it. Only namespaces, iterators, loops, cyclers and joiners ever change.
class Value {
 public:
  Value() = default;  // None
  static Value missing() { return Value(Kind::kMissing); }
  static Value boolean(bool b);
  static Value integer(int64_t i);
  static Value real(double d);
  /// Valid UTF-8. `markup` is Python's Markup: what is added to it is escaped for HTML.
  static Value text(std::string_view s, bool markup = false);
  static Value object(Kind kind, Object* object);
  /// `text`: the name, or the whole message for kHint. `of`: the kind that lacks it.
  static Value undefined(Absent why, std::string_view text, Kind of = Kind::kNone);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_markup() const { return kind_ == Kind::kString && flag_ != 0; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }

  int64_t integer() const { return kind_ == Kind::kBool ? int64_t(bool_) : int_; }  // of a bool or an int
  double real() const { return kind_ == Kind::kFloat ? real_ : double(integer()); }
  std::string_view text() const { return {text_, size_}; }
  Object* object() const { return object_; }
  template <class T>
  T& as() const {
    return static_cast<T&>(*object_);
  }
  Absent why() const { return Absent(flag_); }
  Kind of() const { return of_; }

 private:
  explicit Value(Kind kind) : kind_(kind) {}
  Kind kind_ = Kind::kNone;
  uint8_t flag_ = 0;
  Kind of_ = Kind::kNone;
  union {
    bool bool_;
    int64_t int_ = 0;
    double real_;
    const char* text_;
    Object* object_;
  };
  size_t size_ = 0;
};

struct List : Object {  // a list or a tuple
  std::vector<Value> items;
  bool group = false;  // made by groupby: its two items have the names grouper and list
};

class Heap;

/// Keeps the order of insertion. Keys are equal as in Python: 1, 1.0 and true are one key.
struct Dict : Object {
  std::vector<std::pair<Value, Value>> items;

  /// Null if there is none. Throws Failure for a key that cannot be hashed.
  const Value* find(Heap& heap, const Value& key) const;
  const Value* find(Heap& heap, std::string_view key) const { return find(heap, Value::text(key)); }
  void set(Heap& heap, const Value& key, const Value& value);

 private:
  size_t locate(Heap& heap, const Value& key, size_t hash) const;
  std::unordered_multimap<size_t, size_t> index_;  // by hash, once there are more than a few items
};

struct View : Object {
  enum class Part { kKeys, kValues, kItems };
  View(const Dict* d, Part p) : dict(d), part(p) {}
  const Dict* dict;
  Part part;
};

struct Range : Object {
  Range(int64_t a, int64_t b, int64_t s) : start(a), stop(b), step(s) {}
  int64_t size() const;
  Value at(int64_t i) const { return Value::integer(start + i * step); }
  int64_t start, stop, step;
};

struct Iterator : Object {
  virtual bool next(Value& value) = 0;
};

struct Namespace : Object {
  Dict attributes;
};

struct Cycler : Object {
  std::vector<Value> items;
  size_t position = 0;
};

struct Joiner : Object {
  Value separator;
  bool used = false;
};

class Interpreter;
struct CallArguments;

struct Function : Object {
  Function(std::string_view n, Value (*c)(Interpreter&, CallArguments&)) : name(n), call(c) {}
  std::string_view name;
  Value (*call)(Interpreter&, CallArguments&);
};

struct MethodEntry {
  std::string_view name;
  Value (*call)(Interpreter&, const Value& self, CallArguments&);  // null: not supported
};

struct Method : Object {
  Method(const Value& s, const MethodEntry* e) : self(s), entry(e) {}
  Value self;
  const MethodEntry* entry;
};

/// Owns what a rendering makes, until it ends, and counts it and the work against the limits.
class Heap {
 public:
  explicit Heap(const Limits& limits) : work_(limits.work), memory_(limits.memory) {}

  void work(int64_t amount) {
    if ((work_ -= amount) < 0) fail_work();
  }
  /// Counts bytes that stay to the end. Throws Failure if they do not fit.
  void reserve(uint64_t bytes);
  /// Throws Failure if that many bytes would not fit: for what is made first and counted later, or soon gone.
  void require(uint64_t bytes) const;

  template <class T, class... Args>
  T* make(Args&&... args) {
    reserve(sizeof(T) + sizeof(void*));
    auto owned = std::make_unique<T>(std::forward<Args>(args)...);
    T* object = owned.get();
    objects_.push_back(std::move(owned));
    return object;
  }
  Value list(std::vector<Value> items) { return sequence(Kind::kList, std::move(items)); }
  Value tuple(std::vector<Value> items) { return sequence(Kind::kTuple, std::move(items)); }
  /// Work for text of that many bytes.
  void scan(size_t bytes) { work(1 + int64_t(bytes / 16)); }

  Value text(std::string_view bytes, bool markup = false) { return Value::text(store(bytes), markup); }
  std::string_view store(std::string_view bytes);
  /// left + right. If `left` is what was stored last, only `right` is copied: appending in a loop stays
  /// linear.
  std::string_view concat(std::string_view left, std::string_view right);

 private:
  Value sequence(Kind kind, std::vector<Value> items);
  char* allocate(size_t bytes);
  [[noreturn]] static void fail_work();

  int64_t work_, memory_;
  std::vector<std::unique_ptr<Object>> objects_;
  std::vector<std::unique_ptr<char[]>> chunks_;
  char* free_ = nullptr;
  size_t room_ = 0;
};

/// Deepest nesting that is printed, compared or serialised, and the longest text that is made at once.
inline constexpr int kMaxNesting = 200;
inline constexpr size_t kMaxText = size_t{64} << 20;

/// Python's name of the type: "str", "dict", "NoneType".
std::string_view type_name(Kind kind);
/// The message of jinja2's UndefinedError.
std::string undefined_message(const Value& value);
/// bool(value)
bool truth(const Value& value);
/// str(value) and repr(value). Throws Failure for what Python prints with an address.
std::string to_string(Heap& heap, const Value& value);
std::string repr(Heap& heap, const Value& value);
std::string repr_float(double x);
/// a == b
bool equal(Heap& heap, const Value& a, const Value& b);
/// a < b, a <= b. Throws Failure if Python cannot order them.
bool less(Heap& heap, const Value& a, const Value& b);
bool less_equal(Heap& heap, const Value& a, const Value& b);
/// Equal keys have equal hashes. Throws Failure for what cannot be hashed.
size_t hash(Heap& heap, const Value& value);

}  // namespace stamp::jinja
