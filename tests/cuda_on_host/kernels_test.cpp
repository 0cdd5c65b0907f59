// What the kernels do beyond their results: the same bits on every path and in every schedule, and how they
// use memory and tensor cores, as the executor counts it.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/tile_plan.h"
#include "kernels/half.h"
#include "kernels/ops.h"
#include "tests/cuda_on_host/executor.h"
#include "tests/kernels/nmse.h"
#include "tests/kernels/quantised.h"
#include "tests/kernels/random_weight.h"

namespace stamp {
namespace {

using cuda_on_host::kArchitectures;
using cuda_on_host::Profile;
using cuda_on_host::settings;

const cuda_on_host::Architecture &kNibbles = kArchitectures[0], &kWarpgroups = kArchitectures[3],
                                 &kBytes = kArchitectures[4];  // by the fastest integer products they have

constexpr BitPlan kHaar{.transform = SeqTransform::kHaar, .levels = 5, .high_rows = 2, .low_bits = 4};

Buffer<float> random_floats(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Buffer<float> x(n);
  for (float& value : x.span()) value = normal(rng);
  return x;
}

/// quantize() and linear() of one batch that begins a sequence: block 0, coded blocks, a rest. Fewer rows are
/// the first of more.
std::vector<Buffer<float>> products(Ops& ops, int64_t rows, std::span<const WeightView> weights) {
  const int64_t k = weights.front().cols;
  const auto x = random_floats(rows * k, 1);
  const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
  Quantised in(rows, k, kHaar, {&run, 1});
  ops.quantize(in.view, {x.data(), rows, k, k});
  std::vector<Buffer<float>> out, biases;
  std::vector<Product> together;
  for (const WeightView& weight : weights) {
    out.emplace_back(rows * weight.rows);
    biases.push_back(random_floats(weight.rows, 2));
    together.push_back({out.back().mat(rows, weight.rows), weight, biases.back().span()});
  }
  ops.linear(together, in.view);
  return out;
}
Buffer<float> product(Ops& ops, int64_t rows, const WeightView& weight) {
  return std::move(products(ops, rows, {&weight, 1}).front());
}

/// Of normed rows quantised under kHaar, y + product and silu(product) * other product; all operands in
/// `memory`.
struct Followed {
  Buffer<float> added, gated;  // [rows, n], in the host's memory
};
Followed followed(Ops& ops, Memory& memory, int64_t rows, std::span<const WeightView> weights) {
  const int64_t k = weights.front().cols, n = weights.front().rows, size = rows * n;
  const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
  Quantised in(rows, k, kHaar, {&run, 1}, memory);
  const auto there = [&](const Buffer<float>& values) {
    Buffer<float> copy(values.size(), memory);
    memory.write(copy.data(), values.data(), values.size() * int64_t{sizeof(float)});
    return copy;
  };
  Buffer<float> x = there(random_floats(rows * k, 1)), y = there(random_floats(size, 2)), first(size, memory),
                second(size, memory), normed(rows * k, memory);
  const Buffer<float> bias = random_floats(n, 3), other_bias = random_floats(n, 4);
  const Buffer<float> gain = random_floats(k, 5);
  const auto quantize = [&] {
    ops.rms_norm(normed.mat(rows, k), x.mat(rows, k), gain.span(), 1e-5f);
    ops.quantize(in.view, normed.mat(rows, k));
  };
  quantize();
  ops.linear(first.mat(rows, n), in.view, weights[0], bias.span());
  ops.add(y.mat(rows, n), first.mat(rows, n));
  quantize();
  const Product pair[] = {{first.mat(rows, n), weights[0], bias.span()},
                          {second.mat(rows, n), weights[1], other_bias.span()}};
  ops.linear(pair, in.view);
  ops.silu_mul(first.mat(rows, n), second.mat(rows, n));
  Followed result{Buffer<float>(size), Buffer<float>(size)};
  memory.read(result.added.data(), y.data(), size * int64_t{sizeof(float)});
  memory.read(result.gated.data(), first.data(), size * int64_t{sizeof(float)});
  return result;
}

struct Heads {
  int64_t query = 1, kv = 1, dim = 16;
};

/// append_kv() and attention() of a sequence, chunk after chunk, over pages in some order.
Buffer<float> attended(Ops& ops, const std::vector<int64_t>& chunks, const Heads& heads,
                       const KvFormat& format = {.coded = true, .plan = kHaar}) {
  int64_t tokens = 0;
  for (int64_t count : chunks) tokens += count;
  const int64_t pages = (tokens + kBlock - 1) / kBlock, width = heads.query * heads.dim,
                kv_width = heads.kv * heads.dim;
  const auto q = random_floats(tokens * width, 3), k = random_floats(tokens * kv_width, 4),
             v = random_floats(tokens * kv_width, 5);
  std::vector<int32_t> table;
  for (int64_t i = 0; i < pages; ++i) table.push_back(int32_t((i + 2) % pages));
  KvPages kv{.open = {},
             .sealed = {},
             .layer_index = 0,
             .kv_heads = heads.kv,
             .head_dim = heads.dim,
             .format = format};
  Buffer<std::byte> open_pages(pages * kv.open_layer_bytes(), ops.memory()),
      sealed_pages(pages * kv.sealed_layer_bytes(), ops.memory());
  std::vector<std::byte*> open, sealed;
  for (int64_t i = 0; i < pages; ++i) {
    open.push_back(open_pages.data() + i * kv.open_layer_bytes());
    sealed.push_back(sealed_pages.data() + i * kv.sealed_layer_bytes());
  }
  kv.open = open;
  kv.sealed = sealed;
  Buffer<float> out(tokens * width);
  int64_t at = 0;
  for (int64_t count : chunks) {
    const RowRun run{.row = 0, .count = count, .position = at, .pages = table};
    const auto rows = [&](const Buffer<float>& x, int64_t cols) {
      return Mat<const float>{x.data() + at * cols, count, cols, cols};
    };
    ops.append_kv(kv, rows(k, kv_width), rows(v, kv_width), {&run, 1});
    ops.attention({out.data() + at * width, count, width, width}, rows(q, width), kv, {&run, 1}, 0.2f);
    at += count;
  }
  return out;
}

/// Every other operation, on shapes without ragged edges.
void run_small_operations(Ops& ops) {
  const int64_t rows = 64, cols = 576;
  const auto a = random_floats(rows * cols, 6), b = random_floats(cols * cols, 7), mix = random_floats(81, 8);
  Buffer<float> x(rows * cols), out(rows);
  const std::vector<uint16_t> table(size_t(rows * cols), uint16_t{0x3c00});
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = int32_t(i * 7 % 64);
  const Mat<float> y = x.mat(rows, cols);
  const Mat<const float> in{a.data(), rows, cols, cols}, other{b.data(), rows, cols, cols};
  ops.embed(y, ids, {.data = table.data(), .dtype = DType::kF16, .rows = rows, .cols = cols});
  ops.gather(y, in, ids);
  ops.rms_norm(y, in, b.span().first(size_t(cols)), 1e-5f);
  ops.silu_mul(y, other);
  ops.add(y, other);
  ops.rope(y, {a.data(), rows, 32, 32}, {b.data(), rows, 32, 32});
  ops.rotate(y, {.block = 64, .signs = {}, .mix = mix.span()}, false);
  ops.linear(y, in, {.data = b.data(), .dtype = DType::kF32, .rows = cols, .cols = cols}, {});
  ops.linear({x.data(), rows, rows, rows}, in,
             {.data = table.data(), .dtype = DType::kF16, .rows = rows, .cols = cols}, {});
  ops.argmax(ids, in);
  const std::vector<Draw> draws{{}, {.top_k = 5, .row = 1}, {.top_p = 0.9f, .row = 2}};
  ops.draw(std::span(ids).first(draws.size()), {a.data(), 3, 12288, 12288}, draws);
  ops.token_logprobs(out.span(), in, ids);
  ops.kl_divergence(out.span(), in, other);
}

class KernelsOnHost : public testing::Test {
 protected:
  void TearDown() override {
    settings() = {};
    cuda_on_host::least_cublas_lt_columns() = 0;
    Profile::instance().enable(false);
    Profile::instance().reset();
  }
};

TEST_F(KernelsOnHost, IntegerProductsHaveTheSameBitsOnEveryTensorCorePath) {
  for (const auto& [dtype, group] : std::vector<std::pair<DType, int64_t>>{
           {DType::kQ8, 0}, {DType::kQ4, 32}, {DType::kQ4, 64}, {DType::kQ4, 128}}) {
    const PackedWeight weight = random_weight(dtype, 70, 200, group, 7);
    settings().architecture = kNibbles;
    const Buffer<float> truth = product(*make_ops("cuda_host"), 200, weight.view);
    for (auto architecture : {kNibbles, kBytes, kWarpgroups}) {
      for (int multiprocessors : {architecture.multiprocessors, 2, 1}) {
        architecture.multiprocessors = multiprocessors;
        settings().architecture = architecture;
        const Buffer<float> out = product(*make_ops("cuda_host"), 200, weight.view);
        EXPECT_EQ(0, std::memcmp(out.data(), truth.data(), size_t(out.size()) * 4))
            << architecture.name << " " << group << " " << multiprocessors;
      }
    }
  }
}

/// Whether products of random integers under a plan without a transform are those of the format, to the bit.
void expect_exact_products(Ops& ops, const BitPlan& plan, const WeightView& weight) {
  const int64_t rows = 150, k = weight.cols;
  std::mt19937 rng(3);
  const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
  Quantised in(rows, k, plan, {&run, 1});
  uint8_t* const q = in.view.q;
  const int64_t stride = in.view.stride;
  for (const RowTile& tile : in.tiles)
    for (int64_t r = 0; r < tile.count; ++r)
      for (int64_t c = 0; c < k; ++c)
        q[(tile.row + r) * stride + c] = uint8_t(rng() % (1u << (tile.coded ? plan.bits(r) : kTokenBits)));
  const Buffer<float> scale = random_floats(rows, 4), offset = random_floats(rows, 5);
  std::ranges::copy(scale.span(), in.view.scale);
  std::ranges::copy(offset.span(), in.view.offset);
  Buffer<float> out(rows * weight.rows);
  ops.linear(out.mat(rows, weight.rows), in.view, weight, {});
  std::vector<float> values(static_cast<size_t>(k));
  for (int64_t n = 0; n < weight.rows; ++n) {
    unpack_row(weight, n, values);
    std::vector<int32_t> w;
    for (float value : values) w.push_back(int32_t(std::lround(value / weight.scale[n])));
    for (int64_t r = 0; r < rows; ++r) {
      int32_t sum = 0;
      for (int64_t c = 0; c < k; ++c) sum += q[r * stride + c] * w[size_t(c)];
      const float row = std::fma(scale[r], float(sum), offset[r] * float(weight.sum[n]));
      ASSERT_EQ(out[r * weight.rows + n], weight.scale[n] * row) << r << " " << n;
    }
  }
}

/// Every path and every plan; coefficients of more bits than four are few, or many; the depth ends in the
/// midst of a stage, of a group of 128 and of the four groups whose zero points lie together.
TEST_F(KernelsOnHost, IntegerProductsAreExactlyTheIntegersOfTheFormat) {
  struct Case {
    DType dtype;
    int64_t group;
    cuda_on_host::Architecture architecture;
    int high_rows;
  };
  for (auto [dtype, group, architecture, high_rows] :
       {Case{DType::kQ8, 0, kBytes, 2}, Case{DType::kQ4, 32, kBytes, 2}, Case{DType::kQ4, 64, kBytes, 2},
        Case{DType::kQ4, 128, kBytes, 2}, Case{DType::kQ4, 64, kNibbles, 2},
        Case{DType::kQ4, 64, kNibbles, 10}, Case{DType::kQ8, 0, kWarpgroups, 2},
        Case{DType::kQ4, 64, kWarpgroups, 2}, Case{DType::kQ4, 128, kWarpgroups, 2}}) {
    const PackedWeight weight = random_weight(dtype, 52, 800, group, 11);
    for (int multiprocessors : {architecture.multiprocessors, 4, 2, 1}) {
      SCOPED_TRACE(std::string(architecture.name) + ", groups of " + std::to_string(group) + ", " +
                   std::to_string(multiprocessors) + " multiprocessors");
      architecture.multiprocessors = multiprocessors;
      settings().architecture = architecture;
      expect_exact_products(*make_ops("cuda_host"), {.high_rows = high_rows, .low_bits = 4}, weight.view);
    }
  }
}

/// Where an algorithm of cuBLASLt refuses few rows, they are multiplied among others.
TEST_F(KernelsOnHost, FloatProductsHaveTheSameBitsWhereAlgorithmsRefuseNumbersOfRows) {
  constexpr int64_t kOut = 33, kCols = 70;
  const Buffer<float> x = random_floats(130 * kCols, 1);
  std::vector<uint16_t> halves;
  for (const float value : random_floats(kOut * kCols, 2).span()) halves.push_back(f32_to_f16(value));
  const WeightView weight{.data = halves.data(), .dtype = DType::kF16, .rows = kOut, .cols = kCols};
  for (const int64_t rows : {1, 60, 64, 65, 130}) {
    const auto bits = [&](int64_t least_columns) {
      const auto ops = make_ops("cuda_host");
      cuda_on_host::least_cublas_lt_columns() = least_columns;
      Buffer<float> out(rows * kOut);
      ops->linear(out.mat(rows, kOut), {x.data(), rows, kCols, kCols}, weight, {});
      return out;
    };
    const Buffer<float> out = bits(128), truth = bits(0);  // two terms of 64 rows
    EXPECT_EQ(0, std::memcmp(out.data(), truth.data(), size_t(out.size()) * 4)) << rows;
  }
}

TEST_F(KernelsOnHost, NoReportAndTheSameBitsInTwentySchedules) {
  const auto ops = make_ops("cuda_host");
  settings().architecture = kWarpgroups;
  settings().architecture.multiprocessors = 1;
  const auto with_wgmma = make_ops("cuda_host");
  const PackedWeight weight = random_weight(DType::kQ4, 40, 128, 64, 7),
                     deep = random_weight(DType::kQ4, 140, 832, 64, 7);  // stages come round, ragged
  const Buffer<float> first_wgmma = product(*with_wgmma, 150, deep.view);
  settings().architecture = kNibbles;
  const Buffer<float> first = product(*ops, 150, weight.view), first_few = product(*ops, 3, weight.view),
                      first_attended = attended(*ops, {140}, {2}),
                      first_split = attended(*ops, {320, 1}, {2});
  for (uint64_t seed = 0; seed < 20; ++seed) {
    settings().seed = seed;
    settings().architecture = kWarpgroups;
    const Buffer<float> wgmma = product(*with_wgmma, 150, deep.view);
    settings().architecture = kNibbles;
    EXPECT_EQ(0, std::memcmp(wgmma.data(), first_wgmma.data(), size_t(wgmma.size()) * 4)) << seed;
    const Buffer<float> out = product(*ops, 150, weight.view), few = product(*ops, 3, weight.view),
                        out_attended = attended(*ops, {140}, {2}), split = attended(*ops, {320, 1}, {2});
    EXPECT_EQ(0, std::memcmp(out.data(), first.data(), size_t(out.size()) * 4)) << seed;
    EXPECT_EQ(0, std::memcmp(few.data(), first_few.data(), size_t(few.size()) * 4)) << seed;
    EXPECT_EQ(0, std::memcmp(out_attended.data(), first_attended.data(), size_t(out_attended.size()) * 4))
        << seed;
    EXPECT_EQ(0, std::memcmp(split.data(), first_split.data(), size_t(split.size()) * 4)) << seed;
  }
}

TEST_F(KernelsOnHost, TheSameTokensAreDrawnInTwentySchedules) {
  const int64_t rows = 5, vocab = 3000;
  Buffer<float> logits = random_floats(rows * vocab, 9);
  for (float& x : logits.span().last(size_t(2 * vocab))) x = std::round(2 * x);  // many ties
  const std::vector<Draw> draws{{.min_p = 0.01f, .uniform = 0.7},
                                {.temperature = 0.5f, .top_p = 0.8f, .uniform = 0.7, .row = 1},
                                {.top_k = 100, .uniform = 0.7, .row = 2},
                                {.top_k = 50, .uniform = 0.99, .row = 3},
                                {.top_k = 500, .top_p = 0.3f, .uniform = 0.99, .row = 4}};
  std::vector<int32_t> truth(draws.size()), out(draws.size());
  make_ops("reference")->draw(truth, logits.mat(rows, vocab), draws);
  const auto ops = make_ops("cuda_host");
  for (uint64_t seed = 0; seed < 20; ++seed) {
    settings().seed = seed;
    ops->draw(out, logits.mat(rows, vocab), draws);
    EXPECT_EQ(out, truth) << seed;
  }
}

TEST_F(KernelsOnHost, FewRowsHaveTheBitsOfManyForEveryGroup) {
  for (const auto& [dtype, group] : std::vector<std::pair<DType, int64_t>>{
           {DType::kQ8, 0}, {DType::kQ4, 32}, {DType::kQ4, 64}, {DType::kQ4, 128}}) {
    const int64_t n = 40, k = 2200;  // two rounds of input channels, the second ragged
    const PackedWeight weight = random_weight(dtype, n, k, group, 9);
    const auto ops = make_ops("cuda_host");
    const Buffer<float> many = product(*ops, 9, weight.view);
    for (int64_t rows : {1, 2, 4, 5, 8}) {
      const Buffer<float> few = product(*ops, rows, weight.view);
      EXPECT_EQ(0, std::memcmp(few.data(), many.data(), size_t(few.size()) * 4)) << group << " " << rows;
    }
  }
}

/// Four at most, and with weights of the same bits.
TEST_F(KernelsOnHost, ProductsOfOneInputShareALaunchAndHaveTheBitsOfEach) {
  Profile::instance().enable(true);
  const auto weight = [](DType dtype, int64_t n) {
    return random_weight(dtype, n, 200, dtype == DType::kQ4 ? 64 : 0, uint32_t(n));
  };
  constexpr DType kFour = DType::kQ4, kEight = DType::kQ8;
  for (const std::vector<DType>& types :
       std::vector<std::vector<DType>>{{kEight, kEight, kEight, kEight, kEight},
                                       {kFour, kFour, kFour, kFour, kFour},
                                       {kFour, kFour, kEight}}) {
    constexpr int64_t kOut[] = {70, 33, 16, 128, 40};
    std::vector<PackedWeight> weights;
    std::vector<WeightView> views;
    for (size_t i = 0; i < types.size(); ++i) weights.push_back(weight(types[i], kOut[i]));
    for (const PackedWeight& w : weights) views.push_back(w.view);
    const auto ops = make_ops("cuda_host");
    for (int64_t rows : {3, 100, 150}) {
      Profile::instance().reset();
      const auto out = products(*ops, rows, views);
      const char* const kernel = rows > 8 ? "linear_int" : "linear_few";
      EXPECT_EQ(Profile::instance().of(kernel).launches, 2u) << kernel;
      for (size_t i = 0; i < views.size(); ++i) {
        const Buffer<float> alone = product(*ops, rows, views[i]);
        EXPECT_EQ(0, std::memcmp(out[i].data(), alone.data(), size_t(alone.size()) * 4)) << rows << " " << i;
      }
    }
  }
}

/// Operands in the host's memory keep operations apart.
TEST_F(KernelsOnHost, WhatFollowsProductsInTheirLaunchHasTheBitsOfALaunchOfItsOwn) {
  Profile::instance().enable(true);
  const auto launches = [](const char* kernel) {
    const auto& all = Profile::instance().all();
    const auto found = all.find(kernel);
    return found == all.end() ? 0 : int(found->second.launches);
  };
  for (const auto& [dtype, group] :
       std::vector<std::pair<DType, int64_t>>{{DType::kQ8, 0}, {DType::kQ4, 32}, {DType::kQ4, 64}}) {
    const PackedWeight gate = random_weight(dtype, 100, 200, group, 7),
                       up = random_weight(dtype, 100, 200, group, 8);
    const WeightView weights[] = {gate.view, up.view};
    for (auto [architecture, multiprocessors] :
         {std::pair{kNibbles, 1000}, std::pair{kNibbles, 4}, std::pair{kNibbles, 1},
          std::pair{kWarpgroups, 2}, std::pair{kWarpgroups, 1}}) {
      SCOPED_TRACE(std::string(dtype_name(dtype)) + " " + std::to_string(group) + ", " +
                   std::to_string(multiprocessors) + " multiprocessors, " + std::string(architecture.name));
      settings().architecture = architecture;
      settings().architecture.multiprocessors = multiprocessors;
      const auto ops = make_ops("cuda_host");
      for (const int64_t rows : {150, 3}) {
        Profile::instance().reset();
        const Followed apart = followed(*ops, host_memory(), rows, weights);
        EXPECT_EQ(launches("row_chain"), rows == 150 ? 4 : 6);  // few rows' integers are of the same kernel
        Profile::instance().reset();
        const Followed joined = followed(*ops, ops->memory(), rows, weights);
        EXPECT_EQ(launches("row_chain"), rows == 150 ? 2 : 4);
        const auto bytes = size_t(apart.added.size()) * 4;
        EXPECT_EQ(0, std::memcmp(joined.added.data(), apart.added.data(), bytes)) << rows;
        EXPECT_EQ(0, std::memcmp(joined.gated.data(), apart.gated.data(), bytes)) << rows;
      }
    }
  }
}

TEST_F(KernelsOnHost, SplitAttentionHasTheBitsOfWholeTilesAndEqualsReference) {
  const auto ops = make_ops("cuda_host"), reference = make_ops("reference");
  std::vector<int64_t> singles{384};  // then single tokens: two splits of four pages and a bit
  for (int i = 0; i < 5; ++i) singles.push_back(1);
  for (const Heads& heads : {Heads{5, 1, 14}, Heads{3, 1, 16}, Heads{4, 2, 8}, Heads{9, 1, 4}})
    for (const KvFormat& format : {KvFormat{}, KvFormat{.coded = true, .plan = kHaar}}) {
      const Buffer<float> whole = attended(*ops, {389}, heads, format),
                          truth = attended(*reference, {389}, heads, format),
                          split = attended(*ops, singles, heads, format);
      EXPECT_LE(nmse(whole.span(), truth.span()), format.coded ? 1e-6 : 1e-11) << heads.query;
      EXPECT_EQ(0, std::memcmp(split.data(), whole.data(), size_t(whole.size()) * 4)) << heads.query;
      settings().architecture.multiprocessors = 0;  // enough blocks for all of them: no splits
      const Buffer<float> unsplit = attended(*make_ops("cuda_host"), singles, heads, format);
      settings() = {};
      EXPECT_EQ(0, std::memcmp(unsplit.data(), whole.data(), size_t(whole.size()) * 4)) << heads.query;
    }
}

TEST_F(KernelsOnHost, NoKernelHasBankConflictsAndAllReadWholeSectors) {
  const PackedWeight four = random_weight(DType::kQ4, 64, 512, 64, 7),
                     narrow = random_weight(DType::kQ4, 64, 512, 32, 7),
                     eight = random_weight(DType::kQ8, 64, 512, 0, 7);
  const Buffer<float> floats = random_floats(64 * 512, 8);
  const WeightView dense{.data = floats.data(), .dtype = DType::kF32, .rows = 64, .cols = 512};
  // Of the bytes in the sectors that a warp touches, those it asks for, where single words are part of its
  // work.
  const std::map<std::string, double> least{
      {"dequantize", (32 + 128 + 4 + 4) / (32 + 128 + 64.0)},  // the row's scale and offset
      {"embed", (64 + 128 + 4) / (64 + 128 + 32.0)},           // its id
      {"gather", (128 + 128 + 4) / (128 + 128 + 32.0)},        // its id
      // A row twice; its first logit for each of eight warps, the target, its logit and the result.
      {"token_logprobs", (2 * 576 * 4 + 11 * 4) / (2 * 576 * 4 + 11 * 32.0)},
      {"attention_float", 0.93}};  // lanes of a tile are a row apart
  Profile::instance().enable(true);
  std::set<std::string> kernels;
  for (auto architecture : {kNibbles, kBytes, kWarpgroups}) {
    for (int multiprocessors : {architecture.multiprocessors, 1}) {
      architecture.multiprocessors = multiprocessors;
      settings().architecture = architecture;
      const auto ops = make_ops("cuda_host");
      Profile::instance().reset();
      for (const WeightView& weight : {four.view, narrow.view, eight.view})
        for (int64_t rows : {1, 4, 8, 192}) product(*ops, rows, weight);
      for (const WeightView& weight : {four.view, eight.view})
        followed(*ops, ops->memory(), 192, std::vector{weight, weight});
      product(*ops, 192, dense);
      if (multiprocessors > 1 && architecture.compute_capability == 80) {
        run_small_operations(*ops);
        for (const KvFormat& format : {KvFormat{}, KvFormat{.coded = true, .plan = kHaar}})
          attended(*ops, {320, 1}, {4, 1, 64}, format);
      }
      for (const auto& [kernel, counters] : Profile::instance().all()) {
        kernels.insert(kernel);
        // A page's rows of 8 bits meet those of 4 bits in a read or two where one kind ends.
        const bool mixed = kernel == "attention" || kernel == "attention_few";
        // Which of draw's buckets a warp adds to, the logits decide.
        const uint64_t conflicts = mixed              ? counters.shared_wavefronts / 200
                                   : kernel == "draw" ? counters.shared_wavefronts / 20
                                                      : 0;
        EXPECT_TRUE(counters.bank_conflicts() <= conflicts || kernel == "attention_float")
            << kernel << ": " << counters.bank_conflicts() << " of " << counters.shared_wavefronts;
        const auto limit = least.find(kernel);
        EXPECT_GE(counters.coalescing(), limit != least.end() ? limit->second : 0.95) << kernel;
      }
    }
  }
  EXPECT_EQ(kernels, (std::set<std::string>{"append_coded",
                                            "append_float",
                                            "argmax",
                                            "attention",
                                            "attention_few",
                                            "attention_float",
                                            "attention_float_few",
                                            "copy_rows",
                                            "cublas_lt",
                                            "dequantize",
                                            "draw",
                                            "embed",
                                            "finish_tiles",
                                            "fold_splits",
                                            "gather",
                                            "heads",
                                            "kl_divergence",
                                            "linear_few",
                                            "linear_int",
                                            "linear_wgmma",
                                            "quantize",
                                            "row_chain",
                                            "row_extremes",
                                            "split_rows",
                                            "split_terms",
                                            "sum_terms",
                                            "token_logprobs"}));
}

TEST_F(KernelsOnHost, TensorCoreOperationsAreThoseOfTheShape) {
  const auto ops = make_ops("cuda_host");
  Profile::instance().enable(true);
  const int64_t n = 64, k = 512, rows = 192;  // block 0 at 8 bits, two coded blocks
  const PackedWeight weight = random_weight(DType::kQ4, n, k, 64, 7);
  settings().architecture = kNibbles;
  product(*ops, rows, weight.view);
  auto& four = Profile::instance().of("linear_int").instructions;
  // Per 16 channels, 8 rows and 64 input channels one of low nibbles; of high ones where rows are wide: all
  // of block 0, the first 8 of a coded block.
  const uint64_t per_eight_rows = uint64_t(n / 16 * k / 64);
  EXPECT_EQ(four["mma.m16n8k64.u4.u4"], per_eight_rows * (8 * 2 + 2 * (8 + 1)));
  // And what zero points take off, for 32 groups at a time, of two bytes.
  EXPECT_EQ(four["mma.m16n8k32.u8.s8"], uint64_t(n / 16 * 24));
  EXPECT_EQ(four["mma.m16n8k32.u8.u8"], uint64_t(n / 16 * 24));
  Profile::instance().reset();
  settings().architecture = kBytes;
  product(*make_ops("cuda_host"), rows, weight.view);
  auto& eight = Profile::instance().of("linear_int").instructions;
  EXPECT_EQ(eight["mma.m16n8k32.s8.u8"], 2 * per_eight_rows * 24);
  EXPECT_EQ(eight.count("mma.m16n8k64.u4.u4"), 0u);
  // A block of 128 channels and four tiles, by eight warps: two for every 32 input channels.
  Profile::instance().reset();
  settings().architecture = kWarpgroups;
  settings().architecture.multiprocessors = 1;
  product(*make_ops("cuda_host"), rows, weight.view);
  auto& groups = Profile::instance().of("linear_wgmma").instructions;
  EXPECT_EQ(groups["wgmma.m64n128k32.s8.u8"], 8u * 2 * k / 32);
  EXPECT_FALSE(Profile::instance().all().contains("linear_int"));
}

TEST(TilePlan, FollowsTheHardwareTheGroupAndTheShape) {
  using cuda::Device;
  using cuda::MmaPath;
  using cuda::plan_linear;
  const WeightView q4{.dtype = DType::kQ4, .rows = 4096, .cols = 4096, .group = 64};
  WeightView narrow = q4, wide = q4, q8 = q4;
  narrow.group = 32;
  wide.group = 128;
  q8.dtype = DType::kQ8;
  const Device a100{80, 108}, rtx4090{89, 128}, h100{90, 132};
  BitPlan rows = kHaar;
  bool coded = true;
  const auto plan = [&](int64_t tiles, const WeightView& weight, const Device& device, int count = 1) {
    cuda::LinearProducts products;
    for (int i = 0; i < count; ++i) products.one[products.count++].weight = weight;
    return plan_linear(tiles, products, device, coded, rows);
  };
  using cuda::TilePlan;
  EXPECT_EQ(plan(32, q4, a100), (TilePlan{MmaPath::kFour, 4}));
  EXPECT_EQ(plan(32, q4, rtx4090), (TilePlan{MmaPath::kFour, 4}));
  EXPECT_EQ(plan(32, q4, h100), (TilePlan{MmaPath::kEight, 4}));      // no 4-bit products there
  EXPECT_EQ(plan(32, narrow, a100), (TilePlan{MmaPath::kEight, 4}));  // a group is half of their k
  EXPECT_EQ(plan(32, wide, a100), (TilePlan{MmaPath::kEight, 4}));    // twice
  EXPECT_EQ(plan(32, q8, a100), (TilePlan{MmaPath::kEight, 4}));
  // Wide blocks are two a multiprocessor for eight tiles; for four, twice as many narrower ones are as many,
  // and for one, four times as many are one each.
  EXPECT_EQ(plan(8, q4, h100), (TilePlan{MmaPath::kEight, 4}));
  EXPECT_EQ(plan(4, q4, h100), (TilePlan{MmaPath::kEight, 2}));
  EXPECT_EQ(plan(1, q4, h100), (TilePlan{MmaPath::kEight, 1}));
  // Four products at once are as one of four times the channels.
  WeightView tall = q4;
  tall.rows = 4 * q4.rows;
  for (int64_t tiles : {1, 2, 4, 8}) EXPECT_EQ(plan(tiles, q4, h100, 4), plan(tiles, tall, h100)) << tiles;
  EXPECT_EQ(plan(2, tall, h100), (TilePlan{MmaPath::kEight, 4}));
  // wgmma for many rows, in blocks of two tiles where blocks of four would leave multiprocessors idle.
  Device warpgroups = h100;
  warpgroups.wgmma = true;
  const auto by_wgmma = [](int row_tiles) { return TilePlan{MmaPath::kWgmma, 4, row_tiles}; };
  EXPECT_EQ(plan(1, q4, warpgroups), plan(1, q4, h100));
  EXPECT_EQ(plan(8, q4, warpgroups), by_wgmma(2));
  EXPECT_EQ(plan(32, q4, warpgroups), by_wgmma(4));
  EXPECT_EQ(plan(32, wide, warpgroups), by_wgmma(4));
  EXPECT_EQ(plan(32, narrow, warpgroups), plan(32, narrow, h100));
  EXPECT_EQ(plan(32, q8, warpgroups), by_wgmma(4));
  EXPECT_EQ(plan(32, q4, a100), (TilePlan{MmaPath::kFour, 4}));
  rows.low_bits = 5;  // wide rows are faster as bytes
  EXPECT_EQ(plan(32, q4, a100), (TilePlan{MmaPath::kEight, 4}));
  rows.low_bits = 4, coded = false;
  EXPECT_EQ(plan(32, q4, a100), (TilePlan{MmaPath::kEight, 4}));
}

TEST(TilePlan, BlocksOfProductsFollowEachOther) {
  cuda::LinearProducts products;
  for (int64_t rows : {100, 64, 1}) products.one[products.count++].weight.rows = rows;
  ASSERT_EQ(products.blocks(64), 4);  // two, one and one
  const std::vector<std::pair<int, int64_t>> places{{0, 0}, {0, 1}, {1, 0}, {2, 0}};
  for (size_t i = 0; i < places.size(); ++i) {
    const auto [product, block] = products.place(int64_t(i), 64);
    EXPECT_EQ(std::pair(product, block), places[i]);
  }
}

TEST(AttentionPlan, SplitsFewQueriesWhereTilesWouldLeaveMultiprocessorsIdle) {
  const cuda::Device a100{80, 108};
  const std::vector<int32_t> pages(20);
  const RowRun prefill{.row = 0, .count = 70, .position = 64, .pages = std::span(pages).first(3)};
  const RowRun early{.row = 70, .count = 1, .position = 255, .pages = std::span(pages).first(4)};
  const RowRun late{.row = 71, .count = 1, .position = 600, .pages = std::span(pages).first(10)};
  cuda::AttentionPlan plan;
  plan_attention(plan, std::vector{prefill, early, late}, 3, 8, {}, a100);
  ASSERT_EQ(plan.many.size(), 7u);          // 210 queries of 32
  EXPECT_EQ(plan.many.front().first, 192);  // the longest first: rows from 64 on
  EXPECT_EQ(plan.many.front().count, 18);
  EXPECT_EQ(plan.many.front().last_page, 3);
  EXPECT_EQ(plan.many.back().first, 160);
  EXPECT_EQ(plan.many.back().last_page, 2);  // rows 53 .. 63: positions up to 127
  // Four pages are one split, which is final; ten are three, to be folded.
  ASSERT_EQ(plan.few.size(), 4u);
  EXPECT_EQ(plan.few[0].part, -1);
  EXPECT_EQ(plan.few[0].page, 3);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(plan.few[1 + i].part, int64_t(i));
    EXPECT_EQ(plan.few[1 + i].first_page, int64_t(i) * 4);
    EXPECT_EQ(plan.few[1 + i].page, 7);
  }
  EXPECT_EQ(plan.few[3].last_page, 10);
  ASSERT_EQ(plan.split.size(), 1u);
  EXPECT_EQ(plan.split[0].last_page, 10);
  EXPECT_EQ(plan.parts, 3);

