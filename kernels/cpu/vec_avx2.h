// Eight lanes: AVX2, FMA, F16C. Sixteen registers.
using V = __m256;
constexpr int kLanes = 8;
constexpr int kRowTile = 3, kColTile = 4, kColTileOneRow = 8;  // of linear
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
inline V min(V a, V b) { return _mm256_min_ps(a, b); }
inline V keep_first(V v, int64_t n, float fill) {
  return _mm256_blendv_ps(set1(fill), v, _mm256_castsi256_ps(first_lanes(n)));
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
/// v * 2^n for whole n in [-126, 127]
inline V scale_by_power(V v, V n) {
  const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(v, _mm256_castsi256_ps(bits));
}
inline void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }
