#include <algorithm>
#include <array>
#include <initializer_list>

#include "models/jinja/ast.h"
#include "models/jinja/lexer.h"

namespace stamp::jinja {
namespace {

using Type = Token::Type;
using Names = std::initializer_list<std::string_view>;

// CPython refuses 200 nested parentheses in what jinja2 generates, and 100 levels of indentation.
constexpr int kMaxExprDepth = 200;
constexpr int kMaxBlockDepth = 100;
constexpr size_t kMaxNamed = 1000;  // parameters of a macro, keyword arguments of a call

bool contains(Names names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Recursive descent over the tokens, production by production as jinja2's parser.
class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Body run() {
    Body body = statements({});
    if (peek().type != Type::kEnd) fail("unexpected " + describe(peek()));
    return body;
  }

 private:
  // Tokens
  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& next() {
    const Token& token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool skip_name(std::string_view name) { return peek().is_name(name) && (next(), true); }
  bool skip_operator(std::string_view op) { return peek().is_operator(op) && (next(), true); }
  [[noreturn]] void fail(const std::string& message) const { throw SyntaxError(message, peek().line); }
  [[noreturn]] void fail_expected(std::string_view what) const {
    if (peek().type == Type::kEnd) fail("unexpected end of template, expected '" + std::string(what) + "'");
    fail("expected token '" + std::string(what) + "', got '" + describe(peek()) + "'");
  }
  void expect_operator(std::string_view op) {
    if (!skip_operator(op)) fail_expected(op);
  }
  void expect_name(std::string_view name) {
    if (!skip_name(name)) fail_expected(name);
  }
  std::string expect_any_name() {
    if (peek().type != Type::kName) fail_expected("name");
    return next().text;
  }
  void expect(Type type, std::string_view what) {
    if (peek().type != type) fail_expected(what);
    next();
  }

  struct Nested {  // counts how deep the descent is
    Nested(int& depth, int most, const Parser& parser) : depth_(depth) {
      if (++depth_ > most) parser.fail("nested too deeply");
    }
    ~Nested() { --depth_; }
    int& depth_;
  };

  // Expressions
  static ExprPtr make(Op op, int line) { return std::make_unique<Expr>(op, line); }
  template <class... Items>
  ExprPtr node(Op op, int line, Items... items) {
    ExprPtr expr = make(op, line);
    (expr->items.push_back(std::move(items)), ...);
    return expr;
  }

  ExprPtr expression(bool conditional = true) {
    const Nested nested(expr_depth_, kMaxExprDepth, *this);
    return conditional ? condition() : parse_or();
  }

  ExprPtr condition() {
    int line = peek().line;
    ExprPtr value = parse_or();
    for (int chain = 0; skip_name("if"); ++chain) {
      if (chain > kMaxExprDepth) fail("nested too deeply");
      ExprPtr test = parse_or();
      ExprPtr other;
      if (skip_name("else")) {
        const Nested nested(expr_depth_, kMaxExprDepth, *this);
        other = condition();
      }
      value = node(Op::kCond, line, std::move(test), std::move(value), std::move(other));
      line = peek().line;
    }
    return value;
  }

  /// operand (op operand)*, grouping to the left.
  template <class Operand>
  ExprPtr chain(Operand operand, std::initializer_list<std::pair<std::string_view, Op>> ops,
                bool words = false) {
    int line = peek().line;
    ExprPtr left = (this->*operand)();
    for (int length = 0;; ++length) {
      const auto op = std::find_if(ops.begin(), ops.end(), [&](const auto& o) {
        return words ? peek().is_name(o.first) : peek().is_operator(o.first);
      });
      if (op == ops.end()) return left;
      if (length > kMaxExprDepth) fail("nested too deeply");
      next();
      left = node(op->second, line, std::move(left), (this->*operand)());
      line = peek().line;
    }
  }
  ExprPtr parse_or() { return chain(&Parser::parse_and, {{"or", Op::kOr}}, true); }
  ExprPtr parse_and() { return chain(&Parser::parse_not, {{"and", Op::kAnd}}, true); }
  ExprPtr parse_not() {
    const int line = peek().line;
    if (!skip_name("not")) return comparison();
    const Nested nested(expr_depth_, kMaxExprDepth, *this);
    return node(Op::kNot, line, parse_not());
  }

  ExprPtr comparison() {
    static constexpr std::pair<std::string_view, Comparison> kComparisons[] = {
        {"==", Comparison::kEqual},     {"!=", Comparison::kNotEqual}, {"<", Comparison::kLess},
        {"<=", Comparison::kLessEqual}, {">", Comparison::kGreater},   {">=", Comparison::kGreaterEqual}};
    const int line = peek().line;
    ExprPtr first = sum();
    ExprPtr all;
    while (true) {
      const auto op = std::find_if(std::begin(kComparisons), std::end(kComparisons),
                                   [&](const auto& c) { return peek().is_operator(c.first); });
      Comparison comparison;
      if (op != std::end(kComparisons)) {
        comparison = op->second;
        next();
      } else if (skip_name("in")) {
        comparison = Comparison::kIn;
      } else if (peek().is_name("not") && peek(1).is_name("in")) {
        next(), next();
        comparison = Comparison::kNotIn;
      } else {
        return all != nullptr ? std::move(all) : std::move(first);
      }
      if (all == nullptr) all = node(Op::kCompare, line, std::move(first));
      all->items.push_back(sum());
      all->compares.push_back(comparison);
    }
  }

  ExprPtr sum() { return chain(&Parser::concat, {{"+", Op::kAdd}, {"-", Op::kSub}}); }
  ExprPtr concat() {
    const int line = peek().line;
    ExprPtr first = product();
    if (!peek().is_operator("~")) return first;
    ExprPtr all = node(Op::kConcat, line, std::move(first));
    while (skip_operator("~")) all->items.push_back(product());
    return all;
  }
  ExprPtr product() {
    return chain(&Parser::power, {{"*", Op::kMul}, {"/", Op::kDiv}, {"//", Op::kFloorDiv}, {"%", Op::kMod}});
  }
  ExprPtr power() { return chain(&Parser::unary_filtered, {{"**", Op::kPow}}); }
  ExprPtr unary_filtered() { return unary(true); }

  ExprPtr unary(bool with_filter) {
    const int line = peek().line;
    ExprPtr value;
    if (peek().is_operator("-") || peek().is_operator("+")) {
      const Nested nested(expr_depth_, kMaxExprDepth, *this);
      const Op op = next().text == "-" ? Op::kNeg : Op::kPos;
      value = node(op, line, unary(false));
    } else {
      value = primary(false);
    }
    value = postfix(std::move(value));
    return with_filter ? filters_and_tests(std::move(value)) : std::move(value);
  }

  ExprPtr constant(Value value, int line) {
    ExprPtr expr = make(Op::kConst, line);
    expr->value = value;
    return expr;
  }

  ExprPtr primary(bool with_namespace) {
    const Token& token = peek();
    switch (token.type) {
      case Type::kName: {
        next();
        const std::string& name = token.text;
        if (contains({"true", "false", "True", "False"}, name))
          return constant(Value::boolean(name == "true" || name == "True"), token.line);
        if (name == "none" || name == "None") return constant(Value(), token.line);
        ExprPtr expr = make(Op::kName, token.line);
        expr->name = name;
        if (with_namespace && skip_operator(".")) {
          expr->op = Op::kNsRef;
          expr->text = expect_any_name();
        }
        return expr;
      }
      case Type::kString: {
        ExprPtr expr = make(Op::kConst, token.line);
        while (peek().type == Type::kString) expr->text += next().text;
        expr->value = Value::text(expr->text);
        return expr;
      }
      case Type::kInteger:
        next();
        return constant(Value::integer(token.integer), token.line);
      case Type::kFloat:
        next();
        return constant(Value::real(token.real), token.line);
      default:
        break;
    }
    if (skip_operator("(")) {
      ExprPtr expr = tuple(true, {}, true);
      expect_operator(")");
      return expr;
    }
    if (skip_operator("[")) return items_until("]", make(Op::kList, token.line), false);
    if (skip_operator("{")) return items_until("}", make(Op::kDict, token.line), true);
    fail(token.type == Type::kEnd ? "unexpected end of template" : "unexpected '" + describe(token) + "'");
  }

  ExprPtr items_until(std::string_view close, ExprPtr expr, bool pairs) {
    while (!peek().is_operator(close)) {
      if (!expr->items.empty()) expect_operator(",");
      if (peek().is_operator(close)) break;
      expr->items.push_back(expression());
      if (!pairs) continue;
      expect_operator(":");
      expr->items.push_back(expression());
    }
    next();
    return expr;
  }

  bool at_tuple_end(Names end_names) const {
    return peek().type == Type::kVariableEnd || peek().type == Type::kBlockEnd || peek().is_operator(")") ||
           (peek().type == Type::kName && contains(end_names, peek().text));
  }
  /// One expression, or several with commas, which make a tuple.
  ExprPtr tuple(bool conditional = true, Names end_names = {}, bool parentheses = false, bool target = false,
                bool with_namespace = false) {
    const Nested nested(expr_depth_, kMaxExprDepth, *this);
    const int line = peek().line;
    std::vector<ExprPtr> items;
    bool is_tuple = false;
    while (true) {
      if (!items.empty()) expect_operator(",");
      if (at_tuple_end(end_names)) break;
      items.push_back(target ? primary(with_namespace) : expression(conditional));
      if (!peek().is_operator(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !items.empty()) return std::move(items.front());
    if (!is_tuple && !parentheses) fail("Expected an expression, got '" + describe(peek()) + "'");
    ExprPtr expr = make(Op::kTuple, line);
    expr->items = std::move(items);
    return expr;
  }

  ExprPtr postfix(ExprPtr expr) {
    for (int length = 0;; ++length) {
      if (length > kMaxExprDepth) fail("nested too deeply");
      if (peek().is_operator(".") || peek().is_operator("[")) expr = subscript(std::move(expr));
      else if (peek().is_operator("(")) expr = call(std::move(expr));
      else return expr;
    }
  }
  ExprPtr filters_and_tests(ExprPtr expr) {
    for (int length = 0;; ++length) {
      if (length > kMaxExprDepth) fail("nested too deeply");
      if (peek().is_operator("|")) expr = filter(std::move(expr));
      else if (peek().is_name("is")) expr = test(std::move(expr));
      else if (peek().is_operator("(")) expr = call(std::move(expr));
      else return expr;
    }
  }

  ExprPtr subscript(ExprPtr object) {
    const int line = peek().line;
    if (skip_operator(".")) {
      const Token& token = next();
      if (token.type == Type::kName) {
        ExprPtr expr = node(Op::kGetattr, line, std::move(object));
        expr->name = token.text;
        return expr;
      }
      if (token.type != Type::kInteger) throw SyntaxError("expected name or number", token.line);
      return node(Op::kGetitem, line, std::move(object), constant(Value::integer(token.integer), token.line));
    }
    expect_operator("[");
    std::vector<ExprPtr> indices;
    bool slice = false;
    ExprPtr bounds[3];
    while (!peek().is_operator("]")) {
      if (!indices.empty() || slice) expect_operator(",");
      if (slice) fail("a slice among several indices is not supported");
      slice = subscribed(indices, bounds);
    }
    if (slice && !indices.empty()) fail("a slice among several indices is not supported");
    next();
    if (slice)
      return node(Op::kSlice, line, std::move(object), std::move(bounds[0]), std::move(bounds[1]),
                  std::move(bounds[2]));
    if (indices.size() == 1) return node(Op::kGetitem, line, std::move(object), std::move(indices.front()));
    ExprPtr key = make(Op::kTuple, line);
    key->items = std::move(indices);
    return node(Op::kGetitem, line, std::move(object), std::move(key));
  }
  /// An index, or a slice, which goes to `bounds`; true for a slice.
  bool subscribed(std::vector<ExprPtr>& indices, ExprPtr (&bounds)[3]) {
    const auto at_end = [&] {
      return peek().is_operator("]") || peek().is_operator(",") || peek().is_operator(":");
    };
    ExprPtr first;
    if (!peek().is_operator(":")) {
      first = expression();
      if (!peek().is_operator(":")) {
        indices.push_back(std::move(first));
        return false;
      }
    }
    bounds[0] = std::move(first);
    for (int i = 1; i < 3 && skip_operator(":"); ++i)
      if (!at_end()) bounds[i] = expression();
    return true;
  }

  std::unique_ptr<Arguments> arguments() {
    const int line = peek().line;
    auto args = std::make_unique<Arguments>();
    const auto ensure = [&](bool valid) {
      if (!valid) throw SyntaxError("invalid syntax for function call expression", line);
    };
    expect_operator("(");
    for (bool first = true; !peek().is_operator(")"); first = false) {
      if (!first) {
        expect_operator(",");
        if (peek().is_operator(")")) break;
      }
      if (skip_operator("*")) {
        ensure(args->star == nullptr && args->star_star == nullptr);
        args->star = expression();
      } else if (skip_operator("**")) {
        ensure(args->star_star == nullptr);
        args->star_star = expression();
      } else if (peek().type == Type::kName && peek(1).is_operator("=")) {
        ensure(args->star_star == nullptr);
        std::string name = next().text;
        next();
        for (const auto& [known, value] : args->named)
          if (known == name) fail("keyword argument repeated: " + name);
        if (args->named.size() == kMaxNamed) fail("too many keyword arguments");
        args->named.emplace_back(std::move(name), expression());
      } else {
        ensure(args->star == nullptr && args->star_star == nullptr && args->named.empty());
        args->positional.push_back(expression());
      }
    }
    next();
    return args;
  }

  ExprPtr call(ExprPtr callee) {
    const int line = peek().line;
    ExprPtr expr = node(Op::kCall, line, std::move(callee));
    expr->args = arguments();
    return expr;
  }
  std::string dotted_name() {
    std::string name = expect_any_name();
    while (skip_operator(".")) name.append(1, '.').append(expect_any_name());
    return name;
  }
  /// One filter after the |; `input` is null in a filter block.
  ExprPtr one_filter(ExprPtr input) {
    const int line = peek().line;
    ExprPtr expr = node(Op::kFilter, line, std::move(input));
    expr->name = dotted_name();
    expr->args = peek().is_operator("(") ? arguments() : std::make_unique<Arguments>();
    return expr;
  }
  ExprPtr filter(ExprPtr input) {
    for (int length = 0; skip_operator("|"); ++length) {
      if (length > kMaxExprDepth) fail("nested too deeply");
      input = one_filter(std::move(input));
    }
    return input;
  }
  ExprPtr test(ExprPtr input) {
    const int line = next().line;
    const bool negated = skip_name("not");
    ExprPtr expr = node(Op::kTest, line, std::move(input));
    expr->name = dotted_name();
    const Token& token = peek();
    const bool literal = token.type == Type::kName || token.type == Type::kString ||
                         token.type == Type::kInteger || token.type == Type::kFloat ||
                         token.is_operator("[") || token.is_operator("{");
    if (token.is_operator("(")) {
      expr->args = arguments();
    } else {
      expr->args = std::make_unique<Arguments>();
      if (literal && !token.is_name("else") && !token.is_name("or") && !token.is_name("and")) {
        if (token.is_name("is")) fail("You cannot chain multiple tests with is");
        expr->args->positional.push_back(postfix(primary(false)));
      }
    }
    return negated ? node(Op::kNot, line, std::move(expr)) : std::move(expr);
  }

  // Statements
  void mark_store(Expr& target, bool parameter = false) {
    if (target.op == Op::kTuple) {
      for (const ExprPtr& item : target.items) mark_store(*item, parameter);
    } else if (target.op == Op::kName || target.op == Op::kNsRef) {
      target.store = true;
      target.parameter = parameter;
    } else {
      static constexpr std::pair<Op, const char*> kNames[] = {
          {Op::kConst, "const"}, {Op::kList, "list"}, {Op::kDict, "dict"}};
      const auto name =
          std::find_if(std::begin(kNames), std::end(kNames), [&](auto n) { return n.first == target.op; });
      throw SyntaxError(
          std::string("can't assign to '") + (name != std::end(kNames) ? name->second : "expression") + "'",
          target.line);
    }
  }
  ExprPtr assign_target(Names end_names = {}, bool with_namespace = false, bool parameter = false) {
    ExprPtr target = tuple(false, end_names, false, true, with_namespace);
    mark_store(*target, parameter);
    return target;
  }
  ExprPtr name_target() {
    ExprPtr target = make(Op::kName, peek().line);
    target->name = expect_any_name();
    target->store = target->parameter = true;
    if (contains({"true", "false", "none", "True", "False", "None"}, target->name))
      fail("can't assign to 'name'");
    return target;
  }

  /// Statements up to a tag of `end_tags`, which becomes the current token; up to the end if there are none.
  Body statements(Names end_tags) {
    Body body;
    while (peek().type != Type::kEnd) {
      const Token& token = next();
      if (token.type == Type::kData) {
        body.push_back(std::make_unique<Stmt>(StmtKind::kText, token.line));
        body.back()->text = token.text;
      } else if (token.type == Type::kVariableBegin) {
        body.push_back(std::make_unique<Stmt>(StmtKind::kOutput, peek().line));
        body.back()->exprs.push_back(tuple());
        expect(Type::kVariableEnd, "end of print statement");
      } else {
        if (peek().type == Type::kName && contains(end_tags, peek().text)) return body;
        body.push_back(statement(end_tags));
        expect(Type::kBlockEnd, "end of statement block");
      }
    }
    if (end_tags.size() > 0) fail("Unexpected end of template. Looking for " + list(end_tags) + innermost());
    return body;
  }
  Body block(Names end_tags) {
    skip_operator(":");
    expect(Type::kBlockEnd, "end of statement block");
    return statements(end_tags);
  }
  Body block_to_end(std::string_view end_tag) {
    Body body = block({end_tag});
    next();
    return body;
  }
  static std::string list(Names names) {
    std::string text;
    for (const auto name : names) text += (text.empty() ? "'" : " or '") + std::string(name) + "'";
    return text;
  }
  std::string innermost() const {
    return open_.empty() ? "" : "; the innermost block that needs to be closed is '" + open_.back() + "'";
  }

  std::unique_ptr<Stmt> statement(Names end_tags) {
    using Rule = void (Parser::*)(Stmt&);
    struct Tag {
      std::string_view name;
      StmtKind kind;
      Rule rule;
    };
    static constexpr Tag kTags[] = {{"for", StmtKind::kFor, &Parser::parse_for},
                                    {"if", StmtKind::kIf, &Parser::parse_if},
                                    {"set", StmtKind::kSet, &Parser::parse_set},
                                    {"macro", StmtKind::kMacro, &Parser::parse_macro},
                                    {"call", StmtKind::kCall, &Parser::parse_call},
                                    {"filter", StmtKind::kFilter, &Parser::parse_filter},
                                    {"with", StmtKind::kWith, &Parser::parse_with},
                                    {"print", StmtKind::kOutput, &Parser::parse_print},
                                    {"generation", StmtKind::kGeneration, &Parser::parse_generation},
                                    {"break", StmtKind::kBreak, nullptr},
                                    {"continue", StmtKind::kContinue, nullptr}};
    if (peek().type != Type::kName) fail("tag name expected");
    const std::string name = peek().text;
    const auto tag =
        std::find_if(std::begin(kTags), std::end(kTags), [&](const Tag& t) { return t.name == name; });
    if (tag == std::end(kTags)) {
      if (contains({"block", "extends", "include", "from", "import", "autoescape"}, name))
        fail("the tag '" + name + "' is not supported");
      fail("Encountered unknown tag '" + name + "'" +
           (end_tags.size() > 0 ? "; looking for " + list(end_tags) : "") + innermost());
    }
    auto stmt = std::make_unique<Stmt>(tag->kind, next().line);
    if (tag->rule == nullptr) return stmt;
    const Nested nested(block_depth_, kMaxBlockDepth, *this);
    open_.push_back(name);
    (this->*tag->rule)(*stmt);
    open_.pop_back();
    return stmt;
  }

  void parse_for(Stmt& stmt) {
    stmt.target = assign_target({"in"});
    expect_name("in");
    stmt.exprs.push_back(tuple(false, {"recursive"}));
    stmt.exprs.push_back(skip_name("if") ? expression() : nullptr);
    stmt.recursive = skip_name("recursive");
    stmt.bodies.push_back(block({"endfor", "else"}));
    if (next().text == "else") stmt.bodies.push_back(block_to_end("endfor"));
    else stmt.bodies.emplace_back();
  }
  void parse_if(Stmt& stmt) {
    while (true) {
      stmt.exprs.push_back(tuple(false));
      stmt.bodies.push_back(block({"elif", "else", "endif"}));
      const std::string& tag = next().text;
      if (tag == "else") stmt.bodies.push_back(block_to_end("endif"));
      if (tag != "elif") return;
    }
  }
  void parse_set(Stmt& stmt) {
    stmt.target = assign_target({}, true);
    if (skip_operator("=")) {
      stmt.exprs.push_back(tuple());
      return;
    }
    stmt.kind = StmtKind::kSetBlock;
    stmt.exprs.push_back(filter(nullptr));
    stmt.bodies.push_back(block_to_end("endset"));
  }
  void signature(Stmt& stmt) {
    std::vector<ExprPtr> defaults;
    expect_operator("(");
    while (!peek().is_operator(")")) {
      if (stmt.macro.parameters > 0) expect_operator(",");
      stmt.exprs.push_back(name_target());
      if (++stmt.macro.parameters > kMaxNamed) fail("too many parameters");
      for (size_t i = 0; i + 1 < stmt.exprs.size(); ++i)
        if (stmt.exprs[i]->store && stmt.exprs[i]->name == stmt.exprs.back()->name)
          fail("duplicate argument '" + stmt.exprs[i]->name + "' in the definition");
      if (skip_operator("=")) defaults.push_back(expression());
      else if (!defaults.empty()) fail("non-default argument follows default argument");
    }
    next();
    stmt.macro.defaults = defaults.size();
    for (ExprPtr& value : defaults) stmt.exprs.push_back(std::move(value));
  }
  void parse_macro(Stmt& stmt) {
    stmt.target = name_target();
    stmt.target->parameter = false;
    stmt.macro.name = stmt.target->name;
    signature(stmt);
    stmt.bodies.push_back(block_to_end("endmacro"));
  }
  void parse_call(Stmt& stmt) {
    if (peek().is_operator("(")) signature(stmt);
    const int line = peek().line;
    ExprPtr call = expression();
    if (call->op != Op::kCall) throw SyntaxError("expected call", line);
    stmt.exprs.insert(stmt.exprs.begin(), std::move(call));
    stmt.bodies.push_back(block_to_end("endcall"));
  }
  void parse_filter(Stmt& stmt) {
    stmt.exprs.push_back(filter(one_filter(nullptr)));
    stmt.bodies.push_back(block_to_end("endfilter"));
  }
  void parse_with(Stmt& stmt) {
    while (peek().type != Type::kBlockEnd) {
      if (!stmt.exprs.empty()) expect_operator(",");
      stmt.exprs.push_back(assign_target({}, false, true));
      expect_operator("=");
      stmt.exprs.push_back(expression());
    }
    stmt.bodies.push_back(block_to_end("endwith"));
  }
  void parse_print(Stmt& stmt) {
    while (peek().type != Type::kBlockEnd) {
      if (!stmt.exprs.empty()) expect_operator(",");
      stmt.exprs.push_back(expression());
    }
  }
  void parse_generation(Stmt& stmt) { stmt.bodies.push_back(block_to_end("endgeneration")); }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int expr_depth_ = 0, block_depth_ = 0;
  std::vector<std::string> open_;  // tags that are not closed yet
};

}  // namespace

std::unique_ptr<const Ast> parse(std::string_view source) {
  auto ast = std::make_unique<Ast>();
  ast->body = Parser(source).run();
  resolve(*ast);
  return ast;
}

}  // namespace stamp::jinja
