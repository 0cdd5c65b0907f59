#include "models/file.h"

#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>

#include "kernels/error.h"

namespace stamp {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

bool is_present(const std::filesystem::path& file) {
  std::error_code error;
  const auto type = std::filesystem::symlink_status(file, error).type();
  return type != std::filesystem::file_type::none && type != std::filesystem::file_type::not_found;
}

int64_t available_memory() {
  int64_t bytes = INT64_MAX, kilobytes = 0;
  std::string word;
  for (std::ifstream info("/proc/meminfo"); info >> word;)
    if (word == "MemAvailable:" && info >> kilobytes) bytes = kilobytes << 10;
  int64_t limit = 0;  // reads as "max" where there is none
  for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"})
    if (std::ifstream(file) >> limit) bytes = std::min(bytes, limit);
  return bytes;
}

void release_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

namespace {

/// Addresses from a huge page's boundary on, and nothing mapped there that anyone may use.
std::byte* reserve(size_t bytes) {
  void* memory =
      mmap(nullptr, bytes + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  auto* begin = static_cast<std::byte*>(memory);
  const size_t before = -reinterpret_cast<uintptr_t>(memory) % kHugePage;
  const size_t page = size_t(sysconf(_SC_PAGESIZE)), kept = (bytes + page - 1) / page * page;
  if (before > 0) munmap(begin, before);
  munmap(begin + before + kept, kHugePage - before);
  return begin + before;
}

/// Whether all of the bytes were read.
bool read_at(int descriptor, std::byte* memory, size_t bytes, size_t offset) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = pread(descriptor, memory + done, bytes - done, off_t(offset + done));
    if (got > 0) done += size_t(got);
    else if (got == 0 || errno != EINTR) return false;
  }
  return true;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& file) {
  const auto fail = [&](const std::string& what) {
    if (descriptor_ >= 0) close(descriptor_);
    throw InputError(file.string() + ": " + what);
  };
  descriptor_ = open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not make us wait
  if (descriptor_ < 0) fail(std::string("cannot be opened: ") + std::strerror(errno));
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) fail("not a regular file");
  if (status.st_size == 0) fail("is empty");
  const auto size = size_t(status.st_size);
  std::byte* memory = reserve(size);
  if (memory == nullptr ||
      mmap(memory, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, descriptor_, 0) == MAP_FAILED) {
    const std::string why = std::strerror(errno);
    if (memory != nullptr) munmap(memory, size);
    fail("cannot be mapped: " + why);
  }
  madvise(memory, size, MADV_WILLNEED);
  bytes_ = {memory, size};
}

void MappedFile::move_to_huge_pages(const std::stop_token& stop) {
  auto* target = const_cast<std::byte*>(bytes_.data());
  const size_t whole = bytes_.size() / kHugePage * kHugePage;
  // One region for all huge pages: neighbours moved out of it become one mapping again.
  std::byte* source = whole > 0 ? reserve(whole) : nullptr;
  if (source == nullptr) return;
  size_t done = 0;
  for (; done < whole && !stop.stop_requested(); done += kHugePage) {
    std::byte* memory = source + done;
    if (left_begin_ <= done && done < left_end_) {
      munmap(memory, kHugePage);
      continue;
    }
    // Moving under a new mapping is one step for everyone else: a reader's page fault waits for its end.
    const bool moved =
        mprotect(memory, kHugePage, PROT_READ | PROT_WRITE) == 0 &&
        madvise(memory, kHugePage, MADV_HUGEPAGE) == 0 && read_at(descriptor_, memory, kHugePage, done) &&
        mprotect(memory, kHugePage, PROT_READ) == 0 &&
        mremap(memory, kHugePage, kHugePage, MREMAP_MAYMOVE | MREMAP_FIXED, target + done) != MAP_FAILED;
    if (!moved) break;
  }
  if (done < whole) munmap(source + done, whole - done);
}

bool MappedFile::collapse_to_huge_pages(const std::stop_token& stop) {
#ifdef MADV_COLLAPSE
  constexpr int kCollapse = MADV_COLLAPSE;
#else
  constexpr int kCollapse = 25;  // of Linux 6.1, later than Debian 12's headers
#endif
  constexpr int kTries = 10;  // another processor may hold a page for the moment (EAGAIN)
  auto* target = const_cast<std::byte*>(bytes_.data());
  for (size_t done = 0; done + kHugePage <= bytes_.size(); done += kHugePage) {
    if (left_begin_ <= done && done < left_end_) continue;
    if (stop.stop_requested()) return false;
    for (int tries = 1; madvise(target + done, kHugePage, kCollapse) != 0; ++tries)
      if (errno != EAGAIN || tries == kTries) return false;
  }
  return true;
}

void MappedFile::leave_mapped(std::span<const std::byte> scattered) {
  const auto first = reinterpret_cast<uintptr_t>(bytes_.data()), last = first + bytes_.size(),
             begin = reinterpret_cast<uintptr_t>(scattered.data()), end = begin + scattered.size();
  if (begin < first || end > last) return;  // of another file
  left_begin_ = (begin - first + kHugePage - 1) / kHugePage * kHugePage;
  left_end_ = std::max(left_begin_, (end - first) / kHugePage * kHugePage);
}

bool MappedFile::copy(const std::byte* from, std::span<std::byte> to) const {
  if (from < bytes_.data() || from + to.size() > bytes_.data() + bytes_.size()) return false;
  if (!read_at(descriptor_, to.data(), to.size(), size_t(from - bytes_.data())))
    std::memcpy(to.data(), from, to.size());
  return true;
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(bytes_, other.bytes_);
  std::swap(left_begin_, other.left_begin_);
  std::swap(left_end_, other.left_end_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (descriptor_ >= 0) close(descriptor_);
}

}  // namespace stamp