  std::vector<RowRun> many(40, late);  // 40 tiles of 8 heads fill the device as they are
  plan_attention(plan, many, 3, 8, {}, a100);
  EXPECT_EQ(plan.few.size(), 40u);
  EXPECT_EQ(plan.parts, 0);
}

TEST(AttentionPlan, TilesOfManyFollowMemoryAndMultiprocessors) {
  const cuda::Device a100{80, 108, 163 << 10}, h100{90, 132, 227 << 10}, rtx4090{89, 128, 99 << 10};
  // Heads of 64 and of 128 channels.
  const cuda::TileMemory small{22 << 10, 20 << 10}, large{38 << 10, 30 << 10};
  const std::vector<int32_t> pages(32);
  const auto tile_of = [&](int64_t rows, int64_t kv_heads, const cuda::TileMemory& memory,
                           const cuda::Device& device) {
    const RowRun run{.row = 0, .count = rows, .position = 0, .pages = pages};
    cuda::AttentionPlan plan;
    plan_attention(plan, {&run, 1}, 32 / kv_heads, kv_heads, memory, device);
    return plan.many_queries;
  };
  EXPECT_EQ(tile_of(2048, 8, large, h100), 192);    // one block of six warps
  EXPECT_EQ(tile_of(512, 8, large, h100), 128);     // 88 blocks of six would leave multiprocessors idle
  EXPECT_EQ(tile_of(2048, 4, small, h100), 128);    // two blocks of four warps
  EXPECT_EQ(tile_of(2048, 8, large, a100), 128);    // as many as its memory holds
  EXPECT_EQ(tile_of(2048, 8, large, rtx4090), 64);  // likewise
  EXPECT_EQ(tile_of(2048, 8, {}, h100), 32);
}

}  // namespace
}  // namespace stamp
