#include "tools/serve/connection.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "kernels/error.h"

namespace stamp {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

template <class Stream>
asio::awaitable<size_t> read_from(Stream& stream, std::span<char> bytes) {
  error_code error;
  const size_t n = co_await stream.async_read_some(asio::buffer(bytes.data(), bytes.size()),
                                                   asio::redirect_error(asio::use_awaitable, error));
  if (error == asio::error::eof || error == asio::ssl::error::stream_truncated) co_return 0;
  if (error) throw boost::system::system_error(error);
  co_return n;
}

template <class Stream>
asio::awaitable<size_t> write_to(Stream& stream, std::string_view bytes) {
  co_return co_await stream.async_write_some(asio::buffer(bytes.data(), bytes.size()), asio::use_awaitable);
}

class PlainConnection : public Connection {
 public:
  explicit PlainConnection(tcp::socket socket) : socket_(std::move(socket)) {}
  asio::awaitable<void> handshake() override { co_return; }
  asio::awaitable<size_t> read_some(std::span<char> bytes) override { return read_from(socket_, bytes); }
  asio::awaitable<size_t> write_some(std::string_view bytes) override { return write_to(socket_, bytes); }
  asio::awaitable<void> shutdown() override {
    error_code ignored;
    socket_.shutdown(tcp::socket::shutdown_send, ignored);
    co_return;
  }
  tcp::socket& socket() override { return socket_; }

 private:
  tcp::socket socket_;
};

class TlsConnection : public Connection {
 public:
  TlsConnection(tcp::socket socket, asio::ssl::context& context) : stream_(std::move(socket), context) {}
  asio::awaitable<void> handshake() override {
    co_await stream_.async_handshake(asio::ssl::stream_base::server, asio::use_awaitable);
  }
  asio::awaitable<size_t> read_some(std::span<char> bytes) override { return read_from(stream_, bytes); }
  asio::awaitable<size_t> write_some(std::string_view bytes) override { return write_to(stream_, bytes); }
  asio::awaitable<void> shutdown() override {
    error_code ignored;
    co_await stream_.async_shutdown(asio::redirect_error(asio::use_awaitable, ignored));
  }
  tcp::socket& socket() override { return stream_.next_layer(); }

 private:
  asio::ssl::stream<tcp::socket> stream_;
};

}  // namespace

void Connection::close() {
  error_code ignored;
  socket().close(ignored);
}

std::string Connection::client() {
  error_code error;
  const auto endpoint = socket().remote_endpoint(error);
  return error ? std::string("unknown") : endpoint.address().to_string();
}

std::unique_ptr<Connection> plain_connection(tcp::socket socket) {
  return std::make_unique<PlainConnection>(std::move(socket));
}

std::unique_ptr<Connection> tls_connection(tcp::socket socket, asio::ssl::context& context) {
  return std::make_unique<TlsConnection>(std::move(socket), context);
}

std::unique_ptr<asio::ssl::context> tls_context(const std::string& certificate_file,
                                                const std::string& key_file) {
  auto context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  context->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                       asio::ssl::context::no_tlsv1_1);
  error_code error;
  context->use_certificate_chain_file(certificate_file, error);
  if (error)
    throw InputError(certificate_file + ": not a readable certificate in PEM form: " + error.message());
  context->use_private_key_file(key_file, asio::ssl::context::pem, error);
  if (error)
    throw InputError(key_file + ": not a readable private key in PEM form that belongs to " +
                     certificate_file + ": " + error.message());
  return context;
}

}  // namespace stamp
