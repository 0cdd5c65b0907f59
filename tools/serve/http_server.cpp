#include "tools/serve/http_server.h"

#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "kernels/error.h"

namespace stamp {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
constexpr auto kSweep = std::chrono::milliseconds(100);  // between two looks at the deadlines
constexpr auto kRetry = std::chrono::milliseconds(100);  // after a failed accept

tcp::endpoint resolve(asio::io_context& context, const HttpServerOptions& options) {
  error_code error;
  const auto results = tcp::resolver(context).resolve(options.host, std::to_string(options.port),
                                                      tcp::resolver::passive, error);
  if (error || results.empty())
    throw InputError("--host " + options.host + ": not an address of this machine: " + error.message());
  return results.begin()->endpoint();
}

}  // namespace

HttpServer::HttpServer(asio::io_context& context, HttpHandler& handler, const HttpServerOptions& options)
    : context_(context), acceptor_(context), shared_{.limits = options.limits, .handler = &handler} {
  if (options.certificate_file.empty() != options.key_file.empty())
    throw InputError("--tls-cert and --tls-key belong together: give both or none");
  if (!options.certificate_file.empty()) tls_ = tls_context(options.certificate_file, options.key_file);
  const tcp::endpoint endpoint = resolve(context, options);
  error_code error;
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(tcp::acceptor::max_listen_connections, error);
  if (error)
    throw InputError(
        fmt::format("cannot listen on {}, port {}: {}", options.host, options.port, error.message()));
  const auto local = acceptor_.local_endpoint();
  const std::string address = local.address().to_string();
  url_ = fmt::format("{}://{}:{}", tls_ ? "https" : "http",
                     local.address().is_v6() ? "[" + address + "]" : address, local.port());
}

HttpServer::~HttpServer() = default;

void HttpServer::start() {
  asio::co_spawn(context_, accept(), asio::detached);
  asio::co_spawn(context_, sweep(), asio::detached);
}

asio::awaitable<void> HttpServer::accept() {
  asio::steady_timer pause(context_);
  while (acceptor_.is_open()) {
    error_code error;
    tcp::socket socket = co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (!error) {
      open(std::move(socket));
    } else if (error != asio::error::operation_aborted) {  // too many open files
      pause.expires_after(kRetry);
      co_await pause.async_wait(asio::use_awaitable);
    }
  }
}

void HttpServer::open(tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  if (connections() >= shared_.limits.connections) {
    static constexpr std::string_view kFull =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: "
        "close\r\n\r\n";
    socket.non_blocking(true, ignored);
    if (!tls_) socket.write_some(asio::buffer(kFull), ignored);
    return;
  }
  auto connection = tls_ ? tls_connection(std::move(socket), *tls_) : plain_connection(std::move(socket));
  sessions_.emplace_back(std::move(connection), shared_);
  const auto session = std::prev(sessions_.end());
  asio::co_spawn(context_, session->run(), [this, session](const std::exception_ptr&) {
    asio::post(context_, [this, session] { ended(session); });
  });
}

void HttpServer::ended(std::list<HttpSession>::iterator session) {
  sessions_.erase(session);
  if (shared_.draining && sessions_.empty() && drained_) std::exchange(drained_, nullptr)();
}

asio::awaitable<void> HttpServer::sweep() {
  asio::steady_timer timer(context_);
  while (true) {
    timer.expires_after(kSweep);
    co_await timer.async_wait(asio::use_awaitable);
    const auto now = Connection::Clock::now();
    for (HttpSession& session : sessions_) session.enforce_deadlines(now);
  }
}

void HttpServer::drain(std::function<void()> done) {
  shared_.draining = true;
  drained_ = std::move(done);
  error_code ignored;
  acceptor_.close(ignored);
  for (HttpSession& session : sessions_) session.stop_waiting();
  if (sessions_.empty() && drained_) std::exchange(drained_, nullptr)();
}

}  // namespace stamp
