#include "tools/serve/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <strings.h>

#include <sstream>

#include "kernels/error.h"
#include "models/json.h"

namespace stamp {
namespace {

constexpr std::string_view kScheme = "bearer ";

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

}  // namespace

ApiKeys::Hash ApiKeys::hash(std::string_view key) {
  Hash digest{};
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    if (key.empty()) throw InputError("--api-key: a key may not be empty");
    hashes_.push_back(hash(key));
  }
}

std::vector<std::string> ApiKeys::read_file(const std::string& file) {
  std::vector<std::string> keys;
  std::istringstream lines(stamp::read_file(file, uint64_t{1} << 20));
  for (std::string line; std::getline(lines, line);) {
    const std::string_view key = trim(line);
    if (!key.empty() && key.front() != '#') keys.emplace_back(key);
  }
  if (keys.empty()) throw InputError(file + ": has no API key; write one a line");
  return keys;
}

bool ApiKeys::accept(std::string_view authorization) const {
  if (empty()) return true;
  if (authorization.size() < kScheme.size() ||
      strncasecmp(authorization.data(), kScheme.data(), kScheme.size()) != 0)
    return false;
  const Hash given = hash(trim(authorization.substr(kScheme.size())));
  int found = 0;
  for (const Hash& known : hashes_) found |= CRYPTO_memcmp(given.data(), known.data(), given.size()) == 0;
  return found != 0;
}

}  // namespace stamp
