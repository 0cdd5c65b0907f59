#include "tools/serve/exchange.h"

#include <utility>

namespace stamp {

namespace asio = boost::asio;

asio::awaitable<void> write_all(Connection& connection, std::string_view bytes, HttpLimits::Seconds timeout) {
  using Clock = Connection::Clock;
  while (!bytes.empty()) {
    connection.write_deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout);
    bytes.remove_prefix(co_await connection.write_some(bytes));
  }
  connection.write_deadline = Clock::time_point::max();
}

Exchange::Exchange(HttpRequest request, Connection& connection, const HttpLimits& limits, bool may_keep_alive)
    : request_(std::move(request)),
      connection_(connection),
      limits_(limits),
      keep_alive_(may_keep_alive && request_.keep_alive) {}

double Exchange::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Exchange::on_gone(std::function<void()> action) {
  on_gone_ = std::move(action);
  if (gone_ && on_gone_) std::exchange(on_gone_, nullptr)();
}

void Exchange::set_gone() {
  gone_ = true;
  if (on_gone_) std::exchange(on_gone_, nullptr)();
}

asio::awaitable<void> Exchange::write(std::string_view bytes) {
  if (gone_) co_return;
  sent_bytes_ += int64_t(bytes.size());
  try {
    co_await write_all(connection_, bytes, limits_.write_timeout);
  } catch (const boost::system::system_error&) {
    set_gone();
  }
}

asio::awaitable<void> Exchange::respond(HttpResponse response) {
  status_ = response.status;
  keep_alive_ = keep_alive_ && !response.close;
  std::string bytes = response_head(request_, response, response.body.size(), keep_alive_);
  if (request_.method != "HEAD") bytes += response.body;
  co_await write(bytes);
}

asio::awaitable<void> Exchange::begin(HttpResponse response) {
  status_ = response.status;
  keep_alive_ = keep_alive_ && !response.close && !request_.http_1_0;  // its end is the connection's
  const std::string head = response_head(request_, response, std::nullopt, keep_alive_);
  co_await write(head);
}

asio::awaitable<void> Exchange::send(std::string_view part) {
  if (part.empty()) co_return;  // an empty chunk would be the end
  const std::string bytes = request_.http_1_0 ? std::string(part) : http_chunk(part);
  co_await write(bytes);
}

asio::awaitable<void> Exchange::end() {
  if (!request_.http_1_0) co_await write("0\r\n\r\n");
}

void Exchange::abort() { keep_alive_ = false; }

}  // namespace stamp
