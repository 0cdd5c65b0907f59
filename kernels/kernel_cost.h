#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/views.h"

/// What launches of the CUDA kernels do, as functions of their shapes and of the same host-side plans, for
/// predictions without a GPU (engine/device_model.h). tests/cuda_on_host/kernel_cost_test.cpp holds these
/// counts against those of the kernels as the host executor runs them. Data pointers of views are not looked
/// at.
namespace stamp {

/// Of one launch, all its warps together.
struct KernelCost {
  std::string_view kernel;
  double bytes = 0;      // of device memory, every operand once
  double requested = 0;  // bytes asked of global memory, warp by warp: caches serve the repetitions
  double mma_u8 = 0;     // mma m16n8k32 on bytes
  double mma_u4 = 0;     // mma m16n8k64 on nibbles
  double wgmma = 0;      // a warp's part of wgmma m64n128k32 on bytes
  double copies = 0;     // cp.async, 16 bytes a lane
  double dp4a = 0;
  double float_ops = 0;      // of threads: FP32 additions, products, or both fused
  double transform_ops = 0;  // those of them that belong to L and its inverse
  /// How the work is dealt out, where it may leave multiprocessors idle; else 0.
  double blocks = 0, warps = 0;  // warps of a block
  /// Instructions of warps: the integer products' main loop as the compiler made it
  /// (kernels/cuda/main_loops.h), elsewhere no more than the work above needs.
  double instructions = 0;
};

/// FP32 operations for one channel of one block of tokens: of S or its transpose, and of D where nothing else
/// scales rows anyway (kernels/seq_transform.h).
double transform_ops(const BitPlan& plan);
double transform_scale_ops(const BitPlan& plan);

/// Operations on whole rows that are one launch (kernels/cuda/row_chain.h).
struct RowChainShape {
  bool adds = false, gates = false;  // x + y; silu(x) y
  bool norms = false;                // and keeps what it norms if `adds`
  bool factors = false;              // only the norm's factor of each row
  int64_t rotation_block = 0;        // Hadamard, or 0
  bool integers = false;             // of the result at kTokenBits
  bool floats = true;                // the result itself
};
KernelCost row_chain_cost(int64_t rows, int64_t cols, const RowChainShape& shape);
/// Rotary embedding of queries and keys, `cols` of both, and their heads' rotation (heads.cu).
KernelCost heads_cost(int64_t rows, int64_t cols, int64_t head_dim, bool rotates);
KernelCost embed_cost(int64_t rows, const WeightView& table);

/// An input with coded tiles as integers (quantize.cu).
KernelCost row_extremes_cost(std::span<const RowTile> tiles, const BitPlan& plan, int64_t cols,
                             bool norms = false);
KernelCost quantize_cost(std::span<const RowTile> tiles, const BitPlan& plan, int64_t cols);
/// The same where rows are split at once, for this weight. `norms`: what is left to do of a norm is done,
/// too; `with_bytes`: rows are written as they are, too.
KernelCost quantize_split_cost(std::span<const RowTile> tiles, const BitPlan& plan, const WeightView& weight,
                               bool norms = false, bool with_bytes = false);
/// What plans follow (kernels/cuda/tile_plan.h).
struct PlannedDevice {
  int compute_capability = 80;  // 10 * major + minor
  int64_t multiprocessors = 108;
  int64_t shared_bytes = 163 << 10;  // that a block may have
};
/// Whether products of many rows want them split (kernels/cuda/kernels.h), and that by itself, of an input
/// that is quantised already.
bool wants_split_rows(std::span<const RowTile> tiles, const BitPlan& plan, const WeightView& weight,
                      const PlannedDevice& device);
KernelCost split_rows_cost(std::span<const RowTile> tiles, const BitPlan& plan, const WeightView& weight);
/// What products become in the same launch: out, out added to something, or silu(out) times the second's out.
enum class After : uint8_t { kNothing, kAdd, kSiluMul };
/// linear_int.cu, or linear_wgmma.cu: rows of `tiles` times one to four quantised weights of one type and
/// group.
KernelCost linear_int_cost(std::span<const RowTile> tiles, const BitPlan& plan,
                           std::span<const WeightView> weights, bool bias, const PlannedDevice& device,
                           After after = After::kNothing);
/// linear_few.cu: at most few_rows() rows times weights of one type and group.
int64_t few_rows();
KernelCost linear_few_cost(int64_t rows, std::span<const WeightView> weights, bool bias);

/// Coded pages; one sequence's `rows` tokens from `position` on.
KernelCost append_kv_cost(int64_t rows, int64_t position, const KvPages& kv);
/// Launch by launch.
std::vector<KernelCost> attention_costs(int64_t rows, int64_t position, int64_t heads, const KvPages& kv,
                                        const PlannedDevice& device);

}  // namespace stamp
