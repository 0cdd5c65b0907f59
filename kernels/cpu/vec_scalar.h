// The portable vector: four lanes by the compiler's vector extension, multiply and add rounded separately.
using V = float __attribute__((vector_size(16)));
using I = int32_t __attribute__((vector_size(16)));
constexpr int kLanes = 4;
constexpr int kRowTile = 2, kColTile = 4, kColTileOneRow = 4;  // of linear
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
inline V min(V a, V b) {
  for (int i = 0; i < kLanes; ++i) a[i] = a[i] < b[i] ? a[i] : b[i];
  return a;
}
inline V keep_first(V v, int64_t n, float fill) {
  for (int i = 0; i < kLanes; ++i) v[i] = i < n ? v[i] : fill;
  return v;
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
/// v * 2^n for whole n in [-126, 127]
inline V scale_by_power(V v, V n) {
  I bits;
  for (int i = 0; i < kLanes; ++i) bits[i] = (int32_t(n[i]) + 127) << 23;
  V power;
  __builtin_memcpy(&power, &bits, sizeof(V));
  return v * power;
}
inline void prefetch(const void* p) { __builtin_prefetch(p); }
