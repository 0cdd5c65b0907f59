#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/views.h"

namespace stamp {

/// Activations with room for their integers in some memory.
struct Quantised {
  Quantised(int64_t rows, int64_t cols, const BitPlan& plan, std::span<const RowRun> runs,
            Memory& memory = host_memory())
      : q(rows * round_up(cols, QuantMat::kQuantAlign), memory), scale(rows, memory), offset(rows, memory) {
    split_tiles(runs, plan, tiles);
    view = {.q = q.data(),
            .rows = rows,
            .cols = cols,
            .stride = round_up(cols, QuantMat::kQuantAlign),
            .scale = scale.data(),
            .offset = offset.data(),
            .plan = plan,
            .tiles = tiles};
  }
  Buffer<uint8_t> q;
  Buffer<float> scale, offset;
  std::vector<RowTile> tiles;
  QuantMat view;
};

}  // namespace stamp
