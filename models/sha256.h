#pragma once
#include <filesystem>
#include <string>
#include <string_view>

namespace stamp {

/// SHA-256 as 64 lower-case hex digits.
std::string sha256_hex(std::string_view bytes);
/// Of a file's contents; throws InputError naming a file that cannot be read.
std::string sha256_file(const std::filesystem::path& file);

}  // namespace stamp
