#include "engine/tool_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/error.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;

struct Outcome {
  std::string content;
  std::vector<std::pair<std::string, std::string>> calls;  // name, arguments
  bool operator==(const Outcome&) const = default;
};
void PrintTo(const Outcome& outcome, std::ostream* out) {
  *out << '"' << outcome.content << '"';
  for (const auto& [name, arguments] : outcome.calls) *out << ' ' << name << arguments;
}

Outcome parse(ToolForm form, std::string_view text, size_t piece) {
  ToolCallParser parser(form, {"f", "g"}, 7);
  Outcome outcome;
  const auto add = [&outcome](ToolCallParser::Piece out) {
    outcome.content += out.content;
    for (ToolCall& call : out.calls) outcome.calls.emplace_back(call.name, call.arguments);
  };
  for (size_t at = 0; at < text.size(); at += piece) add(parser.push(text.substr(at, piece)));
  add(parser.finish());
  EXPECT_EQ(parser.calls(), outcome.calls.size());
  return outcome;
}

TEST(ToolCallParser, TakesCallsOutOfTextInAnyPieces) {
  const std::string call = R"({"name": "f", "arguments": {"x": "</tool_call> }{", "y": [1, 2.5]}})";
  const std::string arguments = R"({"x":"</tool_call> }{","y":[1,2.5]})";
  struct Case {
    ToolForm form;
    std::string text;
    Outcome expected;
  };
  const std::vector<Case> cases{
      {ToolForm::kHermes, "Just text < 3, no <tool calls.\n", {"Just text < 3, no <tool calls.\n", {}}},
      {ToolForm::kHermes, "<tool_call>\n" + call + "\n</tool_call>", {"", {{"f", arguments}}}},
      {ToolForm::kHermes,
       "Let me look.\n\n<tool_call>\n" + call +
           "\n</tool_call>\n<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>\n",
       {"Let me look.", {{"f", arguments}, {"g", "{}"}}}},
      {ToolForm::kHermes, "<tool_call>\n" + call, {"", {{"f", arguments}}}},  // the end of the text closes
      {ToolForm::kHermes,
       "a <tool_call>{\"name\": \"h\", \"arguments\": {}}</tool_call> b",
       {"a<tool_call>{\"name\": \"h\", \"arguments\": {}}</tool_call> b", {}}},
      {ToolForm::kHermes, "<tool_call>f(1)</tool_call>", {"<tool_call>f(1)</tool_call>", {}}},
      {ToolForm::kHermes, "<tool_call>\n{\"name\": \"f\"", {"<tool_call>\n{\"name\": \"f\"", {}}},
      {ToolForm::kLlama, R"({"name": "f", "parameters": {"x": 1}})", {"", {{"f", R"({"x":1})"}}}},
      {ToolForm::kLlama,
       R"( {"name": "f", "parameters": {}}; {"name": "g", "parameters": {}})",
       {"", {{"f", "{}"}, {"g", "{}"}}}},
      {ToolForm::kLlama, R"({"name": "Ada", "age": 36})", {R"({"name": "Ada", "age": 36})", {}}},
      {ToolForm::kLlama,
       R"(See {"name": "f", "parameters": {}})",
       {R"(See {"name": "f", "parameters": {}})", {}}},
      {ToolForm::kMistral, "[TOOL_CALLS] [" + call + "]", {"", {{"f", arguments}}}},
      {ToolForm::kMistral,
       "[" + call + ", {\"name\": \"g\", \"arguments\": {}}]",
       {"", {{"f", arguments}, {"g", "{}"}}}},
      {ToolForm::kMistral, "[1, 2, 3] are numbers", {"[1, 2, 3] are numbers", {}}},
      {ToolForm::kMistral, "Hello", {"Hello", {}}},
  };
  for (const Case& c : cases)
    for (const size_t piece : {size_t{1}, size_t{3}, size_t{7}, c.text.size()})
      EXPECT_EQ(parse(c.form, c.text, piece), c.expected) << c.text << " in pieces of " << piece;
}

TEST(ToolCallParser, HandsOnTextAtOnceAndCallsWhenTheyAreComplete) {
  ToolCallParser parser(ToolForm::kHermes, {"f"}, 1);
  EXPECT_EQ(parser.push("One moment").content, "One moment");
  EXPECT_EQ(parser.push(" <").content, "");
  EXPECT_EQ(parser.push("b>").content, " <b>");
  EXPECT_TRUE(parser.push("<tool_call>{\"name\": \"f\", \"arguments\": {}}").calls.empty());
  EXPECT_EQ(parser.push("</tool_call>").calls.size(), 1u);
}

TEST(ToolCallParser, IdsDifferAndDependOnTheSeed) {
  const auto ids = [](ToolForm form, uint64_t seed) {
    ToolCallParser parser(form, {"f"}, seed);
    const std::string call = R"({"name": "f", "arguments": {}})";
    std::vector<std::string> out;
    for (const ToolCall& c : parser.push("[" + call + "," + call + "]").calls) out.push_back(c.id);
    return out;
  };
  const auto some = ids(ToolForm::kMistral, 1);
  ASSERT_EQ(some.size(), 2u);
  EXPECT_EQ(some[0].size(), 9u);
  EXPECT_NE(some[0], some[1]);
  EXPECT_EQ(ids(ToolForm::kMistral, 1), some);
  EXPECT_NE(ids(ToolForm::kMistral, 2), some);
}

