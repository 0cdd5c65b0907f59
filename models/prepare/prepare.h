#pragma once
#include <cstdint>
#include <functional>
#include <span>

#include "kernels/ops.h"
#include "models/config.h"
#include "models/recipe.h"
#include "models/weights.h"

namespace stamp {

struct PrepareOptions {
  Ops* ops = nullptr;                         // runs the calibration of GPTQ; its threads quantise
  std::span<const int32_t> calibration = {};  // tokens for GPTQ; empty: text that the model itself writes
  std::function<void(int64_t done, int64_t total)> progress{};  // layers
};

/// The weights that `recipe` asks for, from a model as it is stored. Norm gains are folded into the linears
/// behind them, R1 into everything that reads or writes the residual stream, R2 into values and o, R4 into
/// down (design section 3); then the matrices are quantised. The result depends on the weights and the recipe
/// alone, not on the number of threads. Only one layer is in memory as floats at a time unless the recipe
/// keeps 16 bits.
ModelWeights prepare_weights(const ModelConfig& config, const ModelWeights& source, const Recipe& recipe,
                             const PrepareOptions& options);

}  // namespace stamp
