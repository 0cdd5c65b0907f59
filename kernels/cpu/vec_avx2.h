// Eight lanes: AVX2, FMA, F16C, and AVX-VNNI where it is there. Sixteen registers.
#include "kernels/cpu/vec_x86.h"

using V = __m256;
constexpr int kLanes = 8;
constexpr int kRowTile = 3, kColTile = 4, kColTileOneRow = 4;  // of linear, few rows
constexpr int kPackRows = 6, kPackVecs = 2;                    // of linear, many rows
constexpr int kMulRows = 6, kMulVecs = 2;                      // of multiply

inline __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline V set1(float x) { return _mm256_set1_ps(x); }
inline V load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
inline V load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, first_lanes(n)); }
inline void store_n(float* p, V v, int64_t n) { _mm256_maskstore_ps(p, first_lanes(n), v); }
inline __m128i load_words(const uint16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline __m128i load_words_n(const uint16_t* p, int64_t n) {
  uint16_t words[8] = {};
  for (int i = 0; i < n; ++i) words[i] = p[i];
  return load_words(words);
}
inline V from_bf16(__m128i words) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(words), 16));
}
inline V load_f16(const uint16_t* p) { return _mm256_cvtph_ps(load_words(p)); }
inline V load_f16_n(const uint16_t* p, int64_t n) { return _mm256_cvtph_ps(load_words_n(p, n)); }
inline V load_bf16(const uint16_t* p) { return from_bf16(load_words(p)); }
inline V load_bf16_n(const uint16_t* p, int64_t n) { return from_bf16(load_words_n(p, n)); }
inline V add(V a, V b) { return _mm256_add_ps(a, b); }
inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
inline V div(V a, V b) { return _mm256_div_ps(a, b); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V max(V a, V b) { return _mm256_max_ps(a, b); }
/// The greater of a >= 0 and the magnitude of b.
inline V max_magnitude(V a, V b) { return max(a, _mm256_andnot_ps(set1(-0.0f), b)); }
inline V min(V a, V b) { return _mm256_min_ps(a, b); }
inline V keep_first(V v, int64_t n, float fill) {
  return _mm256_blendv_ps(set1(fill), v, _mm256_castsi256_ps(first_lanes(n)));
}
/// a < b ? yes : no
inline V select_less(V a, V b, V yes, V no) {
  return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
inline float reduce_add(V v) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float reduce_max(V v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
inline V round_nearest(V v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/// n = the whole number nearest to v, what is returned v - n.
inline V split_nearest(V v, V& n) {
  n = round_nearest(v);
  return sub(v, n);
}
/// v * 2^n for whole n in [-126, 127]; both v and the product normal
inline V scale_by_power(V v, V n) {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}
/// v[i] lane j and v[j] lane i change places.
inline void transpose(V* v) {
  V quads[8];  // quads[4 h + j]: lanes j and j + 4 of v[4 h, 4 h + 4)
  for (int i = 0; i < 8; i += 4) {
    const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(v[i], v[i + 1]));
    const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(v[i], v[i + 1]));
    const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(v[i + 2], v[i + 3]));
    const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(v[i + 2], v[i + 3]));
    quads[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
    quads[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
    quads[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
    quads[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
  }
  for (int j = 0; j < 4; ++j) {
    v[j] = _mm256_permute2f128_ps(quads[j], quads[4 + j], 0x20);
    v[4 + j] = _mm256_permute2f128_ps(quads[j], quads[4 + j], 0x31);
  }
}

#include "kernels/cpu/vec_one_group.h"

inline void store_u8(uint8_t* p, V v) {  // v in [0, 255], rounded to nearest
  const __m256i x = _mm256_cvtps_epi32(v);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
/// Four vectors of values rounded to nearest, those below 0 as 0; none above 255.
inline void store_four_u8(uint8_t* p, const V* v) {
  const __m256i a = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1])),
                b = _mm256_packs_epi32(_mm256_cvtps_epi32(v[2]), _mm256_cvtps_epi32(v[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), order));
}
inline V load_u8(const uint8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
/// Lanes i and i ^ H change places.
template <int H>
inline V swap_lanes(V v) {
  if constexpr (H == 1) return _mm256_permute_ps(v, 0xb1);
  if constexpr (H == 2) return _mm256_permute_ps(v, 0x4e);
  return _mm256_permute2f128_ps(v, v, 1);
}

// Eight int32 lanes of four bytes each.
using I = __m256i;
constexpr int kIntRows = 4;   // rows of an integer tile
constexpr int kPartVecs = 2;  // vectors of queries that meet a page of the cache together
inline I int_zero() { return _mm256_setzero_si256(); }
inline I int_set(int32_t x) { return _mm256_set1_epi32(x); }
inline I sub_bytes(I x, int y) { return _mm256_sub_epi8(x, _mm256_set1_epi8(char(y))); }
/// One sum after the other: GCC would turn a chain of them into a tree, whose terms fill the stack.
inline I add_bytes(I sums, I x) {
  sums = _mm256_add_epi8(sums, x);
  asm("" : "+x"(sums));
  return sums;
}
inline I load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store_bytes(void* p, I x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
inline I broadcast_four(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
/// Sixteen bytes, or four floats, again and again.
inline I repeat_16(const uint8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline V repeat_four(const float* p) { return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)); }
/// Lane i = p[i / 4], and p[i] = lane 4 i.
inline V spread_fours(const float* p) { return _mm256_set_m128(_mm_set1_ps(p[1]), _mm_set1_ps(p[0])); }
inline void store_fourths(float* p, V v) {
  p[0] = _mm256_cvtss_f32(v), p[1] = _mm_cvtss_f32(_mm256_extractf128_ps(v, 1));
}
/// Lane i is the sum of the four lanes from i / 4 * 4 on of x[i % 4].
inline I sums_of_fours(const I (&x)[4]) {
  return _mm256_hadd_epi32(_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3]));
}
inline I low_nibbles(I x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
inline I high_nibbles(I x) { return _mm256_and_si256(_mm256_srli_epi16(x, 4), _mm256_set1_epi8(15)); }
inline I add_ints(I a, I b) { return _mm256_add_epi32(a, b); }
inline V to_float(I x) { return _mm256_cvtepi32_ps(x); }
/// acc += the sum of both products of a lane's pairs of 16 bits.
inline I madd_pairs(I acc, I a, I b) { return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)); }
/// Bytes 0 and 2 of a lane as a pair of 16 bits, and bytes 1 and 3.
inline I even_bytes(I x) { return _mm256_and_si256(x, _mm256_set1_epi16(255)); }
inline I odd_bytes(I x) { return _mm256_srli_epi16(x, 8); }
inline I nearest_int(V v) { return _mm256_cvtps_epi32(v); }
/// Byte i of every lane is that of four[i], in [-128, 127].
inline I signed_bytes(const I* four) {
  const I a = _mm256_packs_epi32(four[0], four[1]), b = _mm256_packs_epi32(four[2], four[3]);
  const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm256_shuffle_epi8(_mm256_packs_epi16(a, b), _mm256_broadcastsi128_si256(order));
}
/// Four rows of 2 kLanes bytes, `stride` apart, side by side: lane i of out[j] has byte kLanes j + i of each.
inline void interleave_rows(I (&out)[2], const uint8_t* rows, int64_t stride) {
  const auto two = [stride](const uint8_t* p) {
    return _mm256_loadu2_m128i(reinterpret_cast<const __m128i*>(p + stride),
                               reinterpret_cast<const __m128i*>(p));
  };
  const I a = two(rows), b = two(rows + 2 * stride);
  const I low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);  // rows 0 and 2, rows 1 and 3
  const I even = _mm256_permute2x128_si256(low, high, 0x20), odd = _mm256_permute2x128_si256(low, high, 0x31);
  const I x = _mm256_unpacklo_epi8(even, odd), y = _mm256_unpackhi_epi8(even, odd);
  out[0] = _mm256_permute2x128_si256(x, y, 0x20), out[1] = _mm256_permute2x128_si256(x, y, 0x31);
}
/// Bytes times their lane's factor, of load_factors(); the products are bytes, too.
inline I scale_bytes(I x, I factors) {
  return _mm256_mullo_epi16(x, _mm256_or_si256(factors, _mm256_slli_epi32(factors, 16)));
}
#if defined(__AVXVNNI__)
constexpr int kEightMiddle = 0, kEightBytes = 4;
constexpr bool kPairSums = false;
/// Bytes as 32-bit lanes; acc += sums times them.
inline I load_factors(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline I add_scaled(I acc, I sums, I factors) {
  return _mm256_add_epi32(acc, _mm256_mullo_epi32(sums, factors));
}
/// By hand, as in vec_avx512.h.
__attribute__((always_inline)) inline I dot_q4(I acc, I a, I w) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(a), "x"(w));
  return acc;
}
inline I dot_q8(I acc, const uint8_t* four, I w) { return dot_q4(acc, broadcast_four(four), w); }
#else
/// acc += (q - kEightMiddle) * w: 2 * 128 * 127 stays within 16 bits, 2 * 255 * 127 would not. The first
/// factor of a product of bytes is unsigned, so its sign moves to the second: for every four channels there
/// are the four differences and their magnitudes.
constexpr int kEightMiddle = 128, kEightBytes = 8;
inline I dot_q8(I acc, const uint8_t* four, I w) {
  const I pairs = _mm256_maddubs_epi16(broadcast_four(four + 4), _mm256_sign_epi8(w, broadcast_four(four)));
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  asm("" : "+x"(acc));
  return acc;
}
/// Sums of pairs of products with 4-bit weights in 16-bit lanes, and their sum in 32-bit ones.
constexpr bool kPairSums = true;
inline I add_pairs(I pairs, I a, I w) {
  pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(a, w));
  // One sum after the other: GCC would turn a chain of them into a tree, whose products fill the stack.
  asm("" : "+x"(pairs));
  return pairs;
}
inline I sub_pairs(I pairs, I a, I w) { return _mm256_sub_epi16(pairs, _mm256_maddubs_epi16(a, w)); }
/// Bytes as both numbers of a pair; acc += pairs times them.
inline I load_factors(const uint8_t* p) {
  const I x = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_or_si256(x, _mm256_slli_epi32(x, 16));
}
inline I add_scaled(I acc, I pairs, I factors) { return madd_pairs(acc, pairs, factors); }
#endif
