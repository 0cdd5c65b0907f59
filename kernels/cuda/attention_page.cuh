#pragma once
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_layout.h"
#include "kernels/cuda/seq_transform.cuh"

/// One coded page of the cache for queries in tensor cores: codes to shared memory, scores, the weights of
/// V~'s rows, values. Whichever kernel calls these, in whatever company, a query gets the same bits: products
/// of integers are exact, and the floats between them are one thread's work.
///
/// Shared memory is laid out for reads of whole fragments without bank conflicts: what lies at 16-byte chunk
/// i of a row is found at chunk i ^ turn(row).
namespace stamp::cuda {

/// Rows of V~ in the order of products along them, four bytes to word w: an order that lets the lanes that
/// fetch four rows for a word each do so from different banks.
STAMP_INLINE constexpr int value_row(int w, int i) { return 4 * w + (i + w) % 4; }
/// Where the word w of a channel's values lies.
__device__ __forceinline__ int value_word(int place, int w) {
  return place * (kB / 4) + ((w / 4 ^ (place / 8 & 3)) * 4 + w % 4);
}

/// Codes of the channels 4 o .. 4 o + 3 and of those half a head further, in row r of a side.
struct Octet {
  uint32_t low, high;
};
__device__ __forceinline__ const uint8_t* row_codes(const std::byte* part, const KvSide& side, int r) {
  const int d = int(side.head_dim), high_rows = side.high_rows;
  const int high_bytes = side.high_bits > 4 ? d : d / 2, low_bytes = side.low_bits > 4 ? d : d / 2;
  return reinterpret_cast<const uint8_t*>(part + KvSide::kRows + min(r, high_rows) * high_bytes +
                                          max(r - high_rows, 0) * low_bytes);
}
/// Of rows that begin at words. kTurned: lanes two rows apart, whose 64 bytes share their banks, read the
/// halves in another order.
template <bool kTurned>
__device__ __forceinline__ Octet load_octet(const std::byte* part, const KvSide& side, int r, int o) {
  const int half = int(side.head_dim) / 8;
  const auto* const words = reinterpret_cast<const uint32_t*>(row_codes(part, side, r)) + o;
  const bool wide = side.row_bits(r) > 4, turned = kTurned && wide && (r & 2) != 0;
  const uint32_t first = words[turned ? half : 0];
  if (!wide) return {first & kLowNibbles, first >> 4 & kLowNibbles};
  const uint32_t second = words[turned ? 0 : half];
  return turned ? Octet{second, first} : Octet{first, second};
}
/// Of any rows.
__device__ __forceinline__ Octet gather_octet(const std::byte* part, const KvSide& side, int r, int o) {
  const uint8_t* const row = row_codes(part, side, r);
  const int d = int(side.head_dim), bits = side.row_bits(r);
  Octet octet{0, 0};
  for (int i = 0; i < 4 && 4 * o + i < d / 2; ++i) {
    octet.low |= uint32_t(kv_code(row, bits, 4 * o + i, d)) << 8 * i;
    octet.high |= uint32_t(kv_code(row, bits, 4 * o + i + d / 2, d)) << 8 * i;
  }
  return octet;
}

/// Bytes (a0 b0 a1 b1) of the lower halves, or (a2 b2 a3 b3) of the upper.
__device__ __forceinline__ uint32_t zip_low(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x5140); }
__device__ __forceinline__ uint32_t zip_high(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x7362); }
/// The lower halves of two words as one, or the upper.
__device__ __forceinline__ uint32_t join_low(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x5410); }
__device__ __forceinline__ uint32_t join_high(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x7632); }

/// Four rows of four channels become four channels of four rows, from `place` on at word w. Lanes with odd
/// octets write the channels in another order: neighbours' rows share their banks.
__device__ __forceinline__ void store_channels(uint32_t* values, int place, int w, const uint32_t (&rows)[4],
                                               bool odd) {
  const uint32_t a = zip_low(rows[0], rows[1]), b = zip_low(rows[2], rows[3]), x = zip_high(rows[0], rows[1]),
                 y = zip_high(rows[2], rows[3]);
  const uint32_t channels[4] = {join_low(a, b), join_high(a, b), join_low(x, y), join_high(x, y)};
#pragma unroll
  for (int i = 0; i < 4; ++i)
    values[value_word(place + (odd ? i ^ 1 : i), w)] = odd ? channels[i ^ 1] : channels[i];
}

