#include "tools/serve/requests.h"

#include <gtest/gtest.h>

#include "tools/serve/api_error.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;
constexpr int64_t kVocab = 1000;

Json chat_body(const Json& more = Json::object()) {
  Json body = {{"messages", {{{"role", "user"}, {"content", "Hello"}}}}};
  body.update(more);
  return body;
}
Json completion_body(const Json& more = Json::object()) {
  Json body = {{"prompt", "Once"}};
  body.update(more);
  return body;
}
ChatRequest chat(const Json& more = Json::object()) {
  return parse_chat_request(chat_body(more).dump(), kVocab);
}
CompletionRequest completion(const Json& more = Json::object()) {
  return parse_completion_request(completion_body(more).dump(), kVocab);
}

/// The field that the refusal of this body names; "accepted" if there is none.
template <class Parse>
std::string refused(Parse&& parse) {
  try {
    parse();
  } catch (const ApiError& e) {
    EXPECT_EQ(e.status, 400) << e.what();
    EXPECT_STREQ(e.type(), "invalid_request_error");
    return e.param;
  }
  return "accepted";
}
std::string chat_refuses(const Json& more) {
  return refused([&] { chat(more); });
}
std::string completion_refuses(const Json& more) {
  return refused([&] { completion(more); });
}

TEST(ChatRequest, NothingGivenIsTheDefault) {
  const ChatRequest request = chat();
  EXPECT_EQ(request.params.n, 1);
  EXPECT_EQ(request.params.top_logprobs, -1);
  EXPECT_FALSE(request.params.stream || request.params.ignore_eos || request.params.include_usage);
  EXPECT_FALSE(request.params.max_tokens || request.params.seed || request.params.sampling.temperature);
  EXPECT_TRUE(request.params.stops.empty());
  EXPECT_TRUE(request.tools.is_null());
  EXPECT_EQ(request.tool_choice.kind, ToolChoice::Kind::kNone);
}

TEST(ChatRequest, NullIsTheDefaultOfEveryField) {
  for (const char* field : {"model",
                            "temperature",
                            "top_p",
                            "top_k",
                            "min_p",
                            "repetition_penalty",
                            "presence_penalty",
                            "frequency_penalty",
                            "logit_bias",
                            "seed",
                            "max_tokens",
                            "max_completion_tokens",
                            "n",
                            "stop",
                            "ignore_eos",
                            "stream",
                            "stream_options",
                            "response_format",
                            "guided_regex",
                            "logprobs",
                            "top_logprobs",
                            "tools",
                            "tool_choice",
                            "parallel_tool_calls",
                            "user",
                            "metadata",
                            "store",
                            "functions",
                            "audio",
                            "anything_else"})
    EXPECT_EQ(chat_refuses({{field, nullptr}}), "accepted") << field;
}

