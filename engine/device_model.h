#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/recipe.h"

/// A prediction, never a measurement: how long a GPU takes at least, kernel by kernel, from what the kernels
/// do (kernels/kernel_cost.h) and what the machine's maker says it can do.
namespace stamp {

/// Published limits of a GPU, for dense operands.
struct Machine {
  std::string_view name, description, sources;
  int compute_capability = 0;  // 10 * major + minor
  double memory = 0;           // bytes a second
  double fp16 = 0, int8 = 0,
         int4 = 0;  // tensor-core operations a second, FP16 with FP32 sums; 0: no instruction
  double fp32 = 0;  // operations a second; a fused one counts twice
  int64_t multiprocessors = 0;
  int64_t shared_bytes = 0;  // of a block at most (CUDA C++ Programming Guide, compute capabilities)
  double clock = 0;          // a second
  double mma_share = 1;  // of int8 and fp16 that mma.sync reaches, where other instructions are the fast ones
};
std::span<const Machine> machines();
/// Throws InputError naming the choices.
const Machine& find_machine(std::string_view name);

struct ModelShape {
  std::string_view name, model;
  int64_t hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
};
std::span<const ModelShape> model_shapes();
/// Throws InputError naming the choices.
const ModelShape& find_shape(std::string_view name);

/// One sequence: `rows` tokens after `position` others, and the last one's logits.
struct Step {
  int64_t rows = 1, position = 0;
};

/// What is predicted.
enum class Scheme : uint8_t {
  kFp16,       // weights, activations and cache of 16 bits: cuBLAS
  kW4A16,      // weights of 4 bits in groups of 128, products in FP16
  kW8A8,       // weights, activations and cache of 8 bits
  kStamp,      // our kernels as they are
  kStampBound  // the same work where only memory and tensor cores take time: what tuning can reach at most
};
const char* scheme_name(Scheme scheme);

/// All launches of one role in a step. Seconds that each of the machine's limits allows, summed over the
/// launches; the last is the sum of the longest of them, launch by launch, and of what a launch itself takes.
struct RoleTime {
  std::string role;
  int64_t launches = 0;
  double memory = 0, tensor = 0, floats = 0, issue = 0;
  double seconds = 0;
};
struct Prediction {
  std::vector<RoleTime> roles;
  double seconds = 0;            // of the step
  double layer_seconds = 0;      // of one layer
  double transform_seconds = 0;  // of L and its inverse by themselves, as if nothing hid them
  const RoleTime& role(std::string_view name) const;
};
/// Roles in the order in which they are told.
std::span<const char* const> role_names();

/// `recipe`: of our schemes. Their prompts go in chunks of `chunk` rows, as the engine cuts them.
Prediction predict(const Machine& machine, const ModelShape& model, const Step& step, Scheme scheme,
                   const Recipe& recipe, int64_t chunk);

/// Seconds between launches of one stream that do not wait for each other: 3.8 us each for kernels of 2.9 us
/// (Gray, Getting Started with CUDA Graphs, NVIDIA Technical Blog, 2019).
inline constexpr double kLaunchSeconds = 0.9e-6;

}  // namespace stamp
