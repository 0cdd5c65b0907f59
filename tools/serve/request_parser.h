#pragma once
#include <memory>
#include <string_view>

#include "tools/serve/http.h"

namespace stamp {

/// Reads one HTTP/1 request out of a stream of bytes: Boost.Beast's parser, and strict where it is not, so
/// that no proxy can see other requests in the same bytes.
class RequestParser {
 public:
  explicit RequestParser(const HttpLimits& limits);
  ~RequestParser();

  /// Takes bytes from the front of `bytes` and returns how many; hand in the rest again, with more behind it.
  /// Throws HttpError.
  size_t feed(std::string_view bytes);

  bool has_header() const;
  bool done() const;
  /// The client waits for "100 Continue" before it sends the body.
  bool expects_continue() const;
  /// Of the body, as announced; what has arrived so far if it is chunked.
  int64_t body_bytes() const;

  /// The request without its body. Precondition: has_header().
  const HttpRequest& head() const { return head_; }
  /// Precondition: done().
  HttpRequest take();

 private:
  void read_head();

  struct Impl;
  std::unique_ptr<Impl> impl_;
  HttpLimits limits_;
  HttpRequest head_;
  bool head_read_ = false;
};

}  // namespace stamp
