// The functions of kernels/cuda/ptx.cuh by the definitions of the PTX ISA.
#include "kernels/cuda/ptx.cuh"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/cuda_on_host/executor.h"

namespace stamp::cuda {
namespace {

using cuda_on_host::AsyncProduct;
using cuda_on_host::AsyncProducts;
using cuda_on_host::AsyncSums;
using cuda_on_host::kWarp;

struct Fragments {
  int32_t (&d)[4];
  const uint32_t (&a)[4], (&b)[2];
  const int32_t (&c)[4];
};

/// The elements of a register as bytes. 4-bit ones come out even before odd: the order along k is free, as
/// long as it is that of both operands.
template <int kBits>
std::array<uint8_t, 32 / kBits> elements(uint32_t word) {
  if constexpr (kBits == 8) return std::bit_cast<std::array<uint8_t, 4>>(word);
  else
    return std::bit_cast<std::array<uint8_t, 8>>(uint64_t{word & 0x0f0f0f0fu} |
                                                 uint64_t{word >> 4 & 0x0f0f0f0fu} << 32);
}

template <class T>
using Eight [[gnu::vector_size(8 * sizeof(T))]] = T;
using Columns = Eight<float>;

/// d [16, 8] = a [16, k] b [k, 8] + c: unpacks the lanes' fragments into matrices, multiplies, hands back.
/// Floats hold every sum of such a product exactly: 64 * 255^2 < 2^24.
template <int kBits, class A, class B>
const char* multiply(void* const (&payloads)[kWarp], uint32_t mask) {
  if (mask != ~0u) return "mma needs all 32 lanes";
  constexpr int kPer = 32 / kBits, kK = 8 * kPer;  // elements of a register, of the product
  A a[16][kK];
  B b[kK][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& f = *static_cast<Fragments*>(payloads[lane]);
    const int group = lane / 4, four = lane % 4;
    for (int reg = 0; reg < 4; ++reg) {
      const auto bytes = elements<kBits>(f.a[reg]);
      std::memcpy(&a[group + reg % 2 * 8][reg / 2 * kK / 2 + four * kPer], bytes.data(), kPer);
    }
    for (int reg = 0; reg < 2; ++reg) {
      const auto bytes = elements<kBits>(f.b[reg]);
      for (int i = 0; i < kPer; ++i) b[reg * kK / 2 + four * kPer + i][group] = B(bytes[size_t(i)]);
    }
  }
  Columns wide_b[kK], product[16];
  for (int k = 0; k < kK; ++k) {
    Eight<B> row;
    std::memcpy(&row, b[k], 8);
    wide_b[k] = __builtin_convertvector(row, Columns);
  }
  for (int row = 0; row < 16; ++row) {
    Columns sums[4] = {};  // chains of a quarter the length
    for (int k = 0; k < kK; k += 4)
      for (int part = 0; part < 4; ++part) sums[part] += float(a[row][k + part]) * wide_b[k + part];
    product[row] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& f = *static_cast<Fragments*>(payloads[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, col = lane % 4 * 2 + i % 2;
      f.d[i] = int32_t(uint32_t(f.c[i]) + uint32_t(int32_t(product[row][col])));
    }
  }
  return nullptr;
}

template <int kBits, class A, class B>
void mma(const char* name, int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
         const int32_t (&c)[4], const void* site) {
  Fragments fragments{d, a, b, c};
  cuda_on_host::warp_collective(~0u, &fragments, multiply<kBits, A, B>, site);
  cuda_on_host::count_instruction(name);
}

/// A descriptor of wgmma (section 9.7.15.5.2.2): rows of bytes in eights, under 128-byte swizzling, which
/// permutes the 16-byte chunks of lines by three bits of the address above them. The leading dimension's
/// offset is not used under swizzling.
struct SwizzledRows {
  explicit SwizzledRows(uint64_t bits) : bits(bits) {}
  uint32_t field(int at) const { return uint32_t(bits >> at & 0x3fff) << 4; }
  const char* wrong() const {
    if (bits >> 62 != 1) return "the descriptor's swizzling is not that of 128 bytes";
    if ((bits >> 49 & 7) != 0) return "the descriptor has a base offset, which is not known here";
    return nullptr;
  }
  /// 16 bytes of a row, from byte `k` on.
  const uint8_t* chunk(int row, int k) const {
    const uint32_t address = field(0) + uint32_t(row) / 8 * field(32) + uint32_t(row) % 8 * 128 + uint32_t(k);
    return cuda_on_host::shared_at(address ^ (address >> 7 & 7) << 4);
  }
  uint64_t bits;
};

constexpr int kWgmmaRows = 128, kWgmmaDepth = 32, kWgmmaChunk = 16;
constexpr int32_t kPoisonedSum = int32_t(0xcbcbcbcb);

/// The tensor cores read the operand: by each lane a part, for who watches.
void read_rows(uint64_t b, uint32_t since) {
  const SwizzledRows rows(b);
  for (int row = 0; row < kWgmmaRows; ++row)
    for (int k = 0; k < kWgmmaDepth; k += kWgmmaChunk)
      cuda_on_host::async_read_of_lane(row % kWarp, rows.chunk(row, k), kWgmmaChunk, since);
}

const char* begin_wgmma(void* const (&payloads)[kWarp], uint32_t mask) {
  if (mask != ~0u) return "wgmma needs all 32 lanes";
  const uint32_t now = cuda_on_host::moment();
  const uint64_t b = static_cast<AsyncProducts*>(payloads[0])->all.back().b;
  if (const char* wrong = SwizzledRows(b).wrong()) return wrong;
  for (void* payload : payloads) {
    auto& lane = *static_cast<AsyncProducts*>(payload);
    if (lane.all.back().b != b) return "lanes of one wgmma have different descriptors";
    lane.all.back().began = now;
  }
  read_rows(b, now);
  return nullptr;
}

void fault_of_product(const std::string& what) {
  cuda_on_host::fault(cuda_on_host::Fault::kAsyncProduct, "wgmma: " + what + " before its wait");
}

/// The oldest product of a warp, its 16 rows of A.
const char* finish_wgmma(AsyncProducts* const (&lanes)[kWarp]) {
  const AsyncProduct& first = lanes[0]->all.front();
  read_rows(first.b, first.began);
  const SwizzledRows rows(first.b);
  int8_t a[16][kWgmmaDepth];
  static thread_local uint8_t b[kWgmmaRows][kWgmmaDepth];
  static thread_local int32_t product[kWgmmaRows][16];
  for (int lane = 0; lane < kWarp; ++lane) {
    const AsyncProduct& p = lanes[lane]->all.front();
    if (p.b != first.b) return "lanes of one wgmma have different descriptors";
    if (!std::equal(p.a_was.begin(), p.a_was.end(), p.a)) fault_of_product("its left operand changed");
    for (int reg = 0; reg < 4; ++reg)
      std::memcpy(&a[lane / 4 + reg % 2 * 8][reg / 2 * kWgmmaDepth / 2 + lane % 4 * 4], &p.a_was[size_t(reg)],
                  4);
  }
  for (int row = 0; row < kWgmmaRows; ++row)
    for (int k = 0; k < kWgmmaDepth; k += kWgmmaChunk)
      std::memcpy(&b[row][k], rows.chunk(row, k), kWgmmaChunk);
  for (int n = 0; n < kWgmmaRows; ++n)
    for (int m = 0; m < 16; ++m) {
      int32_t sum = 0;
      for (int k = 0; k < kWgmmaDepth; ++k) sum += a[m][k] * b[n][k];
      product[n][m] = sum;
    }
  for (int lane = 0; lane < kWarp; ++lane) {
    AsyncProducts& own = *lanes[lane];
    const auto sums = std::find_if(own.sums.begin(), own.sums.end(),
                                   [&](const AsyncSums& s) { return s.d == own.all.front().d; });
    for (int i = 0; i < 64; ++i) {
      int32_t& value = sums->value[size_t(i)];
      value = int32_t(uint32_t(value) +
                      uint32_t(product[i / 4 * 8 + lane % 4 * 2 + i % 2][lane / 4 + i / 2 % 2 * 8]));
    }
    if (--sums->products == 0) {
      if (std::any_of(sums->d, sums->d + 64, [](int32_t x) { return x != kPoisonedSum; }))
        fault_of_product("its sums changed");
      std::copy(sums->value.begin(), sums->value.end(), sums->d);
      own.sums.erase(sums);
    }
    own.all.erase(own.all.begin());
  }
  return nullptr;
}

struct Finish {
  AsyncProducts* products;
  size_t groups_left;
};
const char* finish_groups(void* const (&payloads)[kWarp], uint32_t mask) {
  if (mask != ~0u) return "wgmma.wait_group needs all 32 lanes";
  AsyncProducts* lanes[kWarp];
  const auto& first = *static_cast<Finish*>(payloads[0]);
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& finish = *static_cast<Finish*>(payloads[lane]);
    lanes[lane] = finish.products;
    if (finish.products->groups != first.products->groups)
      return "lanes of a warp have different groups of wgmma";
  }
  auto& groups = first.products->groups;
  if (groups.size() <= first.groups_left) return nullptr;
  const size_t done = groups.size() - first.groups_left, end = groups[done - 1];
  for (size_t i = 0; i < end; ++i)
    if (const char* wrong = finish_wgmma(lanes)) return wrong;
  for (AsyncProducts* lane : lanes) {
    lane->groups.erase(lane->groups.begin(), lane->groups.begin() + ptrdiff_t(done));
    for (size_t& group : lane->groups) group -= end;
  }
  return nullptr;
}

}  // namespace

#define SITE __builtin_return_address(0)

int32_t dp4a_u8_u8(uint32_t a, uint32_t b, int32_t c) {
  cuda_on_host::count_instruction("dp4a");
  for (int i = 0; i < 32; i += 8) c += int(a >> i & 255) * int(b >> i & 255);
  return c;
}
int32_t dp4a_u8_s8(uint32_t a, uint32_t b, int32_t c) {
  cuda_on_host::count_instruction("dp4a");
  for (int i = 0; i < 32; i += 8) c += int(a >> i & 255) * int8_t(b >> i);
  return c;
}

void mma_u8_u8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const int32_t (&c)[4]) {
  mma<8, uint8_t, uint8_t>("mma.m16n8k32.u8.u8", d, a, b, c, SITE);
}
void mma_u8_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const int32_t (&c)[4]) {
  mma<8, uint8_t, int8_t>("mma.m16n8k32.u8.s8", d, a, b, c, SITE);
}
void mma_s8_u8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const int32_t (&c)[4]) {
  mma<8, int8_t, uint8_t>("mma.m16n8k32.s8.u8", d, a, b, c, SITE);
}
void mma_u4_u4(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const int32_t (&c)[4]) {
  mma<4, uint8_t, uint8_t>("mma.m16n8k64.u4.u4", d, a, b, c, SITE);
}

