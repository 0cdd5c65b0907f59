// Four lanes: NEON with the dot products of Armv8.2, and those of mixed signs of Armv8.6 where they are
// there. Thirty-two registers.
using V = float32x4_t;
constexpr int kLanes = 4;
constexpr int kRowTile = 4, kColTile = 4, kColTileOneRow = 8;  // of linear, few rows
constexpr int kPackRows = 6, kPackVecs = 4;                    // of linear, many rows
constexpr int kMulRows = 6, kMulVecs = 4;                      // of multiply

inline uint32x4_t first_lanes(int64_t n) {
  const int32x4_t lanes = {0, 1, 2, 3};
  return vcltq_s32(lanes, vdupq_n_s32(int32_t(n)));
}
inline V set1(float x) { return vdupq_n_f32(x); }
inline V load(const float* p) { return vld1q_f32(p); }
inline void store(float* p, V v) { vst1q_f32(p, v); }
inline V load_n(const float* p, int64_t n) {
  float some[kLanes] = {};
  for (int i = 0; i < n; ++i) some[i] = p[i];
  return load(some);
}
inline void store_n(float* p, V v, int64_t n) {
  float some[kLanes];
  store(some, v);
  for (int i = 0; i < n; ++i) p[i] = some[i];
}
/// The nearest binary16 to x >= 0, largest finite at most; and back.
inline uint16_t float_to_half(float x) {
  const __fp16 half = __fp16(x < 65504.0f ? x : 65504.0f);
  uint16_t bits;
  __builtin_memcpy(&bits, &half, 2);
  return bits;
}
inline float half_to_float(uint16_t h) {
  __fp16 half;
  __builtin_memcpy(&half, &h, 2);
  return half;
}
inline uint16x4_t load_words_n(const uint16_t* p, int64_t n) {
  uint16_t words[kLanes] = {};
  for (int i = 0; i < n; ++i) words[i] = p[i];
  return vld1_u16(words);
}
inline V from_f16(uint16x4_t words) { return vcvt_f32_f16(vreinterpret_f16_u16(words)); }
inline V from_bf16(uint16x4_t words) { return vreinterpretq_f32_u32(vshll_n_u16(words, 16)); }
inline V load_f16(const uint16_t* p) { return from_f16(vld1_u16(p)); }
inline V load_f16_n(const uint16_t* p, int64_t n) { return from_f16(load_words_n(p, n)); }
inline V load_bf16(const uint16_t* p) { return from_bf16(vld1_u16(p)); }
inline V load_bf16_n(const uint16_t* p, int64_t n) { return from_bf16(load_words_n(p, n)); }
inline V add(V a, V b) { return vaddq_f32(a, b); }
inline V sub(V a, V b) { return vsubq_f32(a, b); }
inline V mul(V a, V b) { return vmulq_f32(a, b); }
inline V div(V a, V b) { return vdivq_f32(a, b); }
inline V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
/// a < b ? yes : no
inline V select_less(V a, V b, V yes, V no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }
inline V max(V a, V b) { return vmaxq_f32(a, b); }
/// The greater of a >= 0 and the magnitude of b.
inline V max_magnitude(V a, V b) { return vmaxq_f32(a, vabsq_f32(b)); }
inline V min(V a, V b) { return vminq_f32(a, b); }
inline V keep_first(V v, int64_t n, float fill) { return vbslq_f32(first_lanes(n), v, set1(fill)); }
/// Halves folded onto each other: lanes i and i + 2, then 1.
inline float reduce_add(V v) { return vaddv_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v))); }
inline float reduce_max(V v) { return vmaxvq_f32(v); }
inline V round_nearest(V v) { return vrndnq_f32(v); }
/// n = the whole number nearest to v, what is returned v - n.
inline V split_nearest(V v, V& n) {
  n = round_nearest(v);
  return sub(v, n);
}
/// v * 2^n for whole n in [-126, 127]; both v and the product normal
inline V scale_by_power(V v, V n) {
  return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(v), vshlq_n_s32(vcvtnq_s32_f32(n), 23)));
}
/// v[i] lane j and v[j] lane i change places.
inline void transpose(V* v) {
  const V even[2] = {vtrn1q_f32(v[0], v[1]), vtrn1q_f32(v[2], v[3])};
  const V odd[2] = {vtrn2q_f32(v[0], v[1]), vtrn2q_f32(v[2], v[3])};
  const auto halves = [](const V* of, V& low, V& high) {
    const float64x2_t a = vreinterpretq_f64_f32(of[0]), b = vreinterpretq_f64_f32(of[1]);
    low = vreinterpretq_f32_f64(vtrn1q_f64(a, b)), high = vreinterpretq_f32_f64(vtrn2q_f64(a, b));
  };
  halves(even, v[0], v[2]), halves(odd, v[1], v[3]);
}

#include "kernels/cpu/vec_one_group.h"

inline uint16x4_t to_words(V v) { return vqmovun_s32(vcvtnq_s32_f32(v)); }
inline void store_u8(uint8_t* p, V v) {  // v in [0, 255], rounded to nearest
  const uint16x4_t words = to_words(v);
  const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(vqmovn_u16(vcombine_u16(words, words))), 0);
  __builtin_memcpy(p, &four, 4);
}
/// Four vectors of values rounded to nearest, those below 0 as 0; none above 255.
inline void store_four_u8(uint8_t* p, const V* v) {
  const uint16x8_t a = vcombine_u16(to_words(v[0]), to_words(v[1])),
                   b = vcombine_u16(to_words(v[2]), to_words(v[3]));
  vst1q_u8(p, vcombine_u8(vqmovn_u16(a), vqmovn_u16(b)));
}
/// Four bytes as 32-bit lanes.
inline uint32x4_t widen_four(const uint8_t* p) {
  uint32_t four;
  __builtin_memcpy(&four, p, 4);
  return vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)))));
}
inline V load_u8(const uint8_t* p) { return vcvtq_f32_u32(widen_four(p)); }
/// Lanes i and i ^ H change places.
template <int H>
inline V swap_lanes(V v) {
  if constexpr (H == 1) return vrev64q_f32(v);
  return vextq_f32(v, v, 2);
}