/// What unpack_page() unpacks, and where to.
struct Unpacked {
  uint8_t* keys;     // [kB, pitch]
  uint32_t* values;  // [places, kB] bytes
  PageTables* tables;
  HeadShape shape;
};

/// The codes, of load(side's part, row, octet).
template <int kAhead, class Load>
__device__ __forceinline__ void unpack_codes(const Unpacked& to, const std::byte* k_part,
                                             const std::byte* v_part, int present, int thread, int threads,
                                             const Load& load) {
  const HeadShape& shape = to.shape;
  const int octets = shape.octets(), groups = (octets + 7) / 8;
#pragma unroll 4 * kAhead
  for (int i = thread; i < 8 * kB * groups; i += threads) {
    const int r = i / 8 % kB, o = i / (8 * kB) * 8 + i % 8;
    if (o >= octets) continue;
    const Octet octet = r < present ? load(k_part, r, o) : Octet{0, 0};
    *reinterpret_cast<uint32_t*>(to.keys + r * shape.pitch + 4 * o) = octet.low;
    *reinterpret_cast<uint32_t*>(to.keys + r * shape.pitch + shape.half + 4 * o) = octet.high;
  }
#pragma unroll kAhead
  for (int i = thread; i < 8 * (kB / 4) * groups; i += threads) {
    const int w = i / 8 % (kB / 4), o = i / (8 * (kB / 4)) * 8 + i % 8;
    if (o >= octets) continue;
    uint32_t low[4], high[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int r = value_row(w, j);
      const Octet octet = r < present ? load(v_part, r, o) : Octet{0, 0};
      low[j] = octet.low, high[j] = octet.high;
    }
    store_channels(to.values, 4 * o, w, low, o % 2 == 1);
    store_channels(to.values, shape.half + 4 * o, w, high, o % 2 == 1);
  }
}
/// Of heads whose rows do not begin at words. Few models have such, and its code would keep the others'
/// apart.
__device__ __noinline__ void gather_codes(Unpacked to, const std::byte* k_part, KvSide side, int present,
                                          int thread, int threads) {
  unpack_codes<1>(to, k_part, k_part + side.bytes(), present, thread, threads,
                  [&](const std::byte* part, int r, int o) { return gather_octet(part, side, r, o); });
}

/// A page's keys and values as bytes, and its parameters, those of coefficients with D
/// (kernels/seq_transform.h), by threads `thread` of `threads`. Rows from `present` on hold nothing yet.
/// kShared: the page is in shared memory. kAhead: words of V~ that a thread puts together at a time, rows of
/// K~ four times as many.
template <bool kShared, int kAhead>
__device__ __forceinline__ void unpack_page(const Unpacked& to, const std::byte* part, const KvSide& side,
                                            const BitPlan& plan, int present, int thread, int threads) {
  const std::byte* const v_part = part + side.bytes();
  PageTables& tables = *to.tables;
#pragma unroll 1
  for (int r = thread; r < kB; r += threads) {
    const bool here = r < present;
    const KvParameters k = here ? kv_parameters(part, side, r) : KvParameters{0.0f, 0.0f},
                       v = here ? kv_parameters(v_part, side, r) : KvParameters{0.0f, 0.0f};
    const float turned = transform_scale(plan.transform, plan.levels, r);
    const int place = table_place(r);
    tables.k_scale[place] = k.scale * turned, tables.k_zero[place] = k.zero;
    tables.v_scale[place] = v.scale * turned, tables.v_zero[place] = v.zero;
    const int row = value_row(r / 4, r % 4);
    reinterpret_cast<uint8_t*>(tables.v_zeros)[r] =
        row < present ? uint8_t(v_part[KvSide::kZeros + row]) : uint8_t(0);
  }
  if (to.shape.d % 8 != 0) return gather_codes(to, part, side, present, thread, threads);
  unpack_codes<kAhead>(to, part, v_part, present, thread, threads, [&](const std::byte* codes, int r, int o) {
    return load_octet<kShared>(codes, side, r, o);
  });
}

