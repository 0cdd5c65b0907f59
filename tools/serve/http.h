#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stamp {

/// What a client may cost. Whoever goes beyond is answered with an error if that is possible, and cut off.
struct HttpLimits {
  using Seconds = std::chrono::duration<double>;
  int64_t body_bytes = int64_t{16} << 20;
  int64_t all_body_bytes = int64_t{512} << 20;  // of all requests that are read or answered
  int64_t header_bytes = 8 << 10;
  int64_t header_fields = 64;
  int64_t connections = 4096;
  int64_t pending_bytes = 1 << 20;  // of an answer that the client does not read
  Seconds header_timeout{10};       // from the first byte (or the connection's begin) to the header's end
  Seconds body_timeout{60};
  Seconds idle_timeout{75};   // between requests
  Seconds write_timeout{30};  // without progress
};

struct HttpRequest {
  std::string method{}, target{};               // as sent
  std::string path{};                           // of the target, without the query
  std::map<std::string, std::string> fields{};  // by name in lower case; the first of equal names
  std::string body{};
  bool keep_alive = true, http_1_0 = false;
  std::string id{}, client{};  // x-request-id, or one made here; the address

  /// Empty if there is none.
  std::string_view field(const std::string& name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> fields{};
  bool close = false;  // the connection, after this
};

/// A request that cannot be understood or goes beyond a limit; nothing after it on the connection can be
/// trusted.
struct HttpError {
  int status = 400;
  std::string message{};
};

std::string_view reason_phrase(int status);
/// The head of an answer, up to and with the empty line. `length`: of the body; nothing: chunked, or up to
/// the connection's end for a client of HTTP/1.0.
std::string response_head(const HttpRequest& request, const HttpResponse& response,
                          std::optional<size_t> length, bool keep_alive);
/// One chunk of a chunked body.
std::string http_chunk(std::string_view bytes);

/// 32 hex digits that nobody can guess.
std::string random_id();

}  // namespace stamp
