#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace stamp {

/// A client's connection, encrypted or not. One read and one write may be under way at a time. Each has a
/// deadline, after which the server closes the connection.
class Connection {
 public:
  using Clock = std::chrono::steady_clock;
  virtual ~Connection() = default;

  /// Before anything else.
  virtual boost::asio::awaitable<void> handshake() = 0;
  /// 0 at the end. All throw boost::system::system_error for a connection that is broken or closed.
  virtual boost::asio::awaitable<size_t> read_some(std::span<char> bytes) = 0;
  virtual boost::asio::awaitable<size_t> write_some(std::string_view bytes) = 0;
  /// Says that nothing more will be written.
  virtual boost::asio::awaitable<void> shutdown() = 0;
  virtual boost::asio::ip::tcp::socket& socket() = 0;

  /// What is under way ends with an error.
  void close();
  std::string client();  // the address

  Clock::time_point read_deadline = Clock::time_point::max(), write_deadline = Clock::time_point::max();
};

std::unique_ptr<Connection> plain_connection(boost::asio::ip::tcp::socket socket);
/// `context` must outlive it.
std::unique_ptr<Connection> tls_connection(boost::asio::ip::tcp::socket socket,
                                           boost::asio::ssl::context& context);

/// A server's side of TLS 1.2 and later. Throws InputError naming a file that cannot be used.
std::unique_ptr<boost::asio::ssl::context> tls_context(const std::string& certificate_file,
                                                       const std::string& key_file);

}  // namespace stamp