/// A query as Ops::attention rounds it: codes and their sum, and the step that makes them scores.
struct Query {
  float step = 1.0f, sum = 0.0f;
};

/// Codes a query, a warp together; `codes` is zero before. Every lane gets the result. kAhead: channels of a
/// lane on their way.
template <int kAhead>
__device__ __forceinline__ Query load_query(uint8_t* codes, const float* q, const HeadShape& shape,
                                            float scale) {
  const int lane = int(threadIdx.x) % kWarpSize;
  float peak = 0.0f;
#pragma unroll kAhead
  for (int c = lane; c < shape.d; c += kWarpSize) peak = fmaxf(peak, fabsf(q[c]));
  peak = warp_reduce(peak, Max{});
  if (!(peak > kLeastPeak)) return {};
  const float factor = 127.0f / peak;
  int sum = 0;
#pragma unroll kAhead
  for (int c = lane; c < shape.d; c += kWarpSize) {
    const int code = __float2int_rn(q[c] * factor);
    codes[shape.place_of(c)] = uint8_t(code);
    sum += code;
  }
  return {peak * (scale / 127.0f), float(warp_reduce(sum, Sum{}))};
}

enum WeightByte { kNarrow = 0, kWideHigh = 1, kWideLow = 2 };
/// Where the chunk of four scores lies in row `row`.
STAMP_INLINE constexpr int score_place(int row, int chunk) {
  return chunk ^ chunk >> 3 ^ ((row & 3) << 1 | (row >> 2 & 1));
}
STAMP_INLINE constexpr int weight_turn(int row) { return (row & 1) << 2 | (row >> 1 & 3); }

/// scores [kRows, kB] = queries [kRows, d] keys^T, a warp together. kRows is 8 or a multiple of 16.
template <int kRows>
__device__ __forceinline__ void page_scores(int32_t* scores, const uint8_t* queries, const uint8_t* keys,
                                            const HeadShape& shape) {
  constexpr int kTiles = (kRows + 15) / 16;
  constexpr bool kUpper = kRows >= 16;
  const int lane = int(threadIdx.x) % kWarpSize, group = lane / 4, four = lane % 4;
  int32_t sums[kTiles][kB / 8][4] = {};
  for (int at = four * 8; at < shape.places; at += 32) {
    uint32_t a[kTiles][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint8_t* const q = queries + (16 * tile + group) * shape.pitch + at;
      const uint2 lower = *reinterpret_cast<const uint2*>(q);
      const uint2 upper = kUpper ? *reinterpret_cast<const uint2*>(q + 8 * shape.pitch) : make_uint2(0u, 0u);
      a[tile][0] = lower.x, a[tile][1] = upper.x, a[tile][2] = lower.y, a[tile][3] = upper.y;
    }
#pragma unroll
    for (int n = 0; n < kB / 8; ++n) {
      const uint2 k = *reinterpret_cast<const uint2*>(keys + (8 * n + group) * shape.pitch + at);
      const uint32_t b[2] = {k.x, k.y};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) mma_s8_u8(sums[tile][n], a[tile], b, sums[tile][n]);
    }
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int n = 0; n < kB / 8; ++n)
#pragma unroll
      for (int upper = 0; upper < (kUpper ? 2 : 1); ++upper) {
        const int row = 16 * tile + 8 * upper + group, place = score_place(group, 2 * n + four / 2);
        *reinterpret_cast<uint2*>(scores + row * kRowWords + place * 4 + four % 2 * 2) =
            make_uint2(uint32_t(sums[tile][n][2 * upper]), uint32_t(sums[tile][n][2 * upper + 1]));
      }
}

