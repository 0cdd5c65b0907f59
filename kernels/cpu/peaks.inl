// What the instruction set does at most. An operand and the sum are "changed" in every step, or the compiler
// would take the products out of the loop, or do all of them before the sums.

#if defined(__x86_64__)
#define STAMP_REGISTER "+x"
#else
#define STAMP_REGISTER "+w"
#endif

constexpr int kPeakSums =
    10;  // that do not wait for each other: a fused addition's latency times two a clock
constexpr int kPeakPairs = 4;  // sums of pairs and their sums, which stay in registers
constexpr int kPeakSteps =
    8;  // products of a byte and 4 bits that fit into 16 bits, as linear_int.inl adds them

float peak_read(const float* data, int64_t floats) {
  constexpr int kReads = 8;
  V sums[kReads];
#pragma GCC unroll 8
  for (int c = 0; c < kReads; ++c) sums[c] = set1(0.0f);
  for (int64_t i = 0; i < floats; i += kReads * kLanes)
#pragma GCC unroll 8
    for (int c = 0; c < kReads; ++c) sums[c] = add(sums[c], load(data + i + c * kLanes));
#pragma GCC unroll 8
  for (int c = 1; c < kReads; ++c) sums[0] = add(sums[0], sums[c]);
  return reduce_add(sums[0]);
}

float peak_floats(int64_t steps) {
  V sums[kPeakSums], a = set1(1.0f);
  const V b = set1(2.0f);
#pragma GCC unroll 16
  for (int c = 0; c < kPeakSums; ++c) sums[c] = set1(0.0f);
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 16
    for (int c = 0; c < kPeakSums; ++c) {
      asm volatile("" : STAMP_REGISTER(a), STAMP_REGISTER(sums[c]));
      sums[c] = fma(a, b, sums[c]);
    }
#pragma GCC unroll 16
  for (int c = 1; c < kPeakSums; ++c) sums[0] = add(sums[0], sums[c]);
  return reduce_add(sums[0]);
}

/// sum += a * b, bytes into 32 bits. A template, because each branch uses what only some instruction sets
/// have.
template <bool kPairs, class T>
inline __attribute__((always_inline)) T peak_dot(T sum, T a, T b) {
  if constexpr (kPairs) return fold_pairs(sum, add_pairs(int_zero(), a, b));
  else return dot_q4(sum, a, b);
}

/// Bytes times bytes on tiles, none of which is loaded anew.
float peak_tiles(int64_t steps) {
  Tiles tiles;
  tiles.shape({16, 16, 16, 16, 16, 16, 16, 16});
  for (int64_t s = 0; s < steps; ++s)
    tiles.dot<0, 4, 6>(), tiles.dot<1, 4, 7>(), tiles.dot<2, 5, 6>(), tiles.dot<3, 5, 7>();
  int32_t sums[16][16];
  tiles.store<0>(sums, 64);
  return float(sums[0][0]);
}

/// Bytes times bytes into sums of 32 bits.
float peak_int8(int64_t steps) {
  if constexpr (kOnTiles) return peak_tiles(steps);
  constexpr int kSums = kPairSums ? kPeakPairs : kPeakSums;
  I sums[kSums], a = int_set(0x03030303);
  const I b = int_set(0x05050505);
#pragma GCC unroll 16
  for (int c = 0; c < kSums; ++c) sums[c] = int_zero();
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 16
    for (int c = 0; c < kSums; ++c) {
      asm volatile("" : STAMP_REGISTER(a), STAMP_REGISTER(sums[c]));
      sums[c] = peak_dot<kPairSums>(sums[c], a, b);
    }
  V total = to_float(sums[0]);
#pragma GCC unroll 16
  for (int c = 1; c < kSums; ++c) total = add(total, to_float(sums[c]));
  return reduce_add(total);
}

/// Bytes times 4 bits, first into sums of 16 bits where the instruction set gains by it.
template <bool kPairs, class T>
float peak_int4_of(int64_t steps) {
  if constexpr (!kPairs) {
    return peak_int8(steps);
  } else {
    T sums[kPeakPairs], a = int_set(0x03030303);
    const T b = int_set(0x05050505);
#pragma GCC unroll 16
    for (int c = 0; c < kPeakPairs; ++c) sums[c] = int_zero();
    for (int64_t s = 0; s < steps; ++s) {
      T pairs[kPeakPairs];
#pragma GCC unroll 16
      for (int c = 0; c < kPeakPairs; ++c) pairs[c] = int_zero();
#pragma GCC unroll 16
      for (int step = 0; step < kPeakSteps; ++step)
#pragma GCC unroll 16
        for (int c = 0; c < kPeakPairs; ++c) {
          asm volatile("" : STAMP_REGISTER(a), STAMP_REGISTER(pairs[c]));
          pairs[c] = add_pairs(pairs[c], a, b);
        }
#pragma GCC unroll 16
      for (int c = 0; c < kPeakPairs; ++c) sums[c] = fold_pairs(sums[c], pairs[c]);
    }
    V total = to_float(sums[0]);
#pragma GCC unroll 16
    for (int c = 1; c < kPeakPairs; ++c) total = add(total, to_float(sums[c]));
    return reduce_add(total);
  }
}

float peak_int4(int64_t steps) { return peak_int4_of<kPairSums, I>(steps); }

#undef STAMP_REGISTER

// A lane of 32 bits takes four products, each an addition, too.
constexpr double kPeakOps = 2.0 * kLanes, kPeakTileOps = 4 * 2.0 * 16 * 16 * 64;
constexpr double kPeakInt8Ops = kOnTiles ? kPeakTileOps : 4 * kPeakOps * (kPairSums ? kPeakPairs : kPeakSums);
const PeakLoops kPeakLoops = {.read = peak_read,
                              .int8 = peak_int8,
                              .int4 = peak_int4,
                              .floats = peak_floats,
                              .int8_ops = kPeakInt8Ops,
                              .int4_ops = kPeakInt8Ops * (kPairSums ? kPeakSteps : 1),
                              .float_ops = kPeakOps * kPeakSums};
