// The groups of lanes of vec_avx512.h where all lanes are one. Included by vec_avx2.h and vec_scalar.h.
constexpr int kGroupLanes = kLanes;
inline V load_groups(const void* p, int64_t, int64_t live) {
  const auto* group = static_cast<const float*>(p);
  return live == kLanes ? load(group) : load_n(group, live);
}
inline void store_groups(float* p, int64_t, V v) { store(p, v); }
inline V load_every_group(const float* p) { return load(p); }
inline void transpose_groups(V* v) { transpose(v); }
