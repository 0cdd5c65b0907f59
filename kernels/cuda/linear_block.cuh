#pragma once
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/seq_transform.cuh"
#include "kernels/cuda/split_rows.cuh"
#include "kernels/cuda/tile_plan.h"

/// What the kernels of integer products share: whose channels a block has, how 4-bit weights become bytes,
/// what becomes of the sums. A lane has two neighbouring channels of a panel, 2 `group` and the next.
namespace stamp::cuda {

/// Which panels a block multiplies: kPanels of one product from `first` on, or half as many of two that have
/// one shape.
template <int kPanels>
struct BlockPanels {
  const LinearProduct* product;
  int first;
  bool paired;

  /// Of block `block` of product `which`.
  __device__ __forceinline__ BlockPanels(const LinearProducts& products, int which, int block)
      : product(&products.one[which]),
        first(block * kPanels / (products.paired() ? 2 : 1)),
        paired(products.paired()) {}

  __device__ __forceinline__ const LinearProduct& product_of(int panel) const {
    return product[paired && panel >= kPanels / 2 ? 1 : 0];
  }
  __device__ __forceinline__ const WeightView& weight_of(int panel) const { return product_of(panel).weight; }
  /// Where panel `panel` of the block is in its weight, which may end before.
  __device__ __forceinline__ int at(int panel) const {
    return first + (paired ? panel % (kPanels / 2) : panel);
  }
  /// The same, or the last there is.
  __device__ __forceinline__ int64_t source(int panel) const {
    return min(int64_t{at(panel)}, product->weight.panels() - 1);
  }
};

inline constexpr uint32_t kSigns = 0x80808080u;

/// Two neighbouring bytes.
struct TwoBytes {
  uint32_t first, second;
  __device__ __forceinline__ explicit TwoBytes(const uint8_t* from) {
    const uint32_t both = *reinterpret_cast<const uint16_t*>(from);
    first = both & 255, second = both >> 8;
  }
};

/// Makes signed bytes of the low nibbles of two channels' codes in one group of input channels.
class SignedBytes {
 public:
  /// `scales`, `zeros`: of the first channel, in the group and in the quad of group `group`.
  __device__ __forceinline__ SignedBytes(const uint8_t* scales, const uint8_t* zeros, uint32_t group)
      : scale_(scales) {
    const uint2 both = *reinterpret_cast<const uint2*>(zeros);
    const uint32_t same = group % uint32_t(kZeroGroups) * 0x1111u;  // that byte, four times
    shift_[0] = kSigns - __byte_perm(both.x, 0, same), shift_[1] = kSigns - __byte_perm(both.y, 0, same);
  }
  __device__ __forceinline__ uint32_t first(uint32_t codes) const {
    return bytes(codes, scale_.first, shift_[0]);
  }
  __device__ __forceinline__ uint32_t second(uint32_t codes) const {
    return bytes(codes, scale_.second, shift_[1]);
  }

 private:
  // No byte carries into the next: code * scale - zero + 128 is a byte, too.
  static __device__ __forceinline__ uint32_t bytes(uint32_t codes, uint32_t scale, uint32_t shift) {
    return ((codes & kLowNibbles) * scale + shift) ^ kSigns;
  }
  TwoBytes scale_;
  uint32_t shift_[2];
};

/// Scale and offset of row `r` of a tile, of coefficients with what L^-1 scales them by.
__device__ __forceinline__ float2 row_factors(const Integers& in, const RowTile& tile, int r) {
  const float turned = tile.coded ? transform_scale(in.plan.transform, in.plan.levels, r) : 1.0f;
  return make_float2(in.scale[tile.row + r] * turned, in.offset[tile.row + r] * turned);
}

/// The parameters of a lane's channels; zeros of a panel beyond the last.
struct ChannelPair {
  float2 scale{};
  int2 sum{};

  template <int kPanels>
  __device__ __forceinline__ ChannelPair(const BlockPanels<kPanels>& panels, int panel, int group) {
    const WeightView& weight = panels.weight_of(panel);
    if (panels.at(panel) >= weight.panels()) return;
    const int64_t from = panels.at(panel) * kPanel + group * 2;
    scale = *reinterpret_cast<const float2*>(weight.scale + from);
    sum = *reinterpret_cast<const int2*>(weight.sum + from);
  }
  /// Their outputs of a row before L^-1; `row`: its row_factors().
  __device__ __forceinline__ float2 scaled(int32_t first, int32_t second, float2 row) const {
    return make_float2(scaled_sum(first, row.x, row.y, scale.x, sum.x),
                       scaled_sum(second, row.x, row.y, scale.y, sum.y));
  }
};

/// Writes a block's products, its threads side by side in the channels: bias, and what becomes of them.
template <int kChannels, int kThreads>
class ProductWriter {
 public:
  template <int kPanels>
  __device__ __forceinline__ ProductWriter(const LinearProducts& products, const BlockPanels<kPanels>& panels)
      : out_(panels.product->out),
        epilogue_(products.epilogue),
        channels_(panels.paired ? kChannels / 2 : kChannels),
        column_(int(threadIdx.x) % channels_),
        channel_(int64_t{panels.first} * kPanel + column_) {
    if (channel_ >= out_.cols) return;
    if (const float* const bias = panels.product->bias; bias != nullptr) shift_ = bias[channel_];
    if (!panels.paired) return;
    if (const float* const bias = panels.product[1].bias; bias != nullptr) other_shift_ = bias[channel_];
  }

  /// The rows of one tile; of two products the second's channels follow the first's.
  template <int kRows, int kPitch>
  __device__ __forceinline__ void write(const float (&product)[kRows][kPitch], const RowTile& tile) const {
    if (channel_ >= out_.cols) return;
    const int step = kThreads / channels_, first_row = int(threadIdx.x) / channels_;
    const int64_t rows = tile.count;
    float* to = out_.row(tile.row + first_row) + channel_;
    if (epilogue_ == Epilogue::kAdd) {
      constexpr int kTogether = 16;  // loads on their way
      for (int first = first_row; first < rows;
           first += kTogether * step, to += kTogether * step * out_.stride) {
        float before[kTogether];
#pragma unroll
        for (int i = 0; i < kTogether; ++i)
          before[i] = first + i * step < rows ? to[i * step * out_.stride] : 0.0f;
#pragma unroll
        for (int i = 0; i < kTogether; ++i)
          if (const int r = first + i * step; r < rows)
            to[i * step * out_.stride] = before[i] + (product[r][column_] + shift_);
      }
      return;
    }
    const auto each = [&](const auto& value) {
      for (int r = first_row; r < rows; r += step, to += step * out_.stride)
        *to = value(product[r][column_] + shift_, r);
    };
    if (epilogue_ == Epilogue::kSiluMul)
      each([&](float x, int r) { return silu(x) * (product[r][column_ + kChannels / 2] + other_shift_); });
    else each([](float x, int) { return x; });
  }

 private:
  const Mat<float>& out_;
  Epilogue epilogue_;
  int channels_, column_;
  int64_t channel_;
  float shift_ = 0.0f, other_shift_ = 0.0f;
};

}  // namespace stamp::cuda
