#pragma once
#include <array>
#include <cstdint>
#include <vector>

/// What a thread knows of its part of wgmma's products, which the executors keep for ptx.cpp.
namespace stamp::cuda_on_host {

struct AsyncProduct {
  int32_t* d;
  const uint32_t* a;
  std::array<uint32_t, 4> a_was;  // when it began
  uint64_t b;                     // descriptor
  uint32_t began;                 // moment()
};

/// Registers of sums that products under way add to. In between they hold poison: `value` is theirs.
struct AsyncSums {
  int32_t* d;
  std::array<int32_t, 64> value;
  int products;  // under way
};

struct AsyncProducts {
  std::vector<AsyncProduct> all;  // under way, the oldest first
  std::vector<size_t> groups;     // where each committed group of them ends
  std::vector<AsyncSums> sums;
  bool fenced = false;  // since the last group
  uint64_t told = 0;    // of all that began, the same in all threads of a group of four warps

  /// Whether products under way use registers among these bytes.
  bool use(const void* p, size_t size) const {
    const auto overlap = [&](const void* q, size_t bytes) {
      const auto *a = static_cast<const char*>(p), *b = static_cast<const char*>(q);
      return a < b + bytes && b < a + size;
    };
    for (const AsyncSums& s : sums)
      if (overlap(s.d, sizeof(s.value))) return true;
    for (const AsyncProduct& product : all)
      if (overlap(product.a, sizeof(product.a_was))) return true;
    return false;
  }
};

}  // namespace stamp::cuda_on_host
