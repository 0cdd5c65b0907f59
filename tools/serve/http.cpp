#include "tools/serve/http.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/rand.h>

#include <array>

#include "kernels/error.h"

namespace stamp {

std::string_view HttpRequest::field(const std::string& name) const {
  const auto it = fields.find(name);
  return it == fields.end() ? std::string_view() : std::string_view(it->second);
}

std::string_view reason_phrase(int status) {
  static constexpr std::pair<int, std::string_view> kPhrases[] = {
      {200, "OK"},
      {204, "No Content"},
      {400, "Bad Request"},
      {401, "Unauthorized"},
      {403, "Forbidden"},
      {404, "Not Found"},
      {405, "Method Not Allowed"},
      {408, "Request Timeout"},
      {411, "Length Required"},
      {413, "Content Too Large"},
      {415, "Unsupported Media Type"},
      {417, "Expectation Failed"},
      {429, "Too Many Requests"},
      {431, "Request Header Fields Too Large"},
      {500, "Internal Server Error"},
      {501, "Not Implemented"},
      {503, "Service Unavailable"},
      {505, "HTTP Version Not Supported"},
  };
  for (const auto& [code, phrase] : kPhrases)
    if (code == status) return phrase;
  return "Unknown";
}

std::string response_head(const HttpRequest& request, const HttpResponse& response,
                          std::optional<size_t> length, bool keep_alive) {
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nDate: {:%a, %d %b %Y %H:%M:%S} GMT\r\n", response.status,
                                 reason_phrase(response.status), fmt::gmtime(now));
  const auto field = [&](std::string_view name, std::string_view value) {
    head += fmt::format("{}: {}\r\n", name, value);
  };
  if (!response.content_type.empty()) field("Content-Type", response.content_type);
  field("X-Request-Id", request.id);
  field("X-Content-Type-Options", "nosniff");
  for (const auto& [name, value] : response.fields) field(name, value);
  if (length) {
    if (response.status != 204) field("Content-Length", std::to_string(*length));
  } else if (!request.http_1_0) {
    field("Transfer-Encoding", "chunked");
  }
  field("Connection", keep_alive ? "keep-alive" : "close");
  return head += "\r\n";
}

std::string http_chunk(std::string_view bytes) { return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes); }

std::string random_id() {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), int(bytes.size())) != 1) throw Error("no random numbers from OpenSSL");
  std::string id;
  for (const unsigned char byte : bytes) id += fmt::format("{:02x}", byte);
  return id;
}

}  // namespace stamp