// Four int32 lanes of four bytes each.
using I = int32x4_t;
constexpr int kIntRows = 4;   // rows of an integer tile
constexpr int kPartVecs = 4;  // vectors of queries that meet a page of the cache together
inline uint8x16_t bytes_of(I x) { return vreinterpretq_u8_s32(x); }
inline I ints_of(uint8x16_t x) { return vreinterpretq_s32_u8(x); }
inline I int_zero() { return vdupq_n_s32(0); }
inline I int_set(int32_t x) { return vdupq_n_s32(x); }
inline I sub_bytes(I x, int y) { return ints_of(vsubq_u8(bytes_of(x), vdupq_n_u8(uint8_t(y)))); }
inline I add_bytes(I a, I b) { return ints_of(vaddq_u8(bytes_of(a), bytes_of(b))); }
inline I load_bytes(const void* p) { return ints_of(vld1q_u8(static_cast<const uint8_t*>(p))); }
inline void store_bytes(void* p, I x) { vst1q_u8(static_cast<uint8_t*>(p), bytes_of(x)); }
inline I broadcast_four(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return vdupq_n_s32(four);
}
/// Sixteen bytes, or four floats, again and again.
inline I repeat_16(const uint8_t* p) { return load_bytes(p); }
inline V repeat_four(const float* p) { return load(p); }
/// Lane i = p[i / 4], and p[i] = lane 4 i.
inline V spread_fours(const float* p) { return vld1q_dup_f32(p); }
inline void store_fourths(float* p, V v) { vst1q_lane_f32(p, v, 0); }
/// Lane i is the sum of the four lanes from i / 4 * 4 on of x[i % 4].
inline I sums_of_fours(const I (&x)[4]) { return vpaddq_s32(vpaddq_s32(x[0], x[1]), vpaddq_s32(x[2], x[3])); }
inline I low_nibbles(I x) { return ints_of(vandq_u8(bytes_of(x), vdupq_n_u8(15))); }
inline I high_nibbles(I x) { return ints_of(vshrq_n_u8(bytes_of(x), 4)); }
inline I add_ints(I a, I b) { return vaddq_s32(a, b); }
inline V to_float(I x) { return vcvtq_f32_s32(x); }
/// acc += the sum of both products of a lane's pairs of 16 bits.
inline I madd_pairs(I acc, I a, I b) {
  const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
  return vaddq_s32(acc, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
}
/// Bytes 0 and 2 of a lane as a pair of 16 bits, and bytes 1 and 3.
inline I even_bytes(I x) { return vandq_s32(x, vdupq_n_s32(0x00ff00ff)); }
inline I odd_bytes(I x) { return vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(x), 8)); }
inline I nearest_int(V v) { return vcvtnq_s32_f32(v); }
/// Byte i of every lane is that of four[i], in [-128, 127].
inline I signed_bytes(const I* four) {
  return vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(four[0], four[1], 8), four[2], 16), four[3], 24);
}
/// Four rows of 2 kLanes bytes, `stride` apart, side by side: lane i of out[j] has byte kLanes j + i of each.
inline void interleave_rows(I (&out)[2], const uint8_t* rows, int64_t stride) {
  const auto two = [stride](const uint8_t* p) { return vcombine_u8(vld1_u8(p), vld1_u8(p + stride)); };
  const uint8x16_t a = two(rows), b = two(rows + 2 * stride);
  const uint8x16_t even = vzip1q_u8(a, b), odd = vzip2q_u8(a, b);
  out[0] = ints_of(vzip1q_u8(even, odd)), out[1] = ints_of(vzip2q_u8(even, odd));
}
/// acc += the four products of a lane's bytes, a's from 0 to 255, w's from -128 to 127.
inline I dot_q4(I acc, I a, I w) {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  return vusdotq_s32(acc, bytes_of(a), vreinterpretq_s8_s32(w));
#else
  // Both signed: of a - 128, and 128 times the sum of w, which all rows that meet w share.
  const int8x16_t codes = vreinterpretq_s8_s32(w);
  const int8x16_t less = vreinterpretq_s8_u8(veorq_u8(bytes_of(a), vdupq_n_u8(128)));
  const I sum = vdotq_s32(int_zero(), codes, vdupq_n_s8(1));
  return vaddq_s32(vdotq_s32(acc, less, codes), vshlq_n_s32(sum, 7));
#endif
}
inline I dot_q8(I acc, const uint8_t* four, I w) { return dot_q4(acc, broadcast_four(four), w); }
constexpr int kEightMiddle = 0, kEightBytes = 4;
constexpr bool kPairSums = false;
/// Bytes as 32-bit lanes; acc += sums times them.
inline I load_factors(const uint8_t* p) { return vreinterpretq_s32_u32(widen_four(p)); }
inline I add_scaled(I acc, I sums, I factors) { return vmlaq_s32(acc, sums, factors); }
/// Bytes times their lane's factor; the products are bytes, too.
inline I scale_bytes(I x, I factors) { return vmulq_s32(x, factors); }
