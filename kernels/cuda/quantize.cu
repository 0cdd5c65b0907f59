// Transform, scale, quantise. A block handles 128 channels of a tile, a thread one channel's tokens in
// registers. Rows are scaled by their own extremes over all channels, so there are two passes: the first
// writes the extremes of each row's 128 channels, the second transforms again (cheaper than keeping
// coefficients) and rounds. It writes bytes, or nibbles for the products that want them.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/seq_transform.cuh"
#include "kernels/cuda/split_rows.cuh"
#include "kernels/cuda/tile_plan.h"

namespace stamp::cuda {
namespace {

constexpr int kChannels = 128;  // of a block, one thread each; divides QuantMat's stride
constexpr int kThreads = kChannels;
static_assert(QuantMat::kQuantAlign % kChannels == 0);

/// Two threads read a row's halves, alternating channels: a pitch of 2 modulo 32 keeps their banks apart.
struct Coefficients {
  float x[kB][kChannels + 2];
  float norms[kB];
};
struct RowParameters {
  float low[kB], factor[kB], steps[kB], norms[kB];
};
/// Of a norm that is left to do (Quantize), or null.
struct Norm {
  const float *factors, *gain;
};
constexpr int kLines = kChannels / kLine;  // of a block
struct Split {
  RowParameters rows;
  alignas(16) uint8_t codes[kB][kChannels];
  alignas(2) uint8_t sums[2][kB + 4][kLines];  // lower and upper; four rows keep their banks apart
};
static_assert(kThreads == 2 * kB && kZeroGroups % kLines == 0);

/// The rows' factors; a barrier comes before they are read.
__device__ __forceinline__ void load_norms(float (&norms)[kB], const RowTile& tile, const Norm& norm) {
  if (norm.gain != nullptr && threadIdx.x < tile.count)
    norms[threadIdx.x] = norm.factors[tile.row + threadIdx.x];
}

/// This thread's channel of the tile, S of it if the tile is coded.
__device__ __forceinline__ void load_channel(float (&t)[kB], const RowTile& tile, Mat<const float> in,
                                             int64_t channel, const Norm& norm, const float (&norms)[kB],
                                             const Integers& out, const DctTable* dct) {
#pragma unroll
  for (int r = 0; r < kB; ++r)
    t[r] = r < tile.count && channel < in.cols ? in.row(tile.row + r)[channel] : 0.0f;
  if (norm.gain != nullptr) {
    const float gain = channel < in.cols ? norm.gain[channel] : 0.0f;
#pragma unroll
    for (int r = 0; r < kB; ++r) t[r] = r < tile.count ? t[r] * norms[r] * gain : 0.0f;
  }
  if (tile.coded) sums<false>(t, out.plan, dct);
}

__global__ void __launch_bounds__(kThreads)
    row_extremes_kernel(float2* extremes, Integers out, Mat<const float> in, Norm norm, const DctTable* dct) {
  auto& shared = shared_storage<Coefficients>();
  const RowTile tile = out.tiles[blockIdx.x];
  const int64_t first = int64_t(blockIdx.y) * kChannels;
  load_norms(shared.norms, tile, norm);
  __syncthreads();
  float t[kB];
  load_channel(t, tile, in, first + threadIdx.x, norm, shared.norms, out, dct);
#pragma unroll
  for (int r = 0; r < kB; ++r) shared.x[r][threadIdx.x] = t[r];
  __syncthreads();
  const int r = int(threadIdx.x) / 2, half = int(threadIdx.x) % 2,
            live = int(min(int64_t(kChannels), in.cols - first));
  float low = shared.x[r][0], high = low;
  for (int c = half; c < live; c += 2) {
    low = fminf(low, shared.x[r][c]);
    high = fmaxf(high, shared.x[r][c]);
  }
  low = fminf(low, __shfl_xor_sync(kFullWarp, low, 1));
  high = fmaxf(high, __shfl_xor_sync(kFullWarp, high, 1));
  // The least of a row's products is that of its least.
  const float scale = tile.coded ? transform_scale(out.plan.transform, out.plan.levels, r) : 1.0f;
  if (half == 0 && r < tile.count)
    extremes[int64_t(blockIdx.y) * out.rows + tile.row + r] = make_float2(low * scale, high * scale);
}

/// Writes the block's codes split, and the sums of its lines; those beyond the last are zero.
__device__ __forceinline__ void split_codes(Split& shared, const SplitRows& out, int wide) {
  constexpr int kLanes = kChannels / kLineOfLane, kLineLanes = kLine / kLineOfLane;  // of a row, of a line
  const int tid = int(threadIdx.x), lane = tid % kLanes, four = lane % kLineLanes,
            line_of_block = lane / kLineLanes, line = int(blockIdx.y) * kLines + line_of_block;
  for (int row = tid / kLanes; row < kB; row += kThreads / kLanes) {
    const uint4 x = *reinterpret_cast<const uint4*>(&shared.codes[row][lane * kLineOfLane]);
    const uint32_t sum = minus_line_sum(x);
    if (four < 2) shared.sums[four][row][line_of_block] = uint8_t(sum >> four * 8);
    if (line < out.lines) store_nibbles(out, blockIdx.x, line, row, four, row < wide, x);
  }
  __syncthreads();
  const int row = tid % kB, upper = tid / kB, first = int(blockIdx.y) * kLines;
  uint8_t* const to = sums_at(out, blockIdx.x, upper != 0, first / int(kZeroGroups), row);
  *reinterpret_cast<uint16_t*>(to + first % int(kZeroGroups)) =
      *reinterpret_cast<const uint16_t*>(shared.sums[upper][row]);
}

template <bool kSplit>
__global__ void __launch_bounds__(kThreads)
    quantize_kernel(Integers out, SplitRows split, Mat<const float> in, Norm norm, const float2* extremes,
                    int parts, const DctTable* dct) {
  auto& storage = shared_storage<std::conditional_t<kSplit, Split, RowParameters>>();
  auto& shared = reinterpret_cast<RowParameters&>(storage);
  const RowTile tile = out.tiles[blockIdx.x];
  load_norms(shared.norms, tile, norm);
  if (threadIdx.x < tile.count) {
    const int r = int(threadIdx.x);
    const float2* const of_row = extremes + tile.row + r;  // [parts, rows]
    float low = of_row[0].x, high = of_row[0].y;
    for (int i = 1; i < parts; ++i) {
      low = fminf(low, of_row[i * out.rows].x);
      high = fmaxf(high, of_row[i * out.rows].y);
    }
    const int bits = tile.coded ? out.plan.bits(r) : kTokenBits;
    const CodeRange range = code_range(low, high, bits, in.cols);
    const float steps = float((1 << bits) - 1);
    shared.low[r] = range.low;
    shared.factor[r] = range.width > 0.0f ? steps / range.width : 0.0f;
    shared.steps[r] = steps;
    if (blockIdx.y == 0) {
      out.scale[tile.row + r] = range.width / steps;
      out.offset[tile.row + r] = range.low;
    }
  }
  __syncthreads();
  const int64_t channel = int64_t(blockIdx.y) * kChannels + threadIdx.x;
  float t[kB];
  load_channel(t, tile, in, channel, norm, shared.norms, out, dct);
  if (tile.coded) scale_rows(t, out.plan);
#pragma unroll
  for (int r = 0; r < kB; ++r) {
    uint8_t code = 0;
    if (r < tile.count && channel < in.cols)
      code = uint8_t(
          __float2int_rn(fminf(fmaxf((t[r] - shared.low[r]) * shared.factor[r], 0.0f), shared.steps[r])));
    if constexpr (kSplit) storage.codes[r][threadIdx.x] = code;
    if ((!kSplit || split.with_bytes) && r < tile.count && channel < out.stride)
      out.q[(tile.row + r) * out.stride + channel] = code;
  }
  if constexpr (kSplit) {
    __syncthreads();
    split_codes(storage, split, wide_rows(tile.coded, out.plan));
  }
}

__global__ void dequantize_kernel(Mat<float> out, Integers in) {
  const int64_t r = blockIdx.x, c = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  if (c < out.cols) out.row(r)[c] = float(in.q[r * in.stride + c]) * in.scale[r] + in.offset[r];
}

__global__ void __launch_bounds__(kThreads)
    finish_tiles_kernel(Mat<float> out, Integers in, const float* bias, const DctTable* dct) {
  const RowTile tile = in.tiles[blockIdx.x];
  const int64_t c = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  if (c >= out.cols) return;
  float t[kB];
#pragma unroll
  for (int r = 0; r < kB; ++r) t[r] = r < tile.count ? out.row(tile.row + r)[c] : 0.0f;
  if (tile.coded) {
    scale_rows(t, in.plan);
    sums<true>(t, in.plan, dct);
  }
  const float shift = bias != nullptr ? bias[c] : 0.0f;
#pragma unroll
  for (int r = 0; r < kB; ++r)
    if (r < tile.count) out.row(tile.row + r)[c] = t[r] + shift;
}

dim3 grid_of(int64_t rows, int64_t cols) { return {uint32_t(rows), uint32_t(divide_up(cols, kChannels))}; }

}  // namespace

int64_t extremes_size(const Integers& out) { return out.rows * divide_up(out.cols, kChannels) * 2; }

void quantize(const Quantize& quantize, cudaStream_t stream) {
  const auto& [out, in, dct, extremes, factors, gain, split] = quantize;
  const Norm norm{factors, gain};
  auto* const pairs = reinterpret_cast<float2*>(extremes);
  const dim3 measured = grid_of(out.tile_count, in.cols);
  launch("row_extremes", row_extremes_kernel, {measured, kThreads, sizeof(Coefficients)}, stream, pairs, out,
         in, norm, dct);
  if (split.nibbles != nullptr) {
    const dim3 grid = grid_of(out.tile_count, round_up(split.lines, kZeroGroups) * kLine);
    launch("quantize", quantize_kernel<true>, {grid, kThreads, sizeof(Split)}, stream, out, split, in, norm,
           pairs, int(measured.y), dct);
    return;
  }
  launch("quantize", quantize_kernel<false>,
         {grid_of(out.tile_count, out.stride), kThreads, sizeof(RowParameters)}, stream, out, split, in, norm,
         pairs, int(measured.y), dct);
}

void dequantize(Mat<float> out, const Integers& in, cudaStream_t stream) {
  launch("dequantize", dequantize_kernel, {grid_of(out.rows, out.cols), kThreads}, stream, out, in);
}

void finish_tiles(Mat<float> out, const Integers& in, const DctTable* dct, const float* bias,
                  cudaStream_t stream) {
  launch("finish_tiles", finish_tiles_kernel, {grid_of(in.tile_count, out.cols), kThreads}, stream, out, in,
         bias, dct);
}

}  // namespace stamp::cuda
