#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "models/jinja/builtins.h"
#include "models/utf8.h"

namespace stamp::jinja {
namespace {

/// json.dumps of Python.
class Writer {
 public:
  Writer(Interpreter& in, const JsonOptions& options) : in_(in), options_(options) {}

  void write(const Value& value) {
    in_.heap().work(1);
    switch (value.kind()) {
      case Kind::kNone:
        return add("null");
      case Kind::kBool:
        return add(value.integer() != 0 ? "true" : "false");
      case Kind::kInt:
        return add(std::to_string(value.integer()));
      case Kind::kFloat:
        return add(number(value.real()));
      case Kind::kString:
        return string(value.text());
      case Kind::kList:
      case Kind::kTuple: {
        const auto& items = value.as<List>().items;
        return container('[', ']', items.size(), [&](size_t i) { write(items[i]); });
      }
      case Kind::kDict:
        return dict(value.as<Dict>());
      default:
        throw Failure("Object of type " + std::string(type_name(value.kind())) + " is not JSON serializable");
    }
  }
  std::string take() { return std::move(out_); }

 private:
  void add(std::string_view text) { append(in_, out_, text); }
  static std::string number(double x) {
    return std::isnan(x) ? "NaN" : std::isinf(x) ? (x < 0 ? "-Infinity" : "Infinity") : repr_float(x);
  }
  void new_line() {
    add("\n");
    for (int i = 0; i < depth_; ++i) add(*options_.indent);
  }

  template <class Item>
  void container(char open, char close, size_t size, Item item) {
    out_ += open;
    if (++depth_ > kMaxNesting) throw Failure("a value is nested too deeply");
    for (size_t i = 0; i < size; ++i) {
      if (i > 0) add(options_.item_separator);
      if (options_.indent) new_line();
      item(i);
    }
    --depth_;
    if (options_.indent && size > 0) new_line();
    out_ += close;
  }

  void dict(const Dict& dict) {
    in_.heap().require(options_.sort_keys ? dict.items.size() * 2 * sizeof(Value) : 0);
    std::vector<std::pair<Value, Value>> sorted(options_.sort_keys ? dict.items
                                                                   : std::vector<std::pair<Value, Value>>());
    const auto& items = options_.sort_keys ? sorted : dict.items;
    if (options_.sort_keys)
      std::stable_sort(sorted.begin(), sorted.end(),
                       [&](const auto& a, const auto& b) { return less(in_.heap(), a.first, b.first); });
    container('{', '}', items.size(), [&](size_t i) {
      key(items[i].first);
      add(options_.key_separator);
      write(items[i].second);
    });
  }
  void key(const Value& value) {
    if (value.is_string()) return string(value.text());
    switch (value.kind()) {
      case Kind::kNone:
        return add("\"null\"");
      case Kind::kBool:
        return add(value.integer() != 0 ? "\"true\"" : "\"false\"");
      case Kind::kInt:
        return string(std::to_string(value.integer()));
      case Kind::kFloat:
        return string(number(value.real()));
      default:
        throw Failure("keys must be str, int, float, bool or None, not " +
                      std::string(type_name(value.kind())));
    }
  }

  void string(std::string_view s) {
    add("\"");
    size_t plain = 0;
    for (size_t at = 0; at < s.size();) {
      const size_t begin = at;
      const char32_t c = next_code_point(s, at);
      const bool escapes = c < 0x20 || c == '"' || c == '\\' || (options_.ensure_ascii && c > 0x7e);
      if (!escapes) continue;
      add(s.substr(plain, begin - plain));
      add(escaped(c));
      plain = at;
    }
    add(s.substr(plain));
    add("\"");
  }
  static std::string escaped(char32_t c) {
    static constexpr std::string_view kPlain = "\"\\\n\r\t\f\b", kLetter = "\"\\nrtfb";
    if (c < 0x80)
      if (const size_t i = kPlain.find(char(c)); i != std::string_view::npos) return {'\\', kLetter[i]};
    std::array<char, 16> buffer;
    if (c < 0x10000) std::snprintf(buffer.data(), buffer.size(), "\\u%04x", unsigned(c));
    else
      std::snprintf(buffer.data(), buffer.size(), "\\u%04x\\u%04x", unsigned(0xd800 + ((c - 0x10000) >> 10)),
                    unsigned(0xdc00 + ((c - 0x10000) & 0x3ff)));
    return buffer.data();
  }

  Interpreter& in_;
  const JsonOptions& options_;
  std::string out_;
  int depth_ = 0;
};

}  // namespace

std::string to_json(Interpreter& in, const Value& value, const JsonOptions& options) {
  Writer writer(in, options);
  writer.write(value);
  return writer.take();
}

}  // namespace stamp::jinja
