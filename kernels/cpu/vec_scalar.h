// The portable vector: four lanes by the compiler's vector extension, multiply and add rounded separately.
using V = float __attribute__((vector_size(16)));
using I = int32_t __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kRowTile = 2, kColTile = 4, kColTileOneRow = 4;  // of linear, few rows
constexpr int kPackRows = 4, kPackVecs = 2;                    // of linear, many rows
constexpr int kMulRows = 4, kMulVecs = 2;                      // of multiply

inline V set1(float x) { return V{x, x, x, x}; }
inline V load(const float* p) { return V{p[0], p[1], p[2], p[3]}; }
inline void store(float* p, V v) {
  for (int i = 0; i < kLanes; ++i) p[i] = v[i];
}
inline V load_n(const float* p, int64_t n) {
  V v = set1(0.0f);
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
inline void store_n(float* p, V v, int64_t n) {
  for (int i = 0; i < n; ++i) p[i] = v[i];
}
/// The nearest binary16 to x >= 0, largest finite at most; and back.
inline uint16_t float_to_half(float x) {
  if (!(x < 65504.0f)) return 0x7bff;
  if (x < 0x1p-14f) return uint16_t(__builtin_rintf(x * 0x1p24f));  // subnormal, or the first normal
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  bits += 0xfffu + ((bits >> 13) & 1u);
  return uint16_t((bits >> 13) - (112u << 10));
}
inline float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  uint32_t bits = magnitude >= 0x7c00u ? (magnitude << 13) | 0x7f800000u : (magnitude << 13) + (112u << 23);
  float value;
  if (magnitude < 0x400u) {
    value = float(magnitude) * 0x1p-24f;
    __builtin_memcpy(&bits, &value, 4);
  }
  bits |= sign;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
inline float brain_to_float(uint16_t b) {
  const uint32_t bits = uint32_t(b) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}
inline V load_f16_n(const uint16_t* p, int64_t n) {
  V v = set1(0.0f);
  for (int i = 0; i < n; ++i) v[i] = half_to_float(p[i]);
  return v;
}
inline V load_f16(const uint16_t* p) { return load_f16_n(p, kLanes); }
inline V load_bf16_n(const uint16_t* p, int64_t n) {
  V v = set1(0.0f);
  for (int i = 0; i < n; ++i) v[i] = brain_to_float(p[i]);
  return v;
}
inline V load_bf16(const uint16_t* p) { return load_bf16_n(p, kLanes); }
inline V add(V a, V b) { return a + b; }
inline V sub(V a, V b) { return a - b; }
inline V mul(V a, V b) { return a * b; }
inline V div(V a, V b) { return a / b; }
inline V fma(V a, V b, V c) { return a * b + c; }
inline V max(V a, V b) {
  for (int i = 0; i < kLanes; ++i) a[i] = a[i] > b[i] ? a[i] : b[i];
  return a;
}
/// The greater of a >= 0 and the magnitude of b.
inline V max_magnitude(V a, V b) {
  for (int i = 0; i < kLanes; ++i) b[i] = b[i] < 0 ? -b[i] : b[i];
  return max(a, b);
}
inline V min(V a, V b) {
  for (int i = 0; i < kLanes; ++i) a[i] = a[i] < b[i] ? a[i] : b[i];
  return a;
}
inline V keep_first(V v, int64_t n, float fill) {
  for (int i = 0; i < kLanes; ++i) v[i] = i < n ? v[i] : fill;
  return v;
}
/// a < b ? yes : no
inline V select_less(V a, V b, V yes, V no) {
  for (int i = 0; i < kLanes; ++i) no[i] = a[i] < b[i] ? yes[i] : no[i];
  return no;
}
inline float reduce_add(V v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline float reduce_max(V v) {
  const float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
  return a > b ? a : b;
}
inline V round_nearest(V v) {
  constexpr float kMagic = 0x1.8p23f;  // adding it leaves no fraction bits; exact for |v| < 2^22
  return (v + kMagic) - kMagic;
}
/// n = the whole number nearest to v, what is returned v - n.
inline V split_nearest(V v, V& n) {
  n = round_nearest(v);
  return v - n;
}
/// v * 2^n for whole n in [-126, 127]; both v and the product normal
inline V scale_by_power(V v, V n) {
  I bits;
  for (int i = 0; i < kLanes; ++i) bits[i] = (int32_t(n[i]) + 127) << 23;
  V power;
  __builtin_memcpy(&power, &bits, sizeof(V));
  return v * power;
}
/// v[i] lane j and v[j] lane i change places.
inline void transpose(V* v) {
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < i; ++j) {
      const float x = v[i][j];
      v[i][j] = v[j][i], v[j][i] = x;
    }
}

#include "kernels/cpu/vec_one_group.h"

inline void store_u8(uint8_t* p, V v) {  // v in [0, 255], rounded to nearest
  v = round_nearest(v);
  for (int i = 0; i < kLanes; ++i) p[i] = uint8_t(v[i]);
}
/// Four vectors of values rounded to nearest, those below 0 as 0; none above 255.
inline void store_four_u8(uint8_t* p, const V* v) {
  for (int i = 0; i < 4; ++i) store_u8(p + i * kLanes, max(v[i], set1(0.0f)));
}
inline V load_u8(const uint8_t* p) { return V{float(p[0]), float(p[1]), float(p[2]), float(p[3])}; }
/// Lanes i and i ^ H change places.
template <int H>
inline V swap_lanes(V v) {
  if constexpr (H == 1) return V{v[1], v[0], v[3], v[2]};
  return V{v[2], v[3], v[0], v[1]};
}

// Four int32 lanes of four bytes each.
constexpr int kIntRows = 2;   // rows of an integer tile
constexpr int kPartVecs = 4;  // vectors of queries that meet a page of the cache together
inline I int_zero() { return I{0, 0, 0, 0}; }
inline I int_set(int32_t x) { return I{x, x, x, x}; }
inline I sub_bytes(I x, int y) {
  for (int i = 0; i < kLanes; ++i) {
    uint32_t bytes = 0;
    for (int byte = 0; byte < 32; byte += 8)
      bytes |= uint32_t(uint8_t((uint32_t(x[i]) >> byte) - uint32_t(y))) << byte;
    x[i] = int32_t(bytes);
  }
  return x;
}
inline I add_bytes(I a, I b) {
  using Bytes = uint8_t __attribute__((vector_size(16)));
  return I(Bytes(a) + Bytes(b));
}
inline I load_bytes(const void* p) {
  I x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}
inline void store_bytes(void* p, I x) { __builtin_memcpy(p, &x, sizeof(x)); }
inline I broadcast_four(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return I{four, four, four, four};
}
/// Sixteen bytes, or four floats, again and again.
inline I repeat_16(const uint8_t* p) { return load_bytes(p); }
inline V repeat_four(const float* p) { return load(p); }
/// Lane i = p[i / 4], and p[i] = lane 4 i.
inline V spread_fours(const float* p) { return set1(p[0]); }
inline void store_fourths(float* p, V v) { p[0] = v[0]; }
/// Lane i is the sum of the four lanes from i / 4 * 4 on of x[i % 4].
inline I sums_of_fours(const I (&x)[4]) {
  I sums;
  for (int i = 0; i < kLanes; ++i) sums[i] = x[i][0] + x[i][1] + x[i][2] + x[i][3];
  return sums;
}
inline I low_nibbles(I x) { return x & 0x0f0f0f0f; }
inline I high_nibbles(I x) { return (x >> 4) & 0x0f0f0f0f; }
inline I add_ints(I a, I b) { return a + b; }
inline V to_float(I x) { return V{float(x[0]), float(x[1]), float(x[2]), float(x[3])}; }
/// acc += the sum of both products of a lane's pairs of 16 bits, modulo 2^32.
inline I madd_pairs(I acc, I a, I b) {
  for (int i = 0; i < kLanes; ++i) {
    const int32_t low = int16_t(a[i]) * int16_t(b[i]), high = (a[i] >> 16) * (b[i] >> 16);
    acc[i] = int32_t(uint32_t(acc[i]) + uint32_t(low) + uint32_t(high));
  }
  return acc;
}
/// Bytes 0 and 2 of a lane as a pair of 16 bits, and bytes 1 and 3.
inline I even_bytes(I x) { return x & 0x00ff00ff; }
inline I odd_bytes(I x) { return (x >> 8) & 0x00ff00ff; }
inline I nearest_int(V v) {
  v = round_nearest(v);
  I x;
  for (int i = 0; i < kLanes; ++i) x[i] = int32_t(v[i]);
  return x;
}
/// Byte i of every lane is that of four[i], in [-128, 127].
inline I signed_bytes(const I* four) {
  I x;
  for (int lane = 0; lane < kLanes; ++lane) {
    uint32_t bytes = 0;
    for (int i = 0; i < 4; ++i) bytes |= uint32_t(uint8_t(four[i][lane])) << (8 * i);
    x[lane] = int32_t(bytes);
  }
  return x;
}
/// Four rows of 2 kLanes bytes, `stride` apart, side by side: lane i of out[j] has byte kLanes j + i of each.
inline void interleave_rows(I (&out)[2], const uint8_t* rows, int64_t stride) {
  using Bytes = uint8_t __attribute__((vector_size(16)));
  Bytes a, b;  // two rows each
  __builtin_memcpy(&a, rows, 8), __builtin_memcpy(reinterpret_cast<uint8_t*>(&a) + 8, rows + stride, 8);
  rows += 2 * stride;
  __builtin_memcpy(&b, rows, 8), __builtin_memcpy(reinterpret_cast<uint8_t*>(&b) + 8, rows + stride, 8);
  const auto low = [](Bytes u, Bytes v) {
    return __builtin_shufflevector(u, v, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  };
  const auto high = [](Bytes u, Bytes v) {
    return __builtin_shufflevector(u, v, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  };
  const Bytes even = low(a, b), odd = high(a, b);
  out[0] = I(low(even, odd)), out[1] = I(high(even, odd));
}
inline I dot_q4(I acc, I a, I w) {
  using Shorts = int16_t __attribute__((vector_size(16)));  // hold products: at most 255 * 128
  const I even = I(Shorts(even_bytes(a)) * (Shorts(w) << 8 >> 8));
  const I odd = I(Shorts(odd_bytes(a)) * (Shorts(w) >> 8));
  return acc + (even << 16 >> 16) + (even >> 16) + (odd << 16 >> 16) + (odd >> 16);
}
inline I dot_q8(I acc, const uint8_t* four, I w) { return dot_q4(acc, broadcast_four(four), w); }
constexpr bool kPairSums = false;
/// Bytes as 32-bit lanes; acc += sums times them, modulo 2^32.
inline I load_factors(const uint8_t* p) { return I{p[0], p[1], p[2], p[3]}; }
inline I add_scaled(I acc, I sums, I factors) {
  for (int i = 0; i < kLanes; ++i)
    acc[i] = int32_t(uint32_t(acc[i]) + uint32_t(sums[i]) * uint32_t(factors[i]));
  return acc;
}
/// Bytes times their lane's factor; the products are bytes, too.
inline I scale_bytes(I x, I factors) { return add_scaled(int_zero(), x, factors); }
constexpr int kEightMiddle = 0, kEightBytes = 4;
