#pragma once
#include <chrono>
#include <functional>

#include "models/nlohmann.h"
#include "tools/serve/connection.h"
#include "tools/serve/http.h"

namespace stamp {

/// One request and its answer, as a handler sees them. The client may leave at any time: then gone() holds,
/// and what is sent goes nowhere.
class Exchange {
 public:
  Exchange(HttpRequest request, Connection& connection, const HttpLimits& limits, bool may_keep_alive);

  const HttpRequest& request() const { return request_; }
  /// The body, which is then gone from the request.
  std::string take_body() { return std::move(request_.body); }

  /// The whole answer.
  boost::asio::awaitable<void> respond(HttpResponse response);
  /// An answer in parts: its head (response.body is not looked at), the parts, the end.
  boost::asio::awaitable<void> begin(HttpResponse response);
  boost::asio::awaitable<void> send(std::string_view part);
  boost::asio::awaitable<void> end();
  /// After begin(), instead of end(): the client sees that something is missing.
  void abort();

  bool started() const { return status_ != 0; }
  int status() const { return status_; }
  int64_t sent_bytes() const { return sent_bytes_; }
  std::chrono::steady_clock::time_point start_time() const { return start_; }
  double seconds() const;  // since then
  bool keep_alive() const { return keep_alive_ && !gone_; }

  bool gone() const { return gone_; }
  /// The client has left. Calls what on_gone() set, once.
  void set_gone();
  void on_gone(std::function<void()> action);

  nlohmann::ordered_json log =
      nlohmann::ordered_json::object();  // more fields for the request's line in the log

 private:
  boost::asio::awaitable<void> write(std::string_view bytes);

  HttpRequest request_;
  Connection& connection_;
  const HttpLimits& limits_;
  bool keep_alive_, gone_ = false;
  int status_ = 0;
  int64_t sent_bytes_ = 0;
  std::function<void()> on_gone_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Writes everything. Throws boost::system::system_error if the connection breaks; the server closes it if
/// there is no progress for `timeout`.
boost::asio::awaitable<void> write_all(Connection& connection, std::string_view bytes,
                                       HttpLimits::Seconds timeout);

/// What a server does with requests. Called on the server's thread.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  /// From the head alone, before the body is read: a refusal, or nothing.
  virtual std::optional<HttpResponse> refuse(const HttpRequest& head) = 0;
  /// Must answer in any case, and not throw.
  virtual boost::asio::awaitable<void> handle(Exchange& exchange) = 0;
  /// The answer to a request that is not valid HTTP.
  virtual HttpResponse answer(const HttpError& error) = 0;
  /// After every answer.
  virtual void finished(const Exchange& exchange) = 0;
};

}  // namespace stamp
