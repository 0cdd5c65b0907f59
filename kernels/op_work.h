#pragma once
#include <span>

#include "kernels/views.h"

/// What the operations of Ops have to do at least, as functions of their shapes; data pointers are not looked
/// at. Of CUDA's launches, which differ, kernel_cost.h tells more.
namespace stamp {

struct OpWork {
  double bytes = 0;      // every operand once, in the form in which it is stored
  double int8_ops = 0;   // multiplications and additions of integers, each one operation
  double int4_ops = 0;   // those where one of the factors has at most 4 bits
  double float_ops = 0;  // of products, attention and transforms alone: other operations are bound by memory
  double transformed = 0;  // channels of blocks that go through L or its inverse

  OpWork& operator+=(const OpWork& other);
};

OpWork embed_work(int64_t rows, const WeightView& table);
/// rows x cols floats, so many matrices of them read or written: gather, norm, rope, silu and so on.
OpWork elementwise_work(int64_t rows, int64_t cols, int matrices);
OpWork rotate_work(int64_t rows, int64_t cols, const RotationView& rotation);
OpWork linear_work(std::span<const Product> products, Mat<const float> in);
OpWork linear_work(std::span<const Product> products, const QuantMat& in);
OpWork quantize_work(const QuantMat& out);
/// Of the open form the rows, of the sealed one the whole pages.
OpWork append_kv_work(const KvPages& kv, std::span<const RowRun> runs);
/// Every page of a sequence once; scores and outputs of the positions that a query sees.
OpWork attention_work(int64_t heads, const KvPages& kv, std::span<const RowRun> runs);

}  // namespace stamp
