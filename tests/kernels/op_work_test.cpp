#include "kernels/op_work.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/machine_peaks.h"
#include "tests/kernels/random_weight.h"

namespace stamp {
namespace {

constexpr BitPlan kPlan{
    .transform = SeqTransform::kHaar, .levels = 5, .high_rows = 2, .high_bits = 8, .low_bits = 4};

KvPages pages(bool coded, const BitPlan& plan = kPlan) {
  return {.open = {}, .sealed = {}, .kv_heads = 2, .head_dim = 16, .format = {.coded = coded, .plan = plan}};
}

RowRun run_of(int64_t position, int64_t count) {
  return {.row = 0, .count = count, .position = position, .pages = {}};
}

TEST(OpWork, ProductsCountTheirShapesAndEveryOperandOnce) {
  const PackedWeight four = random_weight(DType::kQ4, 48, 128, 64, 1),
                     eight = random_weight(DType::kQ8, 40, 128, 0, 2);
  const std::vector<float> bias(48);
  const std::vector<RowTile> tiles{{0, 64, true}, {64, 6, false}};
  const QuantMat in{.rows = 70, .cols = 128, .stride = 128, .plan = kPlan, .tiles = tiles};
  const Product with_bias{{}, four.view, bias}, without{{}, four.view, {}}, bytes{{}, eight.view, {}};
  const std::vector<Product> two{with_bias, without};

  const OpWork work = linear_work(two, in);
  EXPECT_EQ(work.int4_ops, 2.0 * 70 * 128 * (48 + 48));
  EXPECT_EQ(work.int8_ops, 0);
  EXPECT_EQ(work.transformed, 48 + 48);  // one block
  EXPECT_EQ(work.bytes, 70 * (128 + 8) + 2.0 * double(four.view.bytes()) + 4 * 48 + 4.0 * 70 * 96);

  EXPECT_EQ(linear_work({&bytes, 1}, in).int8_ops, 2.0 * 70 * 128 * 40);
  const OpWork floats = linear_work({&bytes, 1}, Mat<const float>{nullptr, 70, 128, 128});
  EXPECT_EQ(floats.float_ops, 2.0 * 70 * 128 * 40);
  EXPECT_EQ(floats.int8_ops, 0);
  EXPECT_EQ(floats.bytes, 4.0 * 70 * 128 + double(eight.view.bytes()) + 4.0 * 70 * 40);

  const OpWork quantised = quantize_work(in);
  EXPECT_EQ(quantised.transformed, 128);
  EXPECT_EQ(quantised.bytes, 70 * (4.0 * 128 + 128 + 8));
}

TEST(OpWork, AttentionCountsWhatEveryQuerySeesAndReadsEveryPageOnce) {
  const int64_t heads = 6, width = heads * 16;
  for (const auto& [position, count] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 1}, {0, 64}, {0, 200}, {64, 128}, {127, 1}, {130, 75}, {128, 1}}) {
    const RowRun run = run_of(position, count);
    double pairs = 0, sealed_pairs = 0;
    const int64_t end = position + count, sealed_end = end / kBlock * kBlock;
    for (int64_t query = position; query < end; ++query)
      for (int64_t key = 0; key <= query; ++key) {
        ++pairs;
        if (key >= kBlock && key < sealed_end) ++sealed_pairs;
      }
    const OpWork floats = attention_work(heads, pages(false), {&run, 1});
    EXPECT_EQ(floats.float_ops, 4 * pairs * double(width)) << position << "+" << count;
    EXPECT_EQ(floats.bytes, 2.0 * 4 * double(count * width) + 2.0 * 4 * double(end) * 2 * 16);

    const KvPages coded = pages(true);
    const OpWork work = attention_work(heads, coded, {&run, 1});
    EXPECT_EQ(work.int4_ops, 4 * sealed_pairs * double(width)) << position << "+" << count;
    EXPECT_EQ(work.int8_ops, 4 * (pairs - sealed_pairs) * double(width));
    const int64_t sealed_pages = std::max<int64_t>(0, end / kBlock - 1), open = end - sealed_pages * kBlock;
    EXPECT_EQ(work.bytes, 2.0 * 4 * double(count * width) +
                              double(sealed_pages * coded.sealed_layer_bytes()) +
                              double(coded.open_layer_bytes()) * double(open) / double(kBlock));
  }
}

TEST(OpWork, AppendingSealsTheSamePagesHoweverThePromptIsCut) {
  const KvPages kv = pages(true);
  const auto work_of = [&](const std::vector<RowRun>& runs) {
    OpWork work;
    for (const RowRun& run : runs) work += append_kv_work(kv, {&run, 1});
    return work;
  };
  const OpWork whole = work_of({run_of(0, 200)});
  EXPECT_EQ(whole.transformed, 2 * 2.0 * 2 * 16);  // blocks 1 and 2, keys and values
  // Read as floats; written in the open form where no page is whole: block 0 and the last 8 tokens.
  EXPECT_EQ(whole.bytes, 2 * 4.0 * 200 * 2 * 16 + 2 * double(kv.sealed_layer_bytes()) +
                             double(kv.open_layer_bytes()) * (64 + 8) / 64);
  const OpWork cut = work_of({run_of(0, 100), run_of(100, 100)});
  EXPECT_EQ(cut.transformed, whole.transformed);
  // Block 1 is written open, and read, too.
  EXPECT_EQ(cut.bytes, whole.bytes + 2 * double(kv.open_layer_bytes()));
}

TEST(OpWork, TheBoundIsMemoryOrArithmeticWhicheverTakesLonger) {
  const MachinePeaks peaks{.read_bytes = 10, .int8_ops = 100, .int4_ops = 200, .float_ops = 50};
  EXPECT_DOUBLE_EQ(bound_seconds({.bytes = 40, .int8_ops = 100}, peaks), 4);
  EXPECT_DOUBLE_EQ(bound_seconds({.bytes = 10, .int8_ops = 300, .int4_ops = 200, .float_ops = 100}, peaks),
                   6);
}

}  // namespace
}  // namespace stamp
