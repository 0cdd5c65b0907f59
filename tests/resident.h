#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

namespace stamp {

/// Of a mapping, those bytes whose pages this process has in its page table.
inline size_t resident_bytes(std::span<const std::byte> bytes) {
  const auto page = uintptr_t(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()), end = begin + bytes.size(),
             first = begin / page;
  std::vector<uint64_t> entries((end + page - 1) / page - first);
  const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  const auto size = ssize_t(entries.size() * sizeof(uint64_t));
  const bool complete = pread(pagemap, entries.data(), size_t(size), off_t(first * sizeof(uint64_t))) == size;
  close(pagemap);
  if (!complete) throw std::runtime_error("cannot read /proc/self/pagemap");
  size_t resident = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    const uintptr_t at = (first + i) * page;
    if (entries[i] >> 63 != 0) resident += std::min(at + page, end) - std::max(at, begin);
  }
  return resident;
}

}  // namespace stamp