TEST(ChatRequest, EveryFieldArrives) {
  const ChatRequest request = chat({{"model", "m"},
                                    {"temperature", 0.5},
                                    {"top_p", 0.25},
                                    {"top_k", 7},
                                    {"min_p", 0.125},
                                    {"repetition_penalty", 1.5},
                                    {"presence_penalty", -2},
                                    {"frequency_penalty", 2},
                                    {"logit_bias", {{"5", -100}, {"999", 1.5}}},
                                    {"seed", -1},
                                    {"max_completion_tokens", 9},
                                    {"n", 16},
                                    {"stop", {"a", "bc"}},
                                    {"ignore_eos", true},
                                    {"stream", true},
                                    {"stream_options", {{"include_usage", true}}},
                                    {"logprobs", true},
                                    {"top_logprobs", 20}});
  const GenerationParams& params = request.params;
  EXPECT_EQ(params.model, "m");
  EXPECT_EQ(params.sampling.temperature, 0.5f);
  EXPECT_EQ(params.sampling.top_p, 0.25f);
  EXPECT_EQ(params.sampling.top_k, 7);
  EXPECT_EQ(params.sampling.min_p, 0.125f);
  EXPECT_EQ(params.sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(params.sampling.presence_penalty, -2.0f);
  EXPECT_EQ(params.sampling.frequency_penalty, 2.0f);
  const std::vector<std::pair<int32_t, float>> biases = {{5, -100.0f}, {999, 1.5f}};
  EXPECT_EQ(params.sampling.logit_bias, biases);
  EXPECT_EQ(params.seed, ~uint64_t{0});
  EXPECT_EQ(params.max_tokens, 9);
  EXPECT_EQ(params.n, 16);
  EXPECT_EQ(params.stops, (std::vector<std::string>{"a", "bc"}));
  EXPECT_TRUE(params.ignore_eos && params.stream && params.include_usage);
  EXPECT_EQ(params.top_logprobs, 20);
}

TEST(ChatRequest, AFieldOutOfRangeIsNamed) {
  const std::vector<std::pair<const char*, Json>> bad = {{"temperature", -0.1},
                                                         {"temperature", "1"},
                                                         {"temperature", 1e30},
                                                         {"top_p", 0},
                                                         {"top_p", 1.1},
                                                         {"top_k", -2},
                                                         {"top_k", 1.5},
                                                         {"min_p", 2},
                                                         {"seed", 1.5},
                                                         {"seed", 1e30},
                                                         {"seed", uint64_t(1) << 63},
                                                         {"max_tokens", 0},
                                                         {"max_tokens", -1},
                                                         {"n", 0},
                                                         {"n", 17},
                                                         {"n", true},
                                                         {"stop", ""},
                                                         {"stop", {1}},
                                                         {"stop", Json(17, "x")},
                                                         {"stop", {{"a", 1}}},
                                                         {"stream", 1},
                                                         {"stream", "true"},
                                                         {"logprobs", 3},
                                                         {"top_logprobs", 1},
                                                         {"logit_bias", {1}},
                                                         {"model", 1},
                                                         {"presence_penalty", 2.1},
                                                         {"frequency_penalty", -3},
                                                         {"tools", "x"},
                                                         {"tool_choice", "x"},
                                                         {"tool_choice", "required"},
                                                         {"guided_regex", 1},
                                                         {"messages", "x"},
                                                         {"messages", Json::array()},
                                                         {"chat_template_kwargs", 1},
                                                         {"repetition_penalty", 0}};
  for (const auto& [field, value] : bad) EXPECT_EQ(chat_refuses({{field, value}}), field) << value;
  EXPECT_EQ(chat_refuses({{"logit_bias", {{"1000", 0}}}}), "logit_bias");
  EXPECT_EQ(chat_refuses({{"logit_bias", {{"1 ", 0}}}}), "logit_bias");
  EXPECT_EQ(chat_refuses({{"logit_bias", {{"1", 101}}}}), "logit_bias");
  EXPECT_EQ(chat_refuses({{"max_tokens", 1}, {"max_completion_tokens", 2}}), "max_completion_tokens");
  EXPECT_EQ(chat_refuses({{"stream_options", {{"include_usage", true}}}}), "stream_options");
}

TEST(ChatRequest, WhatIsNotSupportedIsRefusedByName) {
  for (const auto& [field, value] : std::vector<std::pair<const char*, Json>>{{"functions", Json::array()},
                                                                              {"function_call", "auto"},
                                                                              {"audio", Json::object()},
                                                                              {"modalities", {"audio"}},
                                                                              {"reasoning_effort", "low"},
                                                                              {"prediction", Json::object()},
                                                                              {"echo", true},
                                                                              {"best_of", 2},
                                                                              {"never_heard_of", 1}})
    EXPECT_EQ(chat_refuses({{field, value}}), field);
  EXPECT_EQ(chat_refuses({{"modalities", {"text"}}}), "accepted");
  EXPECT_EQ(chat_refuses({{"user", "u"}, {"metadata", {{"a", "b"}}}, {"store", true}}), "accepted");
}

TEST(ChatRequest, ContentPartsBecomeOneText) {
  const Json parts = {{{"type", "text"}, {"text", "one"}}, {{"type", "text"}, {"text", "two"}}};
  const ChatRequest request = chat({{"messages", {{{"role", "developer"}, {"content", parts}}}}});
  EXPECT_EQ(request.messages, Json({{{"role", "system"}, {"content", "one\ntwo"}}}));
  const Json image = {{{"type", "image_url"}, {"image_url", {{"url", "x"}}}}};
  EXPECT_EQ(chat_refuses({{"messages", {{{"role", "user"}, {"content", image}}}}}),
            "messages[0].content[0].type");
}

TEST(ChatRequest, ToolCallsOfThePastAreValues) {
  const Json call = {
      {"id", "c1"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", "{\"b\":1,\"a\":2}"}}}};
  const ChatRequest request = chat({{"messages",
                                     {{{"role", "user"}, {"content", "x"}},
                                      {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", {call}}},
                                      {{"role", "tool"}, {"tool_call_id", "c1"}, {"content", "3"}}}}});
  EXPECT_EQ(request.messages[1]["tool_calls"][0]["function"]["arguments"].dump(), R"({"b":1,"a":2})");
  EXPECT_EQ(request.messages[2]["tool_call_id"], "c1");
  Json broken = call;
  broken["function"]["arguments"] = "{";
  EXPECT_EQ(chat_refuses({{"messages", {{{"role", "assistant"}, {"tool_calls", {broken}}}}}}),
            "messages[0].tool_calls[0].function.arguments");
}

TEST(ChatRequest, EveryMessageIsChecked) {
  const auto refuses = [](const Json& message) { return chat_refuses({{"messages", {message}}}); };
  EXPECT_EQ(refuses({{"role", "user"}}), "messages[0].content");
  EXPECT_EQ(refuses({{"content", "x"}}), "messages[0].role");
  EXPECT_EQ(refuses({{"role", "robot"}, {"content", "x"}}), "messages[0].role");
  EXPECT_EQ(refuses({{"role", "tool"}, {"content", "x"}}), "messages[0].tool_call_id");
  EXPECT_EQ(refuses({{"role", "user"}, {"content", 1}}), "messages[0].content");
  EXPECT_EQ(refuses({{"role", "user"}, {"content", "x"}, {"mood", "good"}}), "messages[0].mood");
  EXPECT_EQ(refuses("x"), "messages[0]");
}

TEST(ChatRequest, ToolsAndTheirChoice) {
  const Json tool = {{"type", "function"},
                     {"function", {{"name", "f"}, {"parameters", {{"type", "object"}}}}}};
  EXPECT_EQ(chat({{"tools", {tool}}}).tool_choice.kind, ToolChoice::Kind::kAuto);
  EXPECT_EQ(chat({{"tools", {tool}}, {"tool_choice", "none"}}).tool_choice.kind, ToolChoice::Kind::kNone);
  EXPECT_EQ(chat({{"tools", {tool}}, {"tool_choice", "required"}}).tool_choice.kind,
            ToolChoice::Kind::kRequired);
  Json named = {{"type", "function"}, {"function", {{"name", "f"}}}};
  EXPECT_EQ(chat({{"tools", {tool}}, {"tool_choice", named}}).tool_choice.name, "f");
  named["function"]["name"] = "g";
  EXPECT_EQ(chat_refuses({{"tools", {tool}}, {"tool_choice", named}}), "tool_choice");
}

TEST(ChatRequest, FormatsOfTheText) {
  EXPECT_EQ(chat({{"response_format", {{"type", "text"}}}}).params.format.kind, ResponseFormat::Kind::kText);
  EXPECT_EQ(chat({{"response_format", {{"type", "json_object"}}}}).params.format.kind,
            ResponseFormat::Kind::kJsonObject);
  const Json schema = {{"type", "json_schema"},
                       {"json_schema", {{"name", "s"}, {"schema", {{"type", "object"}}}}}};
  EXPECT_EQ(chat({{"response_format", schema}}).params.format.schema, Json({{"type", "object"}}));
  EXPECT_EQ(chat({{"guided_regex", "a+"}}).params.format.regex, "a+");
  EXPECT_EQ(chat_refuses({{"guided_regex", "a+"}, {"response_format", schema}}), "guided_regex");
  EXPECT_EQ(chat_refuses({{"response_format", {{"type", "xml"}}}}), "response_format.type");
}

TEST(CompletionRequest, ThePromptHasFourForms) {
  EXPECT_EQ(completion({{"prompt", "a"}}).texts, (std::vector<std::string>{"a"}));
  EXPECT_EQ(completion({{"prompt", {"a", "b"}}}).texts, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(completion({{"prompt", {1, 2}}}).token_lists, (std::vector<std::vector<int32_t>>{{1, 2}}));
  EXPECT_EQ(completion({{"prompt", {{1}, {2, 3}}}}).token_lists,
            (std::vector<std::vector<int32_t>>{{1}, {2, 3}}));
  for (const Json& bad :
       {Json(nullptr), Json(1), Json::array(), Json({"a", 1}), Json({1, "a"}), Json({kVocab}), Json({-1}),
        Json({1.5}), Json({{1}, {"a"}}), Json({"a", {1}}), Json({{"a", 1}})})
    EXPECT_EQ(completion_refuses({{"prompt", bad}}), "prompt") << bad;
}

TEST(CompletionRequest, ItsOwnFields) {
  EXPECT_EQ(completion().params.max_tokens, 16);
  EXPECT_EQ(completion({{"max_tokens", 0}}).params.max_tokens, 0);
  EXPECT_EQ(completion({{"logprobs", 0}}).params.top_logprobs, 0);
  EXPECT_TRUE(completion({{"echo", true}}).echo);
  EXPECT_EQ(completion({{"n", 2}}).best_of, 2);
  EXPECT_EQ(completion({{"best_of", 3}}).best_of, 3);
  EXPECT_EQ(completion_refuses({{"best_of", 1}, {"n", 2}}), "best_of");
  EXPECT_EQ(completion_refuses({{"best_of", 2}, {"stream", true}}), "best_of");
  EXPECT_EQ(completion_refuses({{"suffix", "x"}}), "suffix");
  EXPECT_EQ(completion_refuses({{"logprobs", 21}}), "logprobs");
}

TEST(RequestBody, MustBeOneJsonObject) {
  for (const char* body : {"", "{", "[]", "1", "{}x", "{\"a\":1,\"a\":2}", "\xff", "{\"prompt\":\"\xc3\"}"})
    EXPECT_EQ(refused([&] { parse_completion_request(body, kVocab); }), "") << body;
  EXPECT_EQ(refused([&] { parse_completion_request(std::string(10000, '['), kVocab); }), "");
}

TEST(TokenizeRequest, TakesAPromptOrMessages) {
  EXPECT_EQ(parse_tokenize_request(R"({"prompt": "x"})").prompt, "x");
  EXPECT_FALSE(
      parse_tokenize_request(R"({"messages": [{"role": "user", "content": "x"}]})").messages.is_null());
  EXPECT_EQ(refused([] { parse_tokenize_request("{}"); }), "prompt");
  EXPECT_EQ(refused([] {
              parse_tokenize_request(R"({"prompt": "", "messages": [{"role": "user", "content": "x"}]})");
            }),
            "prompt");
  EXPECT_EQ(parse_detokenize_request(R"({"tokens": [1, 999]})", kVocab).tokens,
            (std::vector<int32_t>{1, 999}));
  EXPECT_EQ(refused([] { parse_detokenize_request(R"({"tokens": [1000]})", kVocab); }), "tokens");
}

}  // namespace
}  // namespace stamp
