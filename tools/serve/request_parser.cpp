#include "tools/serve/request_parser.h"

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include <algorithm>
#include <cctype>

namespace stamp {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = char(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

bool is_request_id(std::string_view text) {
  return !text.empty() && text.size() <= 128 && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == ':';
  });
}

HttpError translate(const error_code& error) {
  if (error == http::error::body_limit) return {413, "the request body is too large"};
  if (error == http::error::header_limit) return {431, "the request header is too large"};
  if (error == http::error::bad_version) return {505, "the HTTP version is not supported; use HTTP/1.1"};
  return {400, "the request is not valid HTTP: " + error.message()};
}

}  // namespace

struct RequestParser::Impl {
  http::request_parser<http::string_body> parser;
};

RequestParser::RequestParser(const HttpLimits& limits) : impl_(std::make_unique<Impl>()), limits_(limits) {
  impl_->parser.header_limit(uint32_t(limits.header_bytes));
  impl_->parser.body_limit(uint64_t(limits.body_bytes));
}

RequestParser::~RequestParser() = default;

bool RequestParser::has_header() const { return head_read_; }
bool RequestParser::done() const { return head_read_ && impl_->parser.is_done(); }

bool RequestParser::expects_continue() const {
  return !head_.http_1_0 && lower(head_.field("expect")) == "100-continue";
}

int64_t RequestParser::body_bytes() const {
  const auto length = impl_->parser.content_length();
  return std::max(length ? int64_t(*length) : 0, int64_t(impl_->parser.get().body().size()));
}

size_t RequestParser::feed(std::string_view bytes) {
  size_t used = 0;
  while (used < bytes.size() && !done()) {
    error_code error;
    const size_t n = impl_->parser.put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), error);
    used += n;
    if (error && error != http::error::need_more) throw translate(error);
    if (impl_->parser.is_header_done() && !head_read_) {
      read_head();
      break;  // let the header be judged before the body is read
    }
    if (n == 0) break;
  }
  return used;
}

void RequestParser::read_head() {
  const auto& message = impl_->parser.get();
  if (std::distance(message.begin(), message.end()) > limits_.header_fields)
    throw HttpError{431,
                    "the request header has more than " + std::to_string(limits_.header_fields) + " fields"};
  if (message.version() != 10 && message.version() != 11)
    throw HttpError{505, "the HTTP version is not supported; use HTTP/1.1"};
  head_.http_1_0 = message.version() == 10;
  head_.method = std::string(message.method_string());
  head_.target = std::string(message.target());
  head_.path = head_.target.substr(0, head_.target.find('?'));
  head_.keep_alive = message.keep_alive();
  size_t hosts = 0, lengths = 0;
  for (const auto& field : message) {
    head_.fields.emplace(lower(field.name_string()), std::string(field.value()));
    hosts += field.name() == http::field::host;
    if (field.name() == http::field::content_length && (++lengths > 1 || field.value().contains(',')))
      throw HttpError{400, "the request must have one Content-Length"};
    if (field.name() == http::field::transfer_encoding && lower(field.value()) != "chunked")
      throw HttpError{501, "the transfer encoding is not supported; use chunked or Content-Length"};
    if (field.name() == http::field::expect && lower(field.value()) != "100-continue")
      throw HttpError{417, "the expectation is not supported"};
    if (field.name() == http::field::content_encoding && lower(field.value()) != "identity")
      throw HttpError{415, "a compressed request body is not supported"};
  }
  if (head_.path.empty() || head_.path.front() != '/')
    throw HttpError{400, "the request target must be a path"};
  // RFC 9112, sections 3.2 and 6.1
  if (!head_.http_1_0 && hosts != 1) throw HttpError{400, "the request must have one Host field"};
  if (head_.http_1_0 && head_.fields.contains("transfer-encoding"))
    throw HttpError{400, "HTTP/1.0 has no transfer encodings"};
  const std::string_view id = head_.field("x-request-id");
  head_.id = is_request_id(id) ? std::string(id) : random_id();
  head_read_ = true;
}

HttpRequest RequestParser::take() {
  head_.body = std::move(impl_->parser.get().body());
  return std::move(head_);
}

}  // namespace stamp
