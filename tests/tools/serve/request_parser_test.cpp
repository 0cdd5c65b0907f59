#include "tools/serve/request_parser.h"

#include <gtest/gtest.h>

namespace stamp {
namespace {

using namespace std::string_literals;

constexpr std::string_view kPost =
    "POST /v1/completions?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";

/// Feeds the bytes in pieces; the status of the error, or 0 when the request is complete, or -1 if more is
/// needed.
int feed(RequestParser& parser, std::string_view bytes, size_t piece, std::string* rest = nullptr) {
  std::string input;
  try {
    for (size_t at = 0; at < bytes.size() && !parser.done(); at += piece) {
      input += bytes.substr(at, piece);
      for (size_t used = 1; used > 0 && !parser.done();) input.erase(0, used = parser.feed(input));
      if (rest != nullptr) *rest = input + std::string(bytes.substr(std::min(bytes.size(), at + piece)));
    }
  } catch (const HttpError& e) {
    return e.status;
  }
  return parser.done() ? 0 : -1;
}

int status_of(const std::string& bytes, const HttpLimits& limits = {}) {
  RequestParser parser(limits);
  return feed(parser, bytes, bytes.size());
}

TEST(RequestParser, TheSameForAllPieces) {
  for (size_t piece = 1; piece <= kPost.size(); ++piece) {
    RequestParser parser({});
    ASSERT_EQ(feed(parser, kPost, piece), 0) << piece;
    const HttpRequest request = parser.take();
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.path, "/v1/completions");
    EXPECT_EQ(request.body, "hello");
    EXPECT_TRUE(request.keep_alive);
    EXPECT_EQ(request.id.size(), 32u);
  }
}

TEST(RequestParser, ChunksAreJoinedAndTheNextRequestIsLeft) {
  const std::string bytes =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nGET / "
      "HTTP/1.1\r\n";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    RequestParser parser({});
    std::string rest;
    ASSERT_EQ(feed(parser, bytes, piece, &rest), 0) << piece;
    EXPECT_EQ(parser.take().body, "abcde");
    EXPECT_EQ(rest, "GET / HTTP/1.1\r\n");
  }
}

TEST(RequestParser, TheHeadIsKnownBeforeTheBody) {
  RequestParser parser({});
  const std::string_view head = kPost.substr(0, kPost.size() - 5);
  EXPECT_EQ(parser.feed(head), head.size());
  EXPECT_TRUE(parser.has_header());
  EXPECT_FALSE(parser.done());
  EXPECT_EQ(parser.body_bytes(), 5);
  EXPECT_EQ(parser.head().field("host"), "a");
}

TEST(RequestParser, WhatTwoReadersCouldTakeDifferentlyIsRefused) {
  const auto with = [](const std::string& fields, const std::string& body = "") {
    return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body;
  };
  EXPECT_EQ(status_of(with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")), 400);
  EXPECT_EQ(status_of(with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n")), 400);
  EXPECT_EQ(status_of(with("Content-Length: 3\r\nContent-Length: 4\r\n", "abc")), 400);
  EXPECT_EQ(status_of(with("Content-Length: 3\r\nContent-Length: 3\r\n", "abc")), 400);
  EXPECT_EQ(status_of(with("Content-Length: 3, 3\r\n", "abc")), 400);
  EXPECT_EQ(status_of(with("Content-Length: -3\r\n")), 400);
  EXPECT_EQ(status_of(with("Content-Length: +3\r\n", "abc")), 400);
  EXPECT_EQ(status_of(with("Content-Length: 0x3\r\n", "abc")), 400);
  EXPECT_EQ(status_of(with("Content-Length: 99999999999999999999999\r\n")), 400);
  EXPECT_EQ(status_of(with("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")), 501);
  EXPECT_EQ(status_of(with("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")), 501);
  EXPECT_EQ(status_of(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
            400);
  EXPECT_EQ(status_of(with("Transfer-Encoding: chunked\r\n", "zz\r\n\r\n")), 400);
  EXPECT_EQ(status_of(with("Content-Length : 3\r\n", "abc")), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
}

TEST(RequestParser, WhatIsNotHttpIsRefused) {
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);  // no Host
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
  EXPECT_EQ(status_of("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"s), 400);
  EXPECT_EQ(status_of("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n"), 417);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n\r\n"), 415);
}

TEST(RequestParser, LimitsHold) {
  HttpLimits limits;
  limits.body_bytes = 4;
  EXPECT_EQ(status_of(std::string(kPost), limits), 413);
  EXPECT_EQ(
      status_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
                limits),
      413);
  std::string fields;
  for (int i = 0; i < 64; ++i) fields += "a: b\r\n";
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n"), 431);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\na: " + std::string(9000, 'b') + "\r\n\r\n"), 431);
  EXPECT_EQ(status_of("GET /" + std::string(9000, 'b') + " HTTP/1.1\r\nHost: a\r\n\r\n"), 431);
}

TEST(RequestParser, OnlyAPlainRequestIdIsTakenOver) {
  const auto id_of = [](const std::string& id) {
    RequestParser parser({});
    feed(parser, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: " + id + "\r\n\r\n", 1000);
    return parser.take().id;
  };
  EXPECT_EQ(id_of("req-1.2:3_4"), "req-1.2:3_4");
  EXPECT_EQ(id_of("a b").size(), 32u);
  EXPECT_EQ(id_of(std::string(129, 'a')).size(), 32u);
}

}  // namespace
}  // namespace stamp
