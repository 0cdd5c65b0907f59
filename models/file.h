#pragma once
#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace stamp {

/// Whether there is an entry of this name, be it a dangling link: what is there is read, and an error if it
/// cannot be.
bool is_present(const std::filesystem::path& file);

/// A file mapped read-only. Move-only.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws InputError naming the file if it is missing, empty, unreadable or no regular file.
  explicit MappedFile(const std::filesystem::path& file);
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace stamp
