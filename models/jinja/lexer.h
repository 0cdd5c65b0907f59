#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stamp::jinja {

struct Token {
  enum class Type {
    kData,
    kVariableBegin,
    kVariableEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd
  };
  Type type;
  int line;
  std::string text;  // the data, the name, the string's value or the operator
  int64_t integer = 0;
  double real = 0;

  bool is_name(std::string_view name) const { return type == Type::kName && text == name; }
  bool is_operator(std::string_view op) const { return type == Type::kOperator && text == op; }
};

/// Cuts a template into tokens, the last of which is kEnd: comments and raw blocks are resolved, white space
/// is trimmed by trim_blocks, lstrip_blocks and the signs - and +. `source` is valid UTF-8. Throws
/// SyntaxError.
std::vector<Token> tokenize(std::string_view source);

/// As messages name a token.
std::string describe(const Token& token);

}  // namespace stamp::jinja
