#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace stamp {

/// The keys that clients may present. How long a comparison takes says nothing about the keys.
class ApiKeys {
 public:
  ApiKeys() = default;  // none: everybody may
  /// Throws InputError for an empty key.
  explicit ApiKeys(const std::vector<std::string>& keys);
  /// One key a line; empty lines and those that begin with # are left out.
  static std::vector<std::string> read_file(const std::string& file);

  bool empty() const { return hashes_.empty(); }
  /// `authorization`: the header field, "Bearer <key>".
  bool accept(std::string_view authorization) const;

 private:
  using Hash = std::array<unsigned char, 32>;
  static Hash hash(std::string_view key);
  std::vector<Hash> hashes_;
};

}  // namespace stamp
