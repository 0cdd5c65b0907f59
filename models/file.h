#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stop_token>

namespace stamp {

/// Whether there is an entry of this name, be it a dangling link: what is there is read, and an error if it
/// cannot be.
bool is_present(const std::filesystem::path& file);

/// Memory that this process can still take without swapping: the system's estimate, and no more than the
/// limit of the control group it runs in. Page cache counts as free.
int64_t available_memory();

/// Gives the system back what the allocator keeps of freed memory.
void release_freed_memory();

/// A file mapped read-only. Move-only.
class MappedFile {
 public:
  MappedFile() = default;
  /// Throws InputError naming the file if it is missing, empty, unreadable or no regular file.
  explicit MappedFile(const std::filesystem::path& file);
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

  /// Replaces the mapping, page by page, by the same bytes in huge pages at the same addresses, through
  /// which a core streams much faster than through a file's small pages. Others may read the bytes meanwhile.
  /// Ends early when asked to stop, or when the system has no memory or the file no bytes to give: what is
  /// not moved stays mapped.
  void move_to_huge_pages(const std::stop_token& stop);
  /// The same without copies: the file's own pages become huge ones, which all processes that map it share.
  /// What tmpfs (/dev/shm) can; other file systems only under a Linux with CONFIG_READ_ONLY_THP_FOR_FS. False
  /// if it ended early.
  bool collapse_to_huge_pages(const std::stop_token& stop);
  /// Before either: the huge pages that lie in `scattered`, bytes of which few are read at a time, shall
  /// stay.
  void leave_mapped(std::span<const std::byte> scattered);
  /// Copies bytes of the mapping, whose pages do not become resident by that. False if they are not its own.
  bool copy(const std::byte* from, std::span<std::byte> to) const;

 private:
  int descriptor_ = -1;
  std::span<const std::byte> bytes_;      // begins on a huge page's boundary
  size_t left_begin_ = 0, left_end_ = 0;  // offsets of what stays mapped, whole huge pages
};

}  // namespace stamp
