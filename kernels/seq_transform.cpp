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

}  // namespace stamp
