#include "kernels/communicator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "kernels/error.h"

namespace stamp {
namespace {

/// Runs `shard` in a thread of its own for every rank.
template <class Shard>
void run_shards(ThreadGroup& group, int size, const Shard& shard) {
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < size; ++rank) threads.emplace_back([&, rank] { shard(group[rank]); });
}

/// Values whose float sum depends on the order: only that of the ranks gives these bits.
TEST(ThreadGroup, SumsInTheOrderOfTheRanksForEveryShardAndEveryTime) {
  constexpr int kSize = 3;
  constexpr int64_t kRows = 4, kCols = 7, kStride = 10;
  const auto value = [](int rank, int64_t i) { return rank == 0 ? 1e8f : rank == 1 ? float(i) : -1e8f; };
  ThreadGroup group(kSize);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::vector<float>> x(kSize, std::vector<float>(size_t(kRows * kStride), 0.5f));
    run_shards(group, kSize, [&](Communicator& shard) {
      std::vector<float>& mine = x[size_t(shard.rank())];
      for (int64_t r = 0; r < kRows; ++r)
        for (int64_t c = 0; c < kCols; ++c)
          mine[size_t(r * kStride + c)] = value(shard.rank(), r * kCols + c);
      shard.all_reduce({mine.data(), kRows, kCols, kStride});
    });
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kStride; ++c) {
        const int64_t i = r * kCols + c;
        const float sum = c < kCols ? value(0, i) + value(1, i) + value(2, i) : 0.5f;
        for (const auto& of_shard : x) EXPECT_EQ(of_shard[size_t(r * kStride + c)], sum);
      }
    }
  }
}

TEST(ThreadGroup, ManyCallsOfManyShardsDoNotMixUp) {
  constexpr int kSize = 8;
  ThreadGroup group(kSize);
  std::array<float, kSize> last{};
  run_shards(group, kSize, [&](Communicator& shard) {
    EXPECT_EQ(shard.size(), kSize);
    float x = float(shard.rank());
    for (int round = 0; round < 200; ++round) {
      shard.all_reduce({&x, 1, 1, 1});  // fewer columns than shards
      x = x / kSize + float(shard.rank()) - 3.5f;
    }
    last[size_t(shard.rank())] = x;
  });
  for (int rank = 0; rank < kSize; ++rank) EXPECT_EQ(last[size_t(rank)], 3.5f + float(rank) - 3.5f);
}

TEST(ThreadGroup, NobodyWaitsForAShardThatFailed) {
  constexpr int kSize = 3;
  ThreadGroup group(kSize);
  std::atomic<int> errors = 0;
  run_shards(group, kSize, [&](Communicator& shard) {
    float x = 1.0f;
    shard.all_reduce({&x, 1, 1, 1});
    EXPECT_EQ(x, 3.0f);
    if (shard.rank() == 1) {
      for (int rank = 0; rank < kSize; ++rank) group[rank].abort();
      return;
    }
    for (int call = 0; call < 2; ++call) {
      try {
        shard.all_reduce({&x, 1, 1, 1});
      } catch (const Error&) {
        ++errors;
      }
    }
  });
  EXPECT_EQ(errors, 4);
}

}  // namespace
}  // namespace stamp
