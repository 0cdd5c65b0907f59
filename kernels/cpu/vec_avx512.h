// Sixteen lanes: AVX-512 F, BW, VL, DQ. Thirty-two registers.
using V = __m512;
constexpr int kLanes = 16;
constexpr int kRowTile = 4, kColTile = 6, kColTileOneRow = 8;  // of linear
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
inline V min(V a, V b) { return _mm512_min_ps(a, b); }
inline V keep_first(V v, int64_t n, float fill) { return _mm512_mask_mov_ps(set1(fill), first_lanes(n), v); }
/// Halves folded onto each other: lanes i and i + 8, then 4, 2, 1.
inline float reduce_add(V v) {
  const __m256 y = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float reduce_max(V v) { return _mm512_reduce_max_ps(v); }
inline V round_nearest(V v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/// v * 2^n for whole n in [-126, 127]
inline V scale_by_power(V v, V n) { return _mm512_scalef_ps(v, n); }
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
