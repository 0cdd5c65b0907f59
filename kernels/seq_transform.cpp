#include <cmath>
#include <numbers>

#include "kernels/seq_transform.h"

namespace stamp {

DctTable make_dct_table() {
  DctTable table{};
  for (int64_t n = 2; n <= kBlock; n *= 2)
    for (int64_t i = 0; i < n / 2; ++i)
      table.secant[n / 2 - 1 + i] = float(0.5 / std::cos((double(i) + 0.5) * std::numbers::pi / double(n)));
  return table;
}

const DctTable kDct = make_dct_table();

constexpr RowScales make_row_scales() {
  RowScales table{};
  for (int kind = 0; kind < RowScales::kKinds; ++kind)
    for (int levels = 0; levels <= RowScales::kMostLevels; ++levels)
      for (int r = 0; r < int(kBlock); ++r)
        table.scales[kind][levels][r] = transform_scale(SeqTransform(kind), levels, r);
  return table;
}

constexpr RowScales kRowScales = make_row_scales();

}  // namespace stamp
