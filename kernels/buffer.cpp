#include "kernels/buffer.h"

#include <sys/mman.h>

#include <cstring>

namespace stamp {

void* allocate_aligned(int64_t bytes) {
  constexpr int64_t kHugePage = int64_t{2} << 20;
  const int64_t alignment = bytes >= kHugePage ? kHugePage : 64;
  if (bytes < 0 || bytes > INT64_MAX - alignment) throw std::bad_alloc();
  const int64_t rounded = (bytes + 63) / 64 * 64;
  void* memory =
      std::aligned_alloc(size_t(alignment), size_t((rounded + alignment - 1) / alignment * alignment));
  if (memory == nullptr) throw std::bad_alloc();
  // Whole huge pages only: a partly used last one would be resident in full.
  if (rounded >= kHugePage) madvise(memory, size_t(rounded / kHugePage * kHugePage), MADV_HUGEPAGE);
  std::memset(memory, 0, size_t(rounded));
  return memory;
}

}  // namespace stamp