/// A page's part of one query's result: the greatest score and the sum of its weights, relative to 2^top; and
/// what makes integers of them, values = narrow_step * narrow sums + wide_step * wide sums - shift.
struct PageWeights {
  float top, total, narrow_step, wide_step, shift;
};

__device__ __forceinline__ float max_of(const float (&t)[kB], bool magnitudes) {
  float four[4];
#pragma unroll
  for (int r = 0; r < kB; ++r) {
    const float x = magnitudes ? fabsf(t[r]) : t[r];
    four[r % 4] = r < 4 ? x : fmaxf(four[r % 4], x);
  }
  return fmaxf(fmaxf(four[0], four[1]), fmaxf(four[2], four[3]));
}

constexpr float kMostWideWeight = 127.0f * 256.0f;

/// The high and the low bytes of four 16-bit weights, `moved` by half of the low byte's range, which is
/// signed.
__device__ __forceinline__ void wide_bytes(uint32_t& high, uint32_t& low, const uint32_t (&moved)[4]) {
  const uint32_t a = zip_low(moved[0], moved[1]), b = zip_low(moved[2], moved[3]);
  low = join_low(a, b) ^ 0x80808080u;
  high = join_high(a, b);
}
/// Four 8-bit weights of t(0) .. t(3).
template <class Value>
__device__ __forceinline__ uint32_t narrow_bytes(const Value& t, float factor) {
  uint32_t byte[4];
  // A whole number next to 1.5 * 2^23 is the lowest bits of the sum.
#pragma unroll
  for (int j = 0; j < 4; ++j) byte[j] = __float_as_uint(fmaf(t(j), factor, 12582912.0f));
  return join_low(zip_low(byte[0], byte[1]), zip_low(byte[2], byte[3]));
}

/// The 8-bit weights of 16 rows, t(0) .. t(15), in value_row()'s order; zeros += their products with the zero
/// points.
template <class Value>
__device__ __forceinline__ uint4 narrow_chunk(const Value& t, float factor, const uint4& points,
                                              int32_t& zeros) {
  const uint32_t point[4] = {points.x, points.y, points.z, points.w};
  uint32_t word[4];
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    word[w] = narrow_bytes([&](int j) { return t(value_row(w, j)); }, factor);
    zeros = dp4a_u8_s8(point[w], word[w], zeros);
  }
  return make_uint4(word[0], word[1], word[2], word[3]);
}

/// The bytes of word w's 16-bit weights; t[0] is row `first`'s. Rows that are not wide have none, those that
/// are leave zeros in t. Adds products with the zero points to `zeros`, every fourth row's to one sum.
template <int kRows>
__device__ __forceinline__ void wide_word(uint32_t& high, uint32_t& low, float (&zeros)[4], float (&t)[kRows],
                                          int w, int first, int wide, float factor,
                                          const PageTables& tables) {
  uint32_t moved[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const int k = value_row(w, j), r = first + k;
    const int weight = r < wide ? __float2int_rn(t[k] * factor) : 0;
    zeros[k % 4] = fmaf(float(weight), tables.v_zero[table_place(r)], zeros[k % 4]);
    moved[j] = uint32_t(weight + 128);
    t[k] = r < wide ? 0.0f : t[k];
  }
  wide_bytes(high, low, moved);
}

/// Rounds the weights t of a page's wide rows to 16 bits, stores them and leaves zeros in their place.
__device__ __forceinline__ void store_wide_weights(PageWeights& result, uint4* words, int turn,
                                                   float (&t)[kB], int wide, const PageTables& tables) {
  float peak = 0.0f;
#pragma unroll
  for (int w = 0; w < kB / 4; ++w) {
    if (4 * w >= wide) break;
#pragma unroll
    for (int r = 4 * w; r < 4 * w + 4; ++r) peak = fmaxf(peak, r < wide ? fabsf(t[r]) : 0.0f);
  }
  const float factor = peak > kLeastPeak ? kMostWideWeight / peak : 0.0f;
  float zeros[4] = {};
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk) {
    uint32_t high[4] = {}, low[4] = {};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int w = 4 * chunk + i;
      if (4 * w >= wide) continue;
      wide_word(high[i], low[i], zeros, t, w, 0, wide, factor, tables);
    }
    words[(4 * kWideHigh + chunk) ^ turn] = make_uint4(high[0], high[1], high[2], high[3]);
    words[(4 * kWideLow + chunk) ^ turn] = make_uint4(low[0], low[1], low[2], low[3]);
  }
  result.wide_step = peak * (1.0f / kMostWideWeight);
  result.shift = ((zeros[0] + zeros[1]) + (zeros[2] + zeros[3])) * result.wide_step;
}

