#pragma once
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>

#include "tools/serve/exchange.h"
#include "tools/serve/request_parser.h"

namespace stamp {

/// One client's connection: reads its requests one after the other and hands them to the handler; meanwhile
/// it notices if the client leaves.
class HttpSession {
 public:
  /// What the sessions of a server have in common. Must outlive them.
  struct Shared {
    HttpLimits limits{};
    HttpHandler* handler = nullptr;
    bool draining = false;
    int64_t body_bytes = 0;  // of all requests that are read or answered
  };
  HttpSession(std::unique_ptr<Connection> connection, Shared& shared);

  /// Ends when the connection is closed.
  boost::asio::awaitable<void> run();
  /// Closes the connection if one of its deadlines has passed.
  void enforce_deadlines(Connection::Clock::time_point now);
  /// Ends if no request is under way; one that has arrived already is answered.
  void stop_waiting();

 private:
  boost::asio::awaitable<void> serve();
  boost::asio::awaitable<bool> serve_one();
  boost::asio::awaitable<bool> read_head(RequestParser& parser);
  boost::asio::awaitable<bool> read_body(RequestParser& parser);
  boost::asio::awaitable<bool> read_more();
  boost::asio::awaitable<void> refuse(HttpRequest head, HttpResponse response);
  boost::asio::awaitable<bool> handle(HttpRequest request);
  boost::asio::awaitable<void> watch(Exchange& exchange);
  boost::asio::awaitable<void> linger();
  void set_read_deadline(HttpLimits::Seconds from_now);

  std::unique_ptr<Connection> connection_;
  Shared& shared_;
  std::string client_;
  std::string input_;  // read and not yet parsed
  bool idle_ = false, broken_ = false;

  /// What the request's body takes of all_body_bytes.
  struct BodyShare {
    explicit BodyShare(int64_t& all) : total(all) {}
    ~BodyShare() { set(0); }
    BodyShare(const BodyShare&) = delete;
    BodyShare& operator=(const BodyShare&) = delete;
    void set(int64_t bytes) {
      total += bytes - own;
      own = bytes;
    }
    int64_t& total;
    int64_t own = 0;
  } body_share_;

  boost::asio::cancellation_signal stop_watching_;
  boost::asio::steady_timer watch_ended_;
  bool watching_ = false;
};

}  // namespace stamp
