#include "tools/serve/http_session.h"

#include <array>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace stamp {
namespace {

namespace asio = boost::asio;
using Clock = Connection::Clock;
constexpr size_t kReadBytes = 16 << 10;
constexpr size_t kReadAhead = 64 << 10;              // of further requests, while one is answered
constexpr HttpLimits::Seconds kLinger{2};            // for the client to read the last answer
constexpr int64_t kLingerBytes = int64_t{64} << 20;  // that it may still send

}  // namespace

HttpSession::HttpSession(std::unique_ptr<Connection> connection, Shared& shared)
    : connection_(std::move(connection)),
      shared_(shared),
      client_(connection_->client()),
      body_share_(shared.body_bytes),
      watch_ended_(connection_->socket().get_executor(), Clock::time_point::max()) {}

void HttpSession::set_read_deadline(HttpLimits::Seconds from_now) {
  connection_->read_deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(from_now);
}

void HttpSession::enforce_deadlines(Clock::time_point now) {
  if (now > connection_->read_deadline || now > connection_->write_deadline) connection_->close();
}

void HttpSession::stop_waiting() {
  boost::system::error_code ignored;
  if (idle_) connection_->socket().cancel(ignored);
}

asio::awaitable<void> HttpSession::run() {
  try {
    set_read_deadline(shared_.limits.header_timeout);
    co_await connection_->handshake();
    co_await serve();
  } catch (const boost::system::system_error&) {
    // The client has left, or a deadline closed the connection.
  }
  connection_->close();
}

asio::awaitable<void> HttpSession::serve() {
  bool more = true;
  while (more) more = co_await serve_one();
  if (!broken_) co_await linger();
}

/// False: the connection is to be closed.
asio::awaitable<bool> HttpSession::serve_one() {
  body_share_.set(0);
  RequestParser parser(shared_.limits);
  std::optional<HttpError> error;
  bool complete = false;
  try {
    const bool has_head = co_await read_head(parser);
    if (!has_head) co_return false;
    auto response = shared_.handler->refuse(parser.head());
    if (response) {
      const bool has_body = !parser.done() && parser.body_bytes() != 0;
      response->close |= has_body || parser.head().fields.contains("transfer-encoding");
      const bool keep = !response->close && parser.head().keep_alive && !shared_.draining;
      co_await refuse(parser.head(), *std::move(response));
      if (!keep || broken_) co_return false;
      complete = true;
    } else {
      const bool has_body = co_await read_body(parser);
      if (!has_body) co_return false;
    }
  } catch (const HttpError& e) {
    error = e;
  }
  if (error) {
    HttpRequest head = parser.head();
    if (head.id.empty()) head.id = random_id();
    HttpResponse response = shared_.handler->answer(*error);
    response.close = true;
    co_await refuse(std::move(head), std::move(response));
    co_return false;
  }
  if (complete) co_return true;
  HttpRequest request = parser.take();
  request.client = client_;
  const bool keep = co_await handle(std::move(request));
  co_return keep;
}

/// False at the connection's end.
asio::awaitable<bool> HttpSession::read_more() {
  std::array<char, kReadBytes> bytes;
  const size_t n = co_await connection_->read_some(bytes);
  input_.append(bytes.data(), n);
  broken_ |= n == 0;
  co_return n > 0;
}

asio::awaitable<bool> HttpSession::read_head(RequestParser& parser) {
  idle_ = input_.empty();
  set_read_deadline(idle_ ? shared_.limits.idle_timeout : shared_.limits.header_timeout);
  while (true) {
    input_.erase(0, parser.feed(input_));
    if (parser.has_header()) break;
    if (shared_.draining && idle_) co_return false;
    const bool more = co_await read_more();
    if (!more) co_return false;
    if (idle_) set_read_deadline(shared_.limits.header_timeout);
    idle_ = false;
  }
  idle_ = false;
  co_return true;
}

asio::awaitable<bool> HttpSession::read_body(RequestParser& parser) {
  set_read_deadline(shared_.limits.body_timeout);
  if (parser.expects_continue() && !parser.done())
    co_await write_all(*connection_, "HTTP/1.1 100 Continue\r\n\r\n", shared_.limits.write_timeout);
  while (!parser.done()) {
    body_share_.set(parser.body_bytes());
    if (shared_.body_bytes > shared_.limits.all_body_bytes)
      throw HttpError{503, "too many large requests at once; try again later"};
    const size_t used = parser.feed(input_);
    input_.erase(0, used);
    if (parser.done()) break;
    bool more = true;
    if (used == 0) more = co_await read_more();
    if (!more) co_return false;
  }
  connection_->read_deadline = Clock::time_point::max();
  co_return true;
}

asio::awaitable<void> HttpSession::refuse(HttpRequest head, HttpResponse response) {
  head.client = client_;
  Exchange exchange(std::move(head), *connection_, shared_.limits, !shared_.draining);
  co_await exchange.respond(std::move(response));
  broken_ |= exchange.gone();
  shared_.handler->finished(exchange);
}

/// False: the connection is to be closed.
asio::awaitable<bool> HttpSession::handle(HttpRequest request) {
  Exchange exchange(std::move(request), *connection_, shared_.limits, !shared_.draining);
  watching_ = true;
  watch_ended_.expires_at(Clock::time_point::max());
  asio::co_spawn(connection_->socket().get_executor(), watch(exchange),
                 asio::bind_cancellation_slot(stop_watching_.slot(), [this](const std::exception_ptr&) {
                   watching_ = false;
                   watch_ended_.cancel();
                 }));
  co_await shared_.handler->handle(exchange);
  stop_watching_.emit(asio::cancellation_type::terminal);
  while (watching_) {
    boost::system::error_code ignored;
    co_await watch_ended_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  shared_.handler->finished(exchange);
  broken_ |= exchange.gone();
  co_return exchange.keep_alive();
}

/// While a request is answered: reads what else the client sends, which shows when it leaves.
asio::awaitable<void> HttpSession::watch(Exchange& exchange) {
  std::array<char, kReadBytes> bytes;
  while (input_.size() < kReadAhead) {
    size_t n = 0;
    try {
      n = co_await connection_->read_some(bytes);
    } catch (const boost::system::system_error& e) {
      if (e.code() == asio::error::operation_aborted && connection_->socket().is_open()) co_return;
    }
    if (n == 0) {
      exchange.set_gone();
      co_return;
    }
    input_.append(bytes.data(), n);
  }
}

/// Lets the client read the last answer: a connection closed with unread input would take it away.
asio::awaitable<void> HttpSession::linger() {
  set_read_deadline(kLinger);
  connection_->write_deadline = connection_->read_deadline;
  co_await connection_->shutdown();
  std::array<char, kReadBytes> bytes;
  for (int64_t left = kLingerBytes; left > 0;) {
    const size_t n = co_await connection_->read_some(bytes);
    if (n == 0) break;
    left -= int64_t(n);
  }
}

}  // namespace stamp
