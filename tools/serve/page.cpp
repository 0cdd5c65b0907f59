#include "tools/serve/page.h"

#include <openssl/evp.h>

#include <array>

#include "kernels/error.h"
#include "tools/serve/page_text.h"

namespace stamp {
namespace {

/// 'sha256-...' of the text between the element's only tags.
std::string hash_of(std::string_view page, const std::string& element) {
  const std::string open = "<" + element + ">", close = "</" + element + ">";
  const size_t begin = page.find(open) + open.size();
  const std::string_view text = page.substr(begin, page.find(close, begin) - begin);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1)
    throw Error("OpenSSL cannot compute SHA-256");
  std::array<unsigned char, 2 * EVP_MAX_MD_SIZE> base64{};
  const int length = EVP_EncodeBlock(base64.data(), digest.data(), int(size));
  return "'sha256-" + std::string(base64.begin(), base64.begin() + length) + "'";
}

}  // namespace

std::string_view chat_page() { return kPageText; }

std::string content_security_policy() {
  return "default-src 'none'; script-src " + hash_of(kPageText, "script") + "; style-src " +
         hash_of(kPageText, "style") +
         "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
}

}  // namespace stamp
