// What lanes of AVX2 and of AVX-512 have in common. Included by vec_avx2.h and vec_avx512.h.

/// The nearest binary16 to x >= 0, largest finite at most; and back.
inline uint16_t float_to_half(float x) {
  const __m128i half =
      _mm_cvtps_ph(_mm_min_ss(_mm_set_ss(x), _mm_set_ss(65504.0f)), _MM_FROUND_TO_NEAREST_INT);
  return uint16_t(_mm_cvtsi128_si32(half));
}
inline float half_to_float(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