TEST(ToolForm, IsFoundInTheTemplatesText) {
  EXPECT_EQ(tool_form("{{ '<tool_call>\\n{\"name\": \"' + f.name + '\", \"arguments\": ' }}"),
            ToolForm::kHermes);
  EXPECT_EQ(tool_form("{{ '[TOOL_CALLS] [' }}"), ToolForm::kMistral);
  EXPECT_EQ(tool_form("{{ '{\"name\": \"' + f.name + '\", \"parameters\": ' }}"), ToolForm::kLlama);
  EXPECT_EQ(tool_form("{{ '<tool_call>\\n<function=' + f.name }}"), std::nullopt);
  EXPECT_EQ(tool_form("{{ '[TOOL_CALLS]' + f.name + '[ARGS]' }}"), std::nullopt);
  EXPECT_EQ(tool_form("{% for message in messages %}{{ message.content }}{% endfor %}"), std::nullopt);
}

class ConstrainToToolCalls : public testing::Test {
 protected:
  ConstrainToToolCalls() {
    const TempDir directory;
    write_file(directory / "tokenizer.json", tiny::tokenizer().dump());
    tokenizer_ = Tokenizer::load(directory.path());
    vocabulary_.emplace(*tokenizer_, std::vector<int32_t>{TinyModel::kEos}, tokenizer_->vocab_size());
  }
  static Json tool(const std::string& name, const Json& parameters) {
    return {{"type", "function"}, {"function", {{"name", name}, {"parameters", parameters}}}};
  }
  Json tools() const {
    return Json::array({tool("f", {{"type", "object"},
                                   {"properties", {{"x", {{"$ref", "#/$defs/n"}}}}},
                                   {"required", {"x"}},
                                   {"$defs", {{"n", {{"type", "integer"}}}}}}),
                        tool("g", Json())});
  }
  bool accepts(ToolForm form, const ToolDemand& demand, const std::string& text) {
    const auto constraint = constrain_to_tool_calls(*vocabulary_, form, tools(), demand);
    std::vector<float> logits(static_cast<size_t>(vocabulary_->size()));
    const auto may = [&](int32_t id) {
      std::ranges::fill(logits, 0.0f);
      constraint->mask(logits);
      return logits[size_t(id)] == 0.0f;
    };
    for (const unsigned char c : text) {
      if (!may(c)) return false;
      constraint->advance(c);
    }
    return may(TinyModel::kEos);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<TokenVocabulary> vocabulary_;
};

TEST_F(ConstrainToToolCalls, ForcesTheFormAndTheToolsParameters) {
  const std::string f = R"({"name": "f", "arguments": {"x": 12}})", g = R"({"name": "g", "arguments": {}})";
  const auto tagged = [](const std::string& call) { return "<tool_call>\n" + call + "\n</tool_call>"; };
  EXPECT_TRUE(accepts(ToolForm::kHermes, {}, tagged(f)));
  EXPECT_TRUE(accepts(ToolForm::kHermes, {}, tagged(f) + "\n" + tagged(g)));
  EXPECT_FALSE(accepts(ToolForm::kHermes, {.parallel = false}, tagged(f) + "\n" + tagged(g)));
  EXPECT_FALSE(accepts(ToolForm::kHermes, {.name = "g"}, tagged(f)));
  EXPECT_TRUE(accepts(ToolForm::kHermes, {.name = "g"}, tagged(g)));
  EXPECT_FALSE(accepts(ToolForm::kHermes, {}, tagged(R"({"name": "f", "arguments": {"x": "12"}})")));
  EXPECT_FALSE(accepts(ToolForm::kHermes, {}, "Hello"));
  EXPECT_TRUE(accepts(ToolForm::kLlama, {}, R"({"name": "f", "parameters": {"x": 1}})"));
  EXPECT_FALSE(accepts(ToolForm::kLlama, {}, f));
  EXPECT_TRUE(accepts(ToolForm::kMistral, {}, " [" + f + ", " + g + "]"));
  EXPECT_TRUE(accepts(ToolForm::kMistral, {}, "[" + g + "]"));
  EXPECT_EQ(tool_opening(ToolForm::kMistral), "[TOOL_CALLS]");
  EXPECT_EQ(tool_opening(ToolForm::kHermes), "");
}

TEST_F(ConstrainToToolCalls, WhatIsForcedIsParsed) {
  for (const ToolForm form : {ToolForm::kHermes, ToolForm::kLlama, ToolForm::kMistral}) {
    const auto constraint =
        constrain_to_tool_calls(*vocabulary_, form, tools(), {.name = "g", .parallel = false});
    std::vector<float> logits(static_cast<size_t>(vocabulary_->size()));
    std::string text;
    for (int i = 0; i < 300; ++i) {
      // Falling logits but for the end: of what is allowed the lowest byte that is no white space.
      for (size_t id = 0; id < logits.size(); ++id) logits[id] = id > ' ' ? -float(id) : -1000.0f;
      logits[TinyModel::kEos] = 1.0f;
      constraint->mask(logits);
      const auto id = int32_t(std::ranges::max_element(logits) - logits.begin());
      if (id == TinyModel::kEos) break;
      constraint->advance(id);
      text += char(id);
    }
    EXPECT_EQ(parse(form, text, 5), (Outcome{"", {{"g", "{}"}}})) << text;
  }
}

TEST_F(ConstrainToToolCalls, WhatIsWrongIsNamed) {
  const auto message = [&](const Json& tools, const ToolDemand& demand) {
    try {
      constrain_to_tool_calls(*vocabulary_, ToolForm::kHermes, tools, demand);
    } catch (const InputError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(message(tools(), {.name = "h"}), testing::HasSubstr("none named 'h'"));
  EXPECT_THAT(message(Json::array(), {}), testing::HasSubstr("there are none"));
  EXPECT_THAT(message(Json::array({tool("weather", {{"type", "object"}, {"minProperties", 1}})}), {}),
              testing::StartsWith("tools: weather: 'minProperties' is not supported"));
}

}  // namespace
}  // namespace stamp
