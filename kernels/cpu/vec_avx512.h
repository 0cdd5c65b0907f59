// Sixteen lanes: AVX-512 F, BW, VL, DQ. Thirty-two registers.
#include "kernels/cpu/vec_x86.h"

using V = __m512;
constexpr int kLanes = 16;
constexpr int kRowTile = 4, kColTile = 6, kColTileOneRow = 4;  // of linear, few rows
constexpr int kPackRows = 6, kPackVecs = 4;                    // of linear, many rows
constexpr int kMulRows = 6, kMulVecs = 4;                      // of multiply

inline __mmask16 first_lanes(int64_t n) {
  return n >= 16 ? __mmask16(0xffff) : __mmask16((1u << (n > 0 ? n : 0)) - 1);
}
inline V set1(float x) { return _mm512_set1_ps(x); }
inline V load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
inline V load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline void store_n(float* p, V v, int64_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
inline __m256i load_words(const uint16_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline __m256i load_words_n(const uint16_t* p, int64_t n) {
  return _mm256_maskz_loadu_epi16(first_lanes(n), p);
}
inline V from_bf16(__m256i words) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
}
inline V load_f16(const uint16_t* p) { return _mm512_cvtph_ps(load_words(p)); }
inline V load_f16_n(const uint16_t* p, int64_t n) { return _mm512_cvtph_ps(load_words_n(p, n)); }
inline V load_bf16(const uint16_t* p) { return from_bf16(load_words(p)); }
inline V load_bf16_n(const uint16_t* p, int64_t n) { return from_bf16(load_words_n(p, n)); }
inline V add(V a, V b) { return _mm512_add_ps(a, b); }
inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
inline V div(V a, V b) { return _mm512_div_ps(a, b); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V max(V a, V b) { return _mm512_max_ps(a, b); }
/// The greater of a >= 0 and the magnitude of b.
inline V max_magnitude(V a, V b) { return _mm512_range_ps(a, b, 0b1011); }
inline V min(V a, V b) { return _mm512_min_ps(a, b); }
inline V keep_first(V v, int64_t n, float fill) { return _mm512_mask_mov_ps(set1(fill), first_lanes(n), v); }
/// a < b ? yes : no
inline V select_less(V a, V b, V yes, V no) {
  return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes);
}
/// Halves folded onto each other: lanes i and i + 8, then 4, 2, 1.
inline float reduce_add(V v) {
  const __m256 y = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float reduce_max(V v) { return _mm512_reduce_max_ps(v); }
/// n = the whole number nearest to v, what is returned v - n. Rounding itself would take longer.
inline V split_nearest(V v, V& n) {
  const V rest = _mm512_reduce_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  n = sub(v, rest);
  return rest;
}
inline V round_nearest(V v) {
  split_nearest(v, v);
  return v;
}
/// v * 2^n for whole n in [-126, 127]; both v and the product normal
inline V scale_by_power(V v, V n) { return _mm512_scalef_ps(v, n); }
/// v[i] lane j and v[j] lane i change places.
inline void transpose(V* v) {
  __m512d pairs[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(v[i], v[i + 1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(v[i], v[i + 1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(v[i + 2], v[i + 3]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(v[i + 2], v[i + 3]));
    pairs[i] = _mm512_unpacklo_pd(a, c), pairs[i + 1] = _mm512_unpackhi_pd(a, c);
    pairs[i + 2] = _mm512_unpacklo_pd(b, d), pairs[i + 3] = _mm512_unpackhi_pd(b, d);
  }
  // pairs[4 g + j]: in its quarter q the lanes 4 q + j of v[4 g, 4 g + 4)
  for (int j = 0; j < 4; ++j) {
    const V a = _mm512_castpd_ps(pairs[j]), b = _mm512_castpd_ps(pairs[4 + j]);
    const V c = _mm512_castpd_ps(pairs[8 + j]), d = _mm512_castpd_ps(pairs[12 + j]);
    const V ab_even = _mm512_shuffle_f32x4(a, b, 0x88), ab_odd = _mm512_shuffle_f32x4(a, b, 0xdd);
    const V cd_even = _mm512_shuffle_f32x4(c, d, 0x88), cd_odd = _mm512_shuffle_f32x4(c, d, 0xdd);
    v[j] = _mm512_shuffle_f32x4(ab_even, cd_even, 0x88);
    v[8 + j] = _mm512_shuffle_f32x4(ab_even, cd_even, 0xdd);
    v[4 + j] = _mm512_shuffle_f32x4(ab_odd, cd_odd, 0x88);
    v[12 + j] = _mm512_shuffle_f32x4(ab_odd, cd_odd, 0xdd);
  }
}

// Two groups of eight lanes.
constexpr int kGroupLanes = 8;
/// A group's `live` floats from p, the other's `stride` bytes on.
inline V load_groups(const void* p, int64_t stride, int64_t live) {
  const auto* low = static_cast<const float*>(p);
  const auto* high = reinterpret_cast<const float*>(static_cast<const char*>(p) + stride);
  if (live == kGroupLanes && stride == 32) return load(low);
  if (live == kGroupLanes)
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(low)), _mm256_loadu_ps(high), 1);
  const __mmask8 mask = __mmask8(first_lanes(live));
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_maskz_loadu_ps(mask, low)),
                            _mm256_maskz_loadu_ps(mask, high), 1);
}
/// A group to p, the other `stride` floats on.
inline void store_groups(float* p, int64_t stride, V v) {
  _mm256_storeu_ps(p, _mm512_castps512_ps256(v));
  _mm256_storeu_ps(p + stride, _mm512_extractf32x8_ps(v, 1));
}
inline V load_every_group(const float* p) { return _mm512_broadcast_f32x8(_mm256_loadu_ps(p)); }
/// transpose() of eight vectors, each group by itself.
inline void transpose_groups(V* v) {
  const __m512i even = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(4));
  V quads[8];  // quads[4 h + j]: lanes j and j + 4 of a group of v[4 h, 4 h + 4)
  for (int i = 0; i < 8; i += 4) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(v[i], v[i + 1]));
    const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(v[i], v[i + 1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(v[i + 2], v[i + 3]));
    const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(v[i + 2], v[i + 3]));
    quads[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    quads[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    quads[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    quads[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm512_permutex2var_ps(quads[j], even, quads[4 + j]);
    v[4 + j] = _mm512_permutex2var_ps(quads[j], odd, quads[4 + j]);
  }
}
inline void store_u8(uint8_t* p, V v) {  // v in [0, 255], rounded to nearest
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}
/// Four vectors of values rounded to nearest, those below 0 as 0; none above 255.
inline void store_four_u8(uint8_t* p, const V* v) {
  const __m512i a = _mm512_packs_epi32(_mm512_cvtps_epi32(v[0]), _mm512_cvtps_epi32(v[1])),
                b = _mm512_packs_epi32(_mm512_cvtps_epi32(v[2]), _mm512_cvtps_epi32(v[3]));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(a, b)));
}
inline V load_u8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
/// Lanes i and i ^ H change places.
template <int H>
inline V swap_lanes(V v) {
  if constexpr (H == 1) return _mm512_permute_ps(v, 0xb1);
  if constexpr (H == 2) return _mm512_permute_ps(v, 0x4e);
  if constexpr (H == 4) return _mm512_shuffle_f32x4(v, v, 0xb1);
  return _mm512_shuffle_f32x4(v, v, 0x4e);
}

// Sixteen int32 lanes of four bytes each.
using I = __m512i;
constexpr int kIntRows = 8;  // rows of an integer tile
inline I int_zero() { return _mm512_setzero_si512(); }
inline I int_set(int32_t x) { return _mm512_set1_epi32(x); }
inline I sub_bytes(I x, int y) { return _mm512_sub_epi8(x, _mm512_set1_epi8(char(y))); }
inline I add_bytes(I a, I b) { return _mm512_add_epi8(a, b); }
inline I load_bytes(const void* p) { return _mm512_loadu_si512(p); }
inline void store_bytes(void* p, I x) { _mm512_storeu_si512(p, x); }
inline I broadcast_four(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
/// Sixteen bytes, or four floats, again and again.
inline I repeat_16(const uint8_t* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline V repeat_four(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
/// Lane i = p[i / 4], and p[i] = lane 4 i.
inline V spread_fours(const float* p) {
  const __m512i from = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return _mm512_permutexvar_ps(from, _mm512_castps128_ps512(_mm_loadu_ps(p)));
}
inline void store_fourths(float* p, V v) {
  _mm_storeu_ps(p, _mm512_castps512_ps128(_mm512_maskz_compress_ps(__mmask16(0x1111), v)));
}
/// Lane i is the sum of the four lanes from i / 4 * 4 on of x[i % 4].
inline I sums_of_fours(const I (&x)[4]) {
  const auto add_halves = [](I a, I b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  };
  const I a = add_halves(x[0], x[1]), b = add_halves(x[2], x[3]);
  return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
inline I low_nibbles(I x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline I high_nibbles(I x) { return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15)); }
inline I add_ints(I a, I b) { return _mm512_add_epi32(a, b); }
inline V to_float(I x) { return _mm512_cvtepi32_ps(x); }
/// acc += the sum of both products of a lane's pairs of 16 bits.
inline I madd_pairs(I acc, I a, I b) { return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b)); }
/// Bytes 0 and 2 of a lane as a pair of 16 bits, and bytes 1 and 3.
inline I even_bytes(I x) { return _mm512_and_si512(x, _mm512_set1_epi16(255)); }
inline I odd_bytes(I x) { return _mm512_srli_epi16(x, 8); }
inline I nearest_int(V v) { return _mm512_cvtps_epi32(v); }
/// Byte i of every lane is that of four[i], in [-128, 127].
inline I signed_bytes(const I* four) {
  const I a = _mm512_packs_epi32(four[0], four[1]), b = _mm512_packs_epi32(four[2], four[3]);
  const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_shuffle_epi8(_mm512_packs_epi16(a, b), _mm512_broadcast_i32x4(order));
}
/// Four rows of 2 kLanes bytes, `stride` apart, side by side: lane i of out[j] has byte kLanes j + i of each.
inline void interleave_rows(I (&out)[2], const uint8_t* rows, int64_t stride) {
  const auto two = [stride](const uint8_t* p) {
    if (stride == 32) return load_bytes(p);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))),
                              _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + stride)), 1);
  };
  const I a = two(rows), b = two(rows + 2 * stride);
  const I words = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
  const I order = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  for (int j = 0; j < 2; ++j)
    out[j] = _mm512_shuffle_epi8(
        _mm512_permutex2var_epi32(a, _mm512_add_epi32(words, _mm512_set1_epi32(4 * j)), b), order);
}
/// Bytes times their lane's factor, of load_factors(); the products are bytes, too.
inline I scale_bytes(I x, I factors) {
  return _mm512_mullo_epi16(x, _mm512_or_si512(factors, _mm512_slli_epi32(factors, 16)));
}
constexpr int kEightMiddle = 0, kEightBytes = 4;
#if defined(__AVX512VNNI__)
constexpr bool kPairSums = false;
constexpr int kPartVecs = 2;  // vectors of queries that meet a page of the cache together: 16 sums
/// Bytes as 32-bit lanes; acc += sums times them.
inline I load_factors(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline I add_scaled(I acc, I sums, I factors) {
  return _mm512_add_epi32(acc, _mm512_mullo_epi32(sums, factors));
}
/// By hand: of the intrinsic's sums GCC 12 moves a quarter to other registers and back at the end of loops.
__attribute__((always_inline)) inline I dot_q4(I acc, I a, I w) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(w));
  return acc;
}
inline I dot_q8(I acc, const uint8_t* four, I w) { return dot_q4(acc, broadcast_four(four), w); }
#else
/// Sums of pairs of products with 4-bit weights in 16-bit lanes, and their sum in 32-bit ones.
constexpr bool kPairSums = true;
constexpr int kPartVecs = 1;
inline I add_pairs(I pairs, I a, I w) {
  pairs = _mm512_add_epi16(pairs, _mm512_maddubs_epi16(a, w));
  // One sum after the other: GCC would turn a chain of them into a tree, whose products fill the stack.
  asm("" : "+v"(pairs));
  return pairs;
}
inline I sub_pairs(I pairs, I a, I w) { return _mm512_sub_epi16(pairs, _mm512_maddubs_epi16(a, w)); }
/// Bytes as both numbers of a pair; acc += pairs times them.
inline I load_factors(const uint8_t* p) {
  const I x = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_or_si512(x, _mm512_slli_epi32(x, 16));
}
inline I add_scaled(I acc, I pairs, I factors) { return madd_pairs(acc, pairs, factors); }
/// acc += q * w, the two halves of q's bytes by themselves: 2 * 255 * 127 is more than 16 bits hold.
inline I dot_q8(I acc, const uint8_t* four, I w) {
  const I q = broadcast_four(four);
  const I low = _mm512_maddubs_epi16(low_nibbles(q), w), high = _mm512_maddubs_epi16(high_nibbles(q), w);
  acc = _mm512_add_epi32(acc, _mm512_madd_epi16(low, _mm512_set1_epi16(1)));
  return _mm512_add_epi32(acc, _mm512_madd_epi16(high, _mm512_set1_epi16(16)));
}
#endif
