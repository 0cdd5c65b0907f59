#include "models/jinja/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "kernels/error.h"
#include "tests/temp_dir.h"

namespace stamp::jinja {
namespace {

using Json = nlohmann::ordered_json;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::string render(const std::string& source, const char* variables = "{}", const Limits& limits = {}) {
  return Template(source, "chat.jinja").render(Json::parse(variables), {}, limits);
}

std::string error_of(const std::string& source, const char* variables = "{}", const Limits& limits = {}) {
  try {
    return "rendered: " + render(source, variables, limits);
  } catch (const InputError& e) {
    return e.what();
  }
}

std::string times(const std::string& text, int n) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

TEST(Jinja, RendersVariables) {
  EXPECT_EQ(render("{{ a }} {{ b.c[1] }} {{ missing }}!", R"({"a": "é", "b": {"c": [1, 2.0]}})"), "é 2.0 !");
}

TEST(Jinja, ValuesPrintAsInPython) {
  const char* variables = R"({"v": [null, true, 1, 1.0, 1e16, 1e-5, "it's", "a\nb", {"k": []}]})";
  EXPECT_EQ(render("{{ v }}", variables), R"([None, True, 1, 1.0, 1e+16, 1e-05, "it's", 'a\nb', {'k': []}])");
  EXPECT_EQ(render("{{ v|tojson }}", variables),
            R"([null, true, 1, 1.0, 1e+16, 1e-05, "it's", "a\nb", {"k": []}])");
  EXPECT_EQ(render("{{ (1,) }}{{ range(3) }}{{ {'a': 1}.items() }}"),
            "(1,)range(0, 3)dict_items([('a', 1)])");
}

TEST(Jinja, KeysKeepTheirOrder) {
  EXPECT_EQ(render("{{ d|tojson }}{{ d|list }}", R"({"d": {"z": 1, "a": 2, "m": 3}})"),
            R"({"z": 1, "a": 2, "m": 3}['z', 'a', 'm'])");
}

TEST(Jinja, DictsOfManyKeysFindEachOne) {
  EXPECT_EQ(render("{% set d = {0: 'a', 1.0: 'b', true: 'c', '0': 'd'} %}{{ d[0] }}{{ d[1] }}{{ d['0'] }}{{ "
                   "d|length }}"),
            "acd3");
  std::string literal;
  for (int i = 0; i < 300; ++i)
    literal += (i > 0 ? ", " : "") + std::to_string(i) + ": " + std::to_string(2 * i);
  EXPECT_EQ(
      render("{% set d = {" + literal +
             "} %}{% for i in range(300) if d[i] != 2 * i %}{{ i }}{% endfor %}{{ d|length }}{{ 300 in d }}"),
      "300False");
}

TEST(Jinja, WhiteSpaceIsTrimmed) {
  EXPECT_EQ(render("a\n  {% if 1 %}\n  b\n  {% endif %}\nc\n"),
            "a\n  b\nc");  // trim_blocks and lstrip_blocks
  EXPECT_EQ(render("a\n  {%+ if 1 %}\n  b\n  {%+ endif +%}\nc"), "a\n    b\n  \nc");  // switched off by +
  EXPECT_EQ(render("a \n {%- if 1 -%} \n b {%- endif -%} \n c"), "abc");
  EXPECT_EQ(render("a {{- 1 -}} b {{ 2 }} c"), "a1b 2 c");
  EXPECT_EQ(render("a\n  {# c #}\nb {#- d -#} c"), "a\nbc");
  EXPECT_EQ(render("x {% if 1 %} y {% endif %} z"), "x  y  z");  // text before the tag keeps its spaces
  EXPECT_EQ(render("  {{ 1 }}\n\n"), "  1\n");                   // one line end is dropped at the end
  EXPECT_EQ(render("a\r\nb\rc\n"), "a\nb\nc");
  EXPECT_EQ(render("{% raw %}\n {{ x }} {% endraw %}\n y"), "\n {{ x }}  y");
}

TEST(Jinja, LoopsKnowTheirPlace) {
  EXPECT_EQ(render("{% for x in 'abc' %}{{ loop.index }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.previtem "
                   "}}{{ loop.nextitem }};{% endfor %}"),
            "12Trueb;21Falseac;30Falseb;");
  EXPECT_EQ(render("{% for x in [1, [2, [3]]] recursive %}{{ x if x is number else '(' ~ loop(x) ~ ')' }}{% "
                   "endfor %}"),
            "1(2(3))");
  EXPECT_EQ(render("{% for x in range(9) if x % 2 %}{% if x == 7 %}{% break %}{% endif %}{% if x == 3 %}{% "
                   "continue %}{% endif %}{{ x }}{% endfor %}"),
            "15");
}

TEST(Jinja, AssignmentsStayInTheirScope) {
  EXPECT_EQ(render("{% set x = 0 %}{% for i in [1, 2] %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}"),
            "01020");
  EXPECT_EQ(render("{% set ns = namespace(x=0) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor "
                   "%}{{ ns.x }}"),
            "3");
  EXPECT_EQ(render("{% if a %}{% set b = 1 %}{% endif %}{{ b }}", R"({"a": true, "b": 5})"), "1");
  EXPECT_EQ(render("{% for i in [1] %}{{ x }}{% endfor %}{% set x = 1 %}", R"({"x": 5})"),
            "");  // jinja2's rule
  EXPECT_EQ(render("{% macro m(a, b=a) %}{{ a }}{{ b }}{{ x }}{% endmacro %}{% set x = 7 %}{{ m(1) }}"),
            "117");
}

TEST(Jinja, GeneratorsRunOnce) {
  EXPECT_EQ(render("{% set g = [1, 2]|select %}{{ g|list }}{{ g|list }}{{ 'yes' if g }}"), "[1, 2][]yes");
}

TEST(Jinja, NothingChangesListsAndDicts) {
  for (const char* source : {"{{ v.append(1) }}", "{{ v.pop() }}", "{{ v.clear() }}", "{{ v.sort() }}",
                             "{{ d.update(a=1) }}", "{{ d.pop('a') }}", "{{ d.setdefault('b', 1) }}"})
    EXPECT_THAT(error_of(source, R"({"v": [1], "d": {"a": 1}})"), HasSubstr("is unsafe")) << source;
  EXPECT_THAT(error_of("{{ ''.__class__.__mro__ }}"),
              HasSubstr("access to attribute '__class__' of 'str' object is unsafe"));
  EXPECT_THAT(error_of("{% set d.x = 1 %}", R"({"d": {}})"),
              HasSubstr("cannot assign attribute on non-namespace object"));
  EXPECT_THAT(error_of("{% set d.x %}1{% endset %}", R"({"d": {}})"),
              HasSubstr("cannot assign attribute on non-namespace object"));
}

TEST(Jinja, MarkupEscapesWhatIsAdded) {
  EXPECT_EQ(render("{{ ('<b>'|safe) + '<' }}{{ '<' ~ ('<b>'|safe) }}{{ '<'|e }}"), "<b>&lt;<<b>&lt;");
}

TEST(Jinja, TheClockIsGiven) {
  setenv("TZ", "UTC", 1);
  tzset();
  const auto now = std::chrono::system_clock::time_point(std::chrono::seconds(1700000000));
  EXPECT_EQ(Template("{{ strftime_now('%Y-%m-%d %H:%M:%S %d %b %Y') }}", "t").render(Json::object(), now),
            "2023-11-14 22:13:20 14 Nov 2023");
}

struct Case {
  const char *source, *error;  // the error after "chat.jinja: "
};

// Texts that no template can be: found when the template is read, reported when it is used.
TEST(JinjaErrors, SyntaxNamesTheLine) {
  const Case cases[] = {
      {"a\n{{ 1 + }}", "line 2: unexpected 'end of print statement'"},
      {"{% if x %}\n\n",
       "line 2: Unexpected end of template. Looking for 'elif' or 'else' or 'endif'; the innermost block "
       "that needs to be closed is 'if'"},
      {"\n\n{% fro x in y %}", "line 3: Encountered unknown tag 'fro'"},
      {"{% for x in y %}\n{% endif %}",
       "line 2: Encountered unknown tag 'endif'; looking for 'endfor' or 'else'; the innermost block that "
       "needs to be closed is 'for'"},
      {"\n{% include 'other' %}", "line 2: the tag 'include' is not supported"},
      {"{% extends 'base' %}", "line 1: the tag 'extends' is not supported"},
      {"{% block x %}{% endblock %}", "line 1: the tag 'block' is not supported"},
      {"{% import 'x' as y %}", "line 1: the tag 'import' is not supported"},
      {"{% autoescape true %}{% endautoescape %}", "line 1: the tag 'autoescape' is not supported"},
      {"\n{{ x|nosuch }}", "line 2: No filter named 'nosuch'."},
      {"\n{{ x is nosuch }}", "line 2: No test named 'nosuch'."},
      {"\n\n{{ x|pprint }}", "line 3: the filter 'pprint' is not supported"},
      {"{# never\nclosed", "line 1: Missing end of comment tag"},
      {"\n{% raw %}never closed", "line 2: Missing end of raw directive"},
      {"{{ 'never closed }}", "line 1: the string that ' begins does not end"},
      {"\n{{ (1] }}", "line 2: unexpected ']', expected ')'"},
      {"{{ 1) }}", "line 1: unexpected ')'"},
      {"{{\n\n#}}", "line 3: unexpected char '#'"},
      {"{{ a b }}", "line 1: expected token 'end of print statement', got 'b'"},
      {"{% set none = 1 %}", "line 1: can't assign to 'const'"},
      {"{% set f() = 1 %}", "line 1: expected token 'end of statement block', got '('"},
      {"{% macro m(a=1, b) %}{% endmacro %}", "line 1: non-default argument follows default argument"},
      {"{% macro m(a, a) %}{% endmacro %}", "line 1: duplicate argument 'a' in the definition"},
      {"\n{{ f(a=1, a=2) }}", "line 2: keyword argument repeated: a"},
      {"{{ f(**a, 1) }}", "line 1: invalid syntax for function call expression"},
      {"{% call 5 %}{% endcall %}", "line 1: expected call"},
      {"{{ x is defined is string }}", "line 1: You cannot chain multiple tests with is"},
      {"\n{% break %}", "line 2: 'break' outside loop"},
      {"{% for x in y %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}",
       "line 1: 'continue' outside loop"},
      {"{% for loop in x %}{% endfor %}", "line 1: Can't assign to special loop variable in for-loop target"},
      {"{{ 9223372036854775808 }}", "line 1: the number does not fit 64 bits, which is not supported"},
      {"{{ '\\ud800' }}", "line 1: surrogates in a string are not supported"},
      {"{{ '\\x4' }}", "line 1: truncated \\xXX escape in a string"},
      {"{{ x[1:2, 3] }}", "line 1: a slice among several indices is not supported"},
  };
  for (const Case& c : cases) {
    const std::string error = error_of(c.source);
    EXPECT_EQ(error, std::string("chat.jinja: ") + c.error) << c.source;
    EXPECT_EQ(error.find('\n'), std::string::npos) << c.source;
  }
}

// What goes wrong while a template runs.
TEST(JinjaErrors, FailuresNameTheLine) {
  const Case cases[] = {
      {"{% if x %}\n{% else %}\n{{ raise_exception('Roles must alternate') }}{% endif %}",
       "line 3: Roles must alternate"},
      {"a\n{{ nothing.at.all }}", "line 2: 'nothing' is undefined"},
      {"{{ {}.a.b }}", "line 1: 'dict object' has no attribute 'a'"},
      {"{{ [1][5].x }}", "line 1: list object has no element 5"},
      {"\n\n{{ none.x.y }}", "line 3: 'None' has no attribute 'x'"},
      {"{{ 'a' +\n 1 }}", "line 1: can only concatenate str (not \"int\") to str"},
      {"{{ 1 + 'a' }}", "line 1: unsupported operand type(s) for +: 'int' and 'str'"},
      {"\n{{ 1 < 'a' }}", "line 2: '<' not supported between instances of 'int' and 'str'"},
      {"{{ 1 // 0 }}", "line 1: integer division or modulo by zero"},
      {"{{ [1]|first.x }}", "line 1: No filter named 'first.x'."},
      {"{% for a, b in [(1, 2, 3)] %}{% endfor %}", "line 1: too many values to unpack (expected 2)"},
      {"{% for x in 5 %}{% endfor %}", "line 1: 'int' object is not iterable"},
      {"{{ 'x'() }}", "line 1: 'str' object is not callable"},
      {"{{ nothing() }}", "line 1: 'nothing' is undefined"},
      {"{{ 1 in 'a' }}", "line 1: 'in <string>' requires string as left operand, not int"},
      {"{{ {[]: 1} }}", "line 1: unhashable type: 'list'"},
      {"{{ 5|length }}", "line 1: object of type 'int' has no len()"},
      {"{{ range(100001) }}",
       "line 1: Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)."},
      {"{% macro m(a) %}{% endmacro %}\n{{ m(1, 2) }}",
       "line 2: macro 'm' takes not more than 1 argument(s)"},
      {"{% macro m(a) %}{% endmacro %}\n{{ m(b=2) }}", "line 2: macro 'm' takes no keyword argument 'b'"},
      {"{{ x|tojson }}", "line 1: Object of type Undefined is not JSON serializable"},
      {"{{ 'a'|replace }}", "line 1: replace() missing a required argument: 'old'"},
      {"{{ 'a'|trim(x=1) }}", "line 1: trim() got an unexpected keyword argument 'x'"},
      {"{{ 'a'.split('') }}", "line 1: empty separator"},
      {"{{ 'a'.index('b') }}", "line 1: substring not found"},
      {"{{ 'a'.encode() }}", "line 1: the method 'str.encode' is not supported"},
      {"{{ '%d' % 'a' }}", "line 1: %d format: a real number is required, not str"},
      {"{{ '{'.format(1) }}", "line 1: Single '{' encountered in format string"},
      {"{{ [1]|map('upper2')|list }}", "line 1: No filter named 'upper2' found."},
      {"{{ [1]|select }}", "line 1: printing a 'generator' object is not supported"},
      {"{{ 9223372036854775807 + 1 }}", "line 1: a number does not fit 64 bits, which is not supported"},
      {"{{ (-8) ** 0.5 }}", "line 1: complex numbers are not supported"},
      {"{% if 1 %}\n{{ x|nosuch }}{% endif %}", "line 2: No filter named 'nosuch' found."},
      {"{% set ns = namespace() %}\n{% set ns._x = 1 %}",
       "line 2: a namespace cannot have an attribute that begins with an underscore"},
      {"{{ strftime_now(5) }}", "line 1: strftime_now(): 'format' must be a string, not 'int'"},
  };
  for (const Case& c : cases)
    EXPECT_EQ(error_of(c.source), std::string("chat.jinja: ") + c.error) << c.source;
}

TEST(JinjaErrors, GuardedFiltersFailOnlyWhenUsed) {
  EXPECT_EQ(render("{% if 0 %}{{ x|nosuch }}{% endif %}{{ 1 if 1 else x|nosuch }}"), "1");
  EXPECT_THAT(error_of("{% if 0 %}{% for a in x %}{{ a|nosuch }}{% endfor %}{% endif %}"),
              HasSubstr("No filter named 'nosuch'"));
}

TEST(JinjaLimits, Work) {
  const Limits limits{.work = 100000};
  for (const char* source :
       {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n > 1 %}{{ m(n - 1) }}{{ m(n - 2) }}{% endif %}{% endmacro %}{{ m(60) }}",
        "{% set ns = namespace(x=1) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ "
        "ns.x }}",
        "{% set ns = namespace(x=1) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ "
        "{ns.x: 1} }}",
        "{% set ns = namespace(x=1, y=1) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y "
        "= [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
        "{{ ('a' * 100000).strip('b' * 100000 ~ 'a') }}", "{{ ('a' * 100000).rfind('b' ~ 'a' * 50000) }}",
        "{% for i in range(10000) %}{{ ('a' * 10000)[::-1]|length }}{% endfor %}"})
    EXPECT_THAT(error_of(source, "{}", limits),
                EndsWith("does more work than the limit allows; does it loop without end?"))
        << source;
}

TEST(JinjaLimits, Memory) {
  const Limits limits{.memory = 1 << 20};
  for (const char* source :
       {"{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set x = [1] * 1000000 %}", "{% set x = range(100000)|list %}",
        "{% set x = [1]|batch(100000, 0)|list %}",
        "{% for i in range(100000) %}{% set x = namespace() %}{% endfor %}"})
    EXPECT_THAT(error_of(source, "{}", limits), EndsWith("needs more memory than the limit allows"))
        << source;
}

TEST(JinjaLimits, Output) {
  const Limits limits{.output = 1000};
  EXPECT_EQ(render("{{ 'x' * 1000 }}", "{}", limits).size(), 1000u);
  EXPECT_EQ(error_of("{{ 'x' * 1001 }}", "{}", limits),
            "chat.jinja: line 1: the template's output is longer than the limit allows");
  EXPECT_THAT(error_of("{% set x %}{{ 'x' * 1001 }}{% endset %}", "{}", limits),
              EndsWith("longer than the limit allows"));
}

TEST(JinjaLimits, Text) {
  for (const char* source :
       {"{{ 'ab' * 100000000 }}", "{{ 'a'.ljust(10000000000) }}", "{{ '%*d' % (1000000000, 1) }}",
        "{{ '{:1000000000}'.format(1) }}", "{{ '%.1000000000f' % 1.5 }}",
        "{{ [1]|tojson(indent=1000000000) }}", "{{ 'a\nb'|indent(1000000000) }}",
        "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}", "{{ range(10000)|join('x' * 100000) }}",
        "{{ '1'.zfill(1000000000) }}"})
    EXPECT_THAT(error_of(source), testing::AnyOf(EndsWith("too long"), EndsWith("too large"))) << source;
}

TEST(JinjaLimits, Recursion) {
  EXPECT_THAT(error_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
              EndsWith("the template's calls are nested too deeply"));
  EXPECT_THAT(error_of("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
              EndsWith("the template's calls are nested too deeply"));
  EXPECT_THAT(error_of("{% set ns = namespace(g=[1]) %}{% for i in range(50000) %}{% set ns.g = "
                       "ns.g|map('string') %}{% endfor %}{{ ns.g|list }}"),
              EndsWith("the template's calls are nested too deeply"));
  EXPECT_EQ(render("{% macro m(n) %}{{ n if n == 0 else m(n - 1) }}{% endmacro %}{{ m(60) }}"), "0");
}

TEST(JinjaLimits, Nesting) {
  for (const char* use : {"{{ ns.x }}", "{{ ns.x|tojson }}", "{{ ns.x == ns.y }}", "{{ ns.x < ns.y }}"})
    EXPECT_THAT(error_of("{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(1000) %}{% set ns.x = "
                         "[ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}" +
                         std::string(use)),
                EndsWith("a value is nested too deeply"))
        << use;
  EXPECT_THAT(error_of("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}"),
              EndsWith("a value is nested too deeply"));
  EXPECT_EQ(error_of("{{ x }}", (R"({"x": )" + times("[", 200) + times("]", 200) + "}").c_str()),
            "chat.jinja: line 1: the messages are nested too deeply");
}

TEST(JinjaLimits, Syntax) {
  for (const std::string& source :
       {"{{ " + times("(", 5000) + "1" + times(")", 5000) + " }}", "{{ " + times("[", 5000),
        "{{ 1" + times("+1", 5000) + " }}", "{{ 1" + times("|string", 5000) + " }}",
        "{{ a" + times(".b", 5000) + " }}", "{{ " + times("not ", 5000) + "1 }}",
        "{{ " + times("-", 5000) + "1 }}", "{{ 1" + times(" if 1 else 2", 5000) + " }}",
        "{{ 1" + times(" if 1", 5000) + " }}", "{{ " + times("(1,", 5000), "{{ " + times("{1:", 5000),
        times("{% if 1 %}", 5000), times("{% for a in b %}", 5000),
        "{% for " + times("(", 5000) + "a" + times(")", 5000) + " in b %}{% endfor %}"})
    EXPECT_EQ(error_of(source), "chat.jinja: line 1: nested too deeply") << source.substr(0, 40);
  std::string branches;
  for (int i = 0; i < 20000; ++i) branches += "{% if a" + std::to_string(i) + " %}{% endif %}";
  EXPECT_EQ(error_of(branches), "chat.jinja: line 1: too many branches and names");
  EXPECT_EQ(error_of(std::string((4 << 20) + 1, 'x')),
            "chat.jinja: is longer than the limit of 4194304 bytes");
  EXPECT_EQ(render("{{ [" + times("1,", 50000) + "]|length }}{{ 1" + times("~1", 5000) + " }}").size(),
            5006u);
}

TEST(Jinja, BytesThatAreNoTextBecomeReplacementCharacters) {
  Json variables = Json::object();
  variables["s"] = "a\xff\xe4\xbd";
  variables["d"]["k\x80"] = 1;
  EXPECT_EQ(Template("\xc3{{ s }}{{ s|length }}{{ d|list }}", "t").render(variables, {}),
            "\xef\xbf\xbd"
            "a\xef\xbf\xbd\xef\xbf\xbd"
            "3['k\xef\xbf\xbd']");
}

TEST(Jinja, ATemplateCanBeMovedAndSharedByThreads) {
  Template first("{% for x in v %}{{ x }}{% endfor %}", "t");
  const Template moved = std::move(first);
  const Json variables = Json::parse(R"({"v": ["a", "b"]})");
  std::vector<std::string> results(4);
  std::vector<std::thread> threads;
  for (std::string& result : results)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) result += moved.render(variables, {});
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& result : results) EXPECT_EQ(result, times("ab", 200));
}

// The templates that the Python tests compare with jinja2, here for the sanitizers.
TEST(Jinja, ShippedTestTemplatesRender) {
  const Json variables = Json::parse(
      R"({"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true, "documents": null, "messages": [
      {"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "<think>a</think>yo"},
      {"role": "user", "content": "bye"}],
      "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}}}}]})");
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(STAMP_SOURCE_DIR "/tests/models/templates")) {
    const std::string text =
        Template(slurp(entry.path()), entry.path().filename().string()).render(variables, {});
    EXPECT_THAT(text, HasSubstr("hi")) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 9);
}

}  // namespace
}  // namespace stamp::jinja
