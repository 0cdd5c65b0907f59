#include "kernels/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace stamp {
namespace {

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

class HostMemory final : public Memory {
 public:
  void* allocate(int64_t bytes) override { return allocate_aligned(bytes); }
  void release(void* pointer) override { std::free(pointer); }
  void write(void* to, const void* from, int64_t bytes) override { std::memcpy(to, from, size_t(bytes)); }
  void read(void* to, const void* from, int64_t bytes) override { std::memcpy(to, from, size_t(bytes)); }
};

}  // namespace

Memory& host_memory() {
  static HostMemory memory;
  return memory;
}

}  // namespace stamp
