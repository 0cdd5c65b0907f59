#pragma once
#include "kernels/quant_format.h"

namespace stamp {

/// 1 / (2 cos((i + 1/2) pi / n)) for n = 2, 4, ..., kBlock, one table after another: that of n begins at n /
/// 2 - 1.
struct DctTable {
  float secant[kBlock - 1];
};
extern const DctTable kDct;

}  // namespace stamp
