#include "tools/serve/responses.h"

#include <gtest/gtest.h>

#include <limits>

#include "models/tokenizer.h"
#include "tests/tiny_model.h"
#include "tools/serve/api_error.h"
#include "tools/serve/http.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;

struct ResponsesTest : testing::Test {
  ResponsesTest() {
    counting_model().write(directory.path());
    tokenizer = Tokenizer::load(directory.path());
  }
  TempDir directory;
  std::unique_ptr<Tokenizer> tokenizer;
};

TEST_F(ResponsesTest, ChatLogprobsTellTextAndBytes) {
  const std::vector<TokenLogprob> logprobs = {{'a', -0.5f, {{'a', -0.5f}, {'b', -2.0f}}}};
  const Json content = chat_logprobs(logprobs, *tokenizer)["content"];
  EXPECT_EQ(
      content.dump(),
      R"([{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]},)"
      R"({"token":"b","logprob":-2.0,"bytes":[98]}]}])");
}

TEST_F(ResponsesTest, CompletionLogprobsAreListsSideBySide) {
  CompletionLogprobs lists(*tokenizer, 1);
  lists.push_first('x');
  lists.push(std::vector<TokenLogprob>{{'a', -1.0f, {{'b', -0.25f}}}});
  EXPECT_EQ(
      lists.take().dump(),
      R"({"tokens":["x","a"],"token_logprobs":[null,-1.0],"top_logprobs":[null,{"b":-0.25}],"text_offset":[0,1]})");
  lists.push(std::vector<TokenLogprob>{{'c', -std::numeric_limits<float>::infinity(), {}}});
  EXPECT_EQ(lists.take()["text_offset"], Json({2}));
}

TEST(Responses, TextIsAlwaysUtf8) { EXPECT_EQ(to_text(Json("a\xff")), "\"a\xef\xbf\xbd\""); }

TEST(Responses, AnErrorHasFourFields) {
  const ApiError error(400, "no", "n");
  EXPECT_EQ(error.json().dump(),
            R"({"error":{"message":"no","type":"invalid_request_error","param":"n","code":null}})");
}

TEST(Responses, AHeadIsWellFormed) {
  HttpRequest request;
  request.id = "r1";
  const std::string head = response_head(request, {.status = 429, .fields = {{"Retry-After", "1"}}}, 3, true);
  EXPECT_TRUE(head.starts_with("HTTP/1.1 429 Too Many Requests\r\nDate: "));
  EXPECT_NE(head.find("\r\nContent-Length: 3\r\n"), std::string::npos);
  EXPECT_NE(head.find("\r\nX-Request-Id: r1\r\n"), std::string::npos);
  EXPECT_NE(head.find("\r\nRetry-After: 1\r\n"), std::string::npos);
  EXPECT_TRUE(head.ends_with("\r\nConnection: keep-alive\r\n\r\n"));
  EXPECT_EQ(http_chunk("hello world, hello"), "12\r\nhello world, hello\r\n");
}

TEST(Responses, RandomIdsDiffer) {
  EXPECT_EQ(random_id().size(), 32u);
  EXPECT_NE(random_id(), random_id());
}

}  // namespace
}  // namespace stamp