/// Rounds the weights t of a page's narrow rows to 8 bits and stores them.
__device__ __forceinline__ void store_narrow_weights(PageWeights& result, uint4* words, int turn,
                                                     const float (&t)[kB], const PageTables& tables) {
  const float peak = max_of(t, true), factor = peak > kLeastPeak ? 127.0f / peak : 0.0f;
  int32_t zeros = 0;  // in sixteenths
#pragma unroll
  for (int chunk = 0; chunk < 4; ++chunk) {
    const uint4 points = reinterpret_cast<const uint4*>(tables.v_zeros)[chunk];
    words[(4 * kNarrow + chunk) ^ turn] =
        narrow_chunk([&](int r) { return t[16 * chunk + r]; }, factor, points, zeros);
  }
  result.narrow_step = peak * (1.0f / 127.0f);
  result.shift = fmaf(float(zeros), result.narrow_step * (1.0f / 16.0f), result.shift);
}

/// From a row of scores to its weights, in place, a thread alone. Of the page's keys the first `visible` are
/// seen. Only rows whose bits `side` has are written: wide ones, narrow ones or both.
__device__ __forceinline__ PageWeights page_weights(int32_t* scores, int row, const PageTables& tables,
                                                    const Query& query, int64_t visible, int wide,
                                                    const BitPlan& plan, const DctTable* dct) {
  auto* const words = reinterpret_cast<uint4*>(scores + row * kRowWords);
  float t[kB];
#pragma unroll
  for (int r = 0; r < kB; r += 4) {
    const auto dot = *reinterpret_cast<const int4*>(&words[score_place(row, r / 4)]);
    const auto scale = *reinterpret_cast<const float4*>(&tables.k_scale[table_place(r)]),
               zero = *reinterpret_cast<const float4*>(&tables.k_zero[table_place(r)]);
    t[r] = fmaf(-zero.x, query.sum, float(dot.x)) * scale.x;
    t[r + 1] = fmaf(-zero.y, query.sum, float(dot.y)) * scale.y;
    t[r + 2] = fmaf(-zero.z, query.sum, float(dot.z)) * scale.z;
    t[r + 3] = fmaf(-zero.w, query.sum, float(dot.w)) * scale.w;
  }
  sums<true>(t, plan, dct);
  if (visible < kB) {
#pragma unroll
    for (int r = 0; r < kB; ++r) t[r] = r < visible ? t[r] : -INFINITY;
  }
  const float top = max_of(t, false) * query.step, base = top > -INFINITY ? top : 0.0f;
  float totals[4];
#pragma unroll
  for (int r = 0; r < kB; ++r) {
    t[r] = exp2_approx(fmaf(t[r], query.step, -base));
    totals[r % 4] = r < 4 ? t[r] : totals[r % 4] + t[r];
  }
  PageWeights result{top, (totals[0] + totals[1]) + (totals[2] + totals[3]), 0.0f, 0.0f, 0.0f};
  sums<false>(t, plan, dct);
#pragma unroll
  for (int r = 0; r < kB; r += 4) {
    const auto scale = *reinterpret_cast<const float4*>(&tables.v_scale[table_place(r)]);
    t[r] *= scale.x, t[r + 1] *= scale.y, t[r + 2] *= scale.z, t[r + 3] *= scale.w;
  }
  const int turn = weight_turn(row);
  if (wide > 0) store_wide_weights(result, words, turn, t, wide, tables);
  if (wide < kB) store_narrow_weights(result, words, turn, t, tables);
  return result;
}

