// The functions of kernels/cuda/ptx.cuh by the definitions of the PTX ISA.
#include "kernels/cuda/ptx.cuh"

#include "tests/cuda_on_host/executor.h"

namespace stamp::cuda {
namespace {

using cuda_on_host::kWarp;

struct Fragments {
  int32_t (&d)[4];
  const uint32_t (&a)[4], (&b)[2];
};

/// Element i of registers that hold `kBits`-wide elements.
template <int kBits, bool kSigned>
int element(uint32_t word, int i) {
  const uint32_t bits = word >> (kBits * i) & ((1u << kBits) - 1);
  return kSigned && bits >> (kBits - 1) != 0 ? int(bits) - (1 << kBits) : int(bits);
}

/// d [16, 8] += a [16, k] b [k, 8]: unpacks the lanes' fragments into matrices, multiplies, hands back.
/// Floats hold every sum of such a product exactly: 64 * 255^2 < 2^24.
template <int kBits, bool kSignedB>
const char* multiply(void* const (&payloads)[kWarp], uint32_t mask) {
  if (mask != ~0u) return "mma needs all 32 lanes";
  constexpr int kPer = 32 / kBits, kK = 8 * kPer;  // elements of a register, of the product
  float a[16][kK], b[kK][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& f = *static_cast<Fragments*>(payloads[lane]);
    const int group = lane / 4, four = lane % 4;
    for (int reg = 0; reg < 4; ++reg)
      for (int i = 0; i < kPer; ++i)
        a[group + reg % 2 * 8][reg / 2 * kK / 2 + four * kPer + i] =
            float(element<kBits, false>(f.a[reg], i));
    for (int reg = 0; reg < 2; ++reg)
      for (int i = 0; i < kPer; ++i)
        b[reg * kK / 2 + four * kPer + i][group] = float(element<kBits, kSignedB>(f.b[reg], i));
  }
  float product[16][8] = {};
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < kK; ++k)
      for (int col = 0; col < 8; ++col) product[row][col] += a[row][k] * b[k][col];
  for (int lane = 0; lane < kWarp; ++lane) {
    const auto& f = *static_cast<Fragments*>(payloads[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, col = lane % 4 * 2 + i % 2;
      f.d[i] = int32_t(uint32_t(f.d[i]) + uint32_t(int32_t(product[row][col])));
    }
  }
  return nullptr;
}

template <int kBits, bool kSignedB>
void mma(const char* name, int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
         const void* site) {
  Fragments fragments{d, a, b};
  cuda_on_host::warp_collective(~0u, &fragments, multiply<kBits, kSignedB>, site);
  cuda_on_host::count_instruction(name);
}

}  // namespace

#define SITE __builtin_return_address(0)

void mma_u8_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma<8, true>("mma.m16n8k32.u8.s8", d, a, b, SITE);
}
void mma_u8_u8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma<8, false>("mma.m16n8k32.u8.u8", d, a, b, SITE);
}
void mma_u4_u4(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma<4, false>("mma.m16n8k64.u4.u4", d, a, b, SITE);
}

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
