#include "kernels/cuda/pending.h"

namespace stamp::cuda {
namespace {

bool same(Mat<const float> x, Mat<const float> y) {
  return x.data == y.data && x.rows == y.rows && x.cols == y.cols && x.stride == y.stride;
}

}  // namespace

void Pending::add(Mat<float> x, Mat<const float> y) {
  LinearProducts& products = linear_.products;
  if (products.count == 1 && same(products.one[0].out, y)) {
    products.one[0].out = x;
    products.epilogue = Epilogue::kAdd;
    return flush();
  }
  start({.out = x, .a = x, .b = y, .first = RowChain::First::kAdd});
}

void Pending::silu_mul(Mat<float> gate, Mat<const float> up) {
  LinearProducts& products = linear_.products;
  if (products.count == 2 && same(products.one[0].out, gate) && same(products.one[1].out, up)) {
    products.epilogue = Epilogue::kSiluMul;
    return flush();
  }
  start({.out = gate, .a = gate, .b = up, .first = RowChain::First::kSiluMul});
}

void Pending::rms_norm(Mat<float> out, Mat<const float> in, const float* gain, float eps) {
  if (!chain_ends_in(in) || chain_.gain != nullptr || chain_.rotation_block != 0) {
    start({.out = out, .a = in, .gain = gain, .eps = eps});
    return;
  }
  if (out.data != in.data) chain_.kept = chain_.out;
  chain_.out = out;
  chain_.gain = gain;
  chain_.eps = eps;
}

void Pending::rotate(Mat<float> x, int64_t block, const float* signs, const float* mix, bool inverse) {
  if (heads_.count > 0 && 2 * heads_.cos.cols == block && block <= Heads::kMostRotated && mix == nullptr &&
      !inverse)
    for (int i = 0; i < heads_.count; ++i) {
      auto& head = heads_.one[i];
      if (!same(head.x, x) || head.rotates) continue;
      head.rotates = true;
      head.signs = signs;
      return;
    }
  if (!chain_ends_in(x) || chain_.rotation_block != 0) start({.out = x, .a = x});
  chain_.rotation_block = int(block);
  chain_.inverse = inverse;
  chain_.signs = signs;
  chain_.mix = mix;
}

void Pending::rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin) {
  const bool joins = heads_.count > 0 && heads_.count < Heads::kMost && same(heads_.cos, cos) &&
                     same(heads_.sin, sin) && heads_.one[0].x.rows == x.rows && !same(heads_.one[0].x, x);
  if (!joins) flush();
  heads_.cos = cos;
  heads_.sin = sin;
  heads_.one[heads_.count++] = {.x = x};
}

void Pending::quantize(const Integers& out, Mat<const float> in) {
  if (!chain_ends_in(in)) start({.a = in});
  chain_.integers = out;
  flush();
}

void Pending::quantize(const Quantize& coded) {
  // A norm by itself, whose rows quantising may be the only one to read.
  const bool may_norm = chain_ends_in(coded.in) && chain_.first == RowChain::First::kNothing &&
                        chain_.gain != nullptr && chain_.rotation_block == 0 &&
                        chain_.a.data != chain_.out.data;
  if (!may_norm) flush();
  coded_ = coded;
}

bool Pending::is_to_quantize(const Integers& x) const {
  const Integers& out = coded_.out;
  return out.q != nullptr && out.q == x.q && out.rows == x.rows && out.cols == x.cols &&
         out.tiles == x.tiles && out.tile_count == x.tile_count;
}

void Pending::split_rows(const SplitRows& out, const Integers& in) {
  const bool joins = is_to_quantize(in);
  if (joins) coded_.split = out;
  if (joins && chain_.a.data != nullptr) {
    chain_.factors = coded_.factors;
    coded_.in = chain_.a;
    coded_.gain = chain_.gain;
  }
  flush();
  if (!joins) cuda::split_rows(out, in, stream_);
}

void Pending::linear(const LinearInt& products) {
  flush();
  linear_ = products;
}

void Pending::flush() {
  if (chain_.a.data != nullptr) run(chain_, stream_);
  if (heads_.count > 0) turn_heads(heads_, stream_);
  if (coded_.out.q != nullptr) cuda::quantize(coded_, stream_);
  if (linear_.products.count > 0) linear_int(linear_, stream_);
  chain_ = {};
  heads_ = {};
  coded_ = {};
  linear_ = {};
}

bool Pending::chain_ends_in(Mat<const float> x) const {
  return chain_.a.data != nullptr && same(chain_.out, x);
}

void Pending::start(const RowChain& chain) {
  flush();
  chain_ = chain;
}

}  // namespace stamp::cuda
