#pragma once
#include <boost/asio/io_context.hpp>
#include <list>
#include <memory>

#include "tools/serve/http_session.h"

namespace stamp {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8080;                        // 0: any that is free
  std::string certificate_file{}, key_file{};  // PEM; both or none
  HttpLimits limits{};
};

/// Accepts connections and runs their sessions, all on the thread that runs `context`.
class HttpServer {
 public:
  /// Listens at once. Throws InputError if it cannot. The first two arguments must outlive this.
  HttpServer(boost::asio::io_context& context, HttpHandler& handler, const HttpServerOptions& options);
  ~HttpServer();

  const std::string& url() const { return url_; }
  /// Begins to accept.
  void start();
  /// Accepts no more, lets the requests under way end, and calls `done` when all connections are closed.
  void drain(std::function<void()> done);
  int64_t connections() const { return int64_t(sessions_.size()); }

 private:
  boost::asio::awaitable<void> accept();
  boost::asio::awaitable<void> sweep();
  void open(boost::asio::ip::tcp::socket socket);
  void ended(std::list<HttpSession>::iterator session);

  boost::asio::io_context& context_;
  std::unique_ptr<boost::asio::ssl::context> tls_;  // null: not encrypted
  boost::asio::ip::tcp::acceptor acceptor_;
  std::string url_;
  HttpSession::Shared shared_;
  std::list<HttpSession> sessions_;
  std::function<void()> drained_;
};

}  // namespace stamp