float exp2_approx(float x) {
  const float y = std::exp2(x);
  return y < std::numeric_limits<float>::min() ? 0.0f : y;
}

void launch_dependents() {}
void wait_on_dependencies() { cuda_on_host::wait_on_dependencies(); }

void prefetch_l2(const void*) { cuda_on_host::count_instruction("prefetch.global.L2"); }

void copy_async_16(void* shared, const void* global, int source_bytes) {
  if (source_bytes < 0 || source_bytes > 16)
    cuda_on_host::fault(cuda_on_host::Fault::kOutOfRange, "cp.async of fewer than 0 or more than 16 bytes");
  cuda_on_host::copy_async(shared, global, 16, size_t(source_bytes), SITE);
  cuda_on_host::count_instruction("cp.async.16");
}
void commit_copies() { cuda_on_host::commit_copies(); }
template <int kLeft>
void wait_copies() {
  cuda_on_host::wait_copies(kLeft);
}
template void wait_copies<0>();
template void wait_copies<1>();
template void wait_copies<2>();
template void wait_copies<3>();

uint64_t swizzled_rows(const void* shared) {
  return uint64_t{1} << 62 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 16 |
         (cuda_on_host::shared_offset(shared) & 0x3ffff) >> 4;
}

void wgmma_s8_u8(int32_t (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  AsyncProducts& own = cuda_on_host::async_products();
  if (cuda_on_host::settings().architecture.compute_capability != 90)
    cuda_on_host::fault(cuda_on_host::Fault::kLimit, "wgmma is of compute capability 9.0 alone");
  if (!own.fenced)
    cuda_on_host::fault(cuda_on_host::Fault::kAsyncProduct, "wgmma without wgmma.fence before its group");
  own.all.push_back({.d = d, .a = a, .a_was = std::to_array(a), .b = b, .began = 0});
  own.told = own.told * 31 + b + 1;
  auto sums = std::find_if(own.sums.begin(), own.sums.end(), [&](const AsyncSums& s) { return s.d == d; });
  if (sums == own.sums.end()) {
    own.sums.push_back({.d = d, .value = std::to_array(d), .products = 0});
    sums = own.sums.end() - 1;
    std::fill(d, d + 64, kPoisonedSum);
  }
  ++sums->products;
  cuda_on_host::warp_collective(~0u, &own, begin_wgmma, SITE);
  cuda_on_host::count_instruction("wgmma.m64n128k32.s8.u8");
}
void fence_wgmma() { cuda_on_host::async_products().fenced = true; }
void commit_wgmma() {
  AsyncProducts& own = cuda_on_host::async_products();
  own.fenced = false;
  own.groups.push_back(own.all.size());
}
static void wait_wgmma_groups(int left, const void* site) {
  Finish finish{&cuda_on_host::async_products(), size_t(left)};
  cuda_on_host::warp_collective(~0u, &finish, finish_groups, site);
}
template <int kLeft>
void wait_wgmma() {
  wait_wgmma_groups(kLeft, SITE);
}
template void wait_wgmma<0>();
template void wait_wgmma<1>();
void pin(uint32_t (&)[4]) {}
void pin(int32_t (&)[64]) {}
void fence_for_wgmma() { cuda_on_host::fence_async_proxy(); }

}  // namespace stamp::cuda