/// What a page does to a query's sums: sum * old + (narrow * its sum + (wide * its sum - shift)).
struct PageFactors {
  float old, narrow, wide, shift;
};
__device__ __forceinline__ PageFactors page_factors(const PageWeights& page, const Fold& f) {
  return {f.old_weight, page.narrow_step * f.new_weight, page.wide_step * f.new_weight,
          page.shift * f.new_weight};
}

/// The products of kRows weights and a page's values, a warp together: calls add(row, place, x, y), x and y
/// for the places `place` and the next. factors(i): those of row 8 i + lane / 4.
template <int kRows, class Factors, class Add>
__device__ __forceinline__ void page_values(const int32_t* weights, const uint32_t* values,
                                            const HeadShape& shape, int wide, const Factors& factors,
                                            const Add& add) {
  constexpr int kTiles = (kRows + 15) / 16, kUppers = kRows >= 16 ? 2 : 1;
  const int lane = int(threadIdx.x) % kWarpSize, group = lane / 4, four = lane % 4;
  PageFactors f[kTiles * kUppers];
#pragma unroll
  for (int i = 0; i < kTiles * kUppers; ++i) f[i] = factors(i);
  uint4 weight[3][kTiles][2];
  const auto load_weights = [&](int byte) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int upper = 0; upper < 2; ++upper)
        weight[byte][tile][upper] =
            upper < kUppers
                ? *reinterpret_cast<const uint4*>(weights + (16 * tile + 8 * upper + group) * kRowWords +
                                                  ((4 * byte + four) ^ weight_turn(group)) * 4)
                : make_uint4(0u, 0u, 0u, 0u);
  };
  if (wide < kB) load_weights(kNarrow);
  if (wide > 0) load_weights(kWideHigh), load_weights(kWideLow);
  const auto multiply = [&](int32_t(&sums)[kTiles][4], int byte, const uint4& v, int steps) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint4 &lower = weight[byte][tile][0], &upper = weight[byte][tile][1];
      const uint32_t first[4] = {lower.x, upper.x, lower.y, upper.y}, first_v[2] = {v.x, v.y};
      mma_s8_u8(sums[tile], first, first_v, sums[tile]);
      if (steps == 1) continue;
      const uint32_t second[4] = {lower.z, upper.z, lower.w, upper.w}, second_v[2] = {v.z, v.w};
      mma_s8_u8(sums[tile], second, second_v, sums[tile]);
    }
  };
  // The first step has the words 0 and 1 of each chunk of four: rows 0 .. 7 are there.
  const int wide_steps = wide > 8 ? 2 : 1;
#pragma unroll(kRows >= 16 ? 2 : 1)
  for (int n = 0; n < shape.places / 8; ++n) {
    const int channel = 8 * n + group;
    const auto v = *reinterpret_cast<const uint4*>(values + value_word(channel, 4 * four));
    int32_t narrow[kTiles][4] = {}, high[kTiles][4] = {}, low[kTiles][4] = {};
    if (wide < kB) multiply(narrow, kNarrow, v, 2);
    if (wide > 0) {
      multiply(high, kWideHigh, v, wide_steps);
      multiply(low, kWideLow, v, wide_steps);
    }
#pragma unroll
    for (int i = 0; i < kTiles * kUppers; ++i) {
      const int tile = i / kUppers, upper = i % kUppers;
      float x[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int at = 2 * upper + j;
        const float wide_sum = float(high[tile][at] * 256 + low[tile][at]);
        x[j] = fmaf(float(narrow[tile][at]), f[i].narrow, fmaf(wide_sum, f[i].wide, -f[i].shift));
      }
      add(16 * tile + 8 * upper + group, 8 * n + 2 * four, f[i].old, x[0], x[1]);
    }
  }
}

/// Sums of a query, float [rows, places]: where a place lies, so that fragments and whole rows are read and
/// written without bank conflicts.
__device__ __forceinline__ int sum_at(const HeadShape& shape, int row, int place) {
  return row * shape.places + (place ^ 8 * (row & 3));
}

}  // namespace stamp::cuda
