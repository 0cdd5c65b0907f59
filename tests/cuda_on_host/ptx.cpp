// The functions of kernels/cuda/ptx.cuh by the definitions of the PTX ISA.
#include "kernels/cuda/ptx.cuh"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/cuda_on_host/executor.h"

namespace stamp::cuda {
namespace {

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

}  // namespace stamp::cuda
