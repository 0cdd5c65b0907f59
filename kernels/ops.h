#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/draw.h"
#include "kernels/views.h"

namespace stamp {

/// Every operation of the forward pass, and the only seam between devices. Outputs come first, then inputs,
/// weights and parameters. Unless a line says otherwise, outputs may not overlap inputs. Nothing allocates
/// per call. Each output row depends on its own inputs alone and is reduced in a fixed order, so a row's bits
/// are the same whatever the batch, the number of threads and the neighbours in the cache.
///
/// An input that is "used up" holds nothing certain afterwards where it lies in memory(): a device may leave
/// out writing what this operation alone reads.
///
/// Shapes are preconditions (checked by the callers that build the views), not user input.
class Ops {
 public:
  virtual ~Ops() = default;

  /// "reference", "scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "amx"; on Arm "neon", "neoni8mm"
  virtual std::string_view name() const = 0;
  virtual int threads() const = 0;
  /// Where the operations work without a copy: activations, weights and the cache's pages belong there. On a
  /// device the host cannot look into it; views of other memory are then copied in and out, call by call,
  /// except pages.
  virtual Memory& memory() { return host_memory(); }

  /// From begin_pass() to end_pass() an operation may be done later than it is called, together with others,
  /// so nobody but operations may look at results, or change inputs, until the end.
  virtual void begin_pass() {}
  virtual void end_pass() {}

  /// out[r, :] = table[ids[r], :]                     out [tokens, dim], table [vocab, dim]
  virtual void embed(Mat<float> out, std::span<const int32_t> ids, WeightView table) = 0;

  /// out[r, :] = in[rows[r], :]                       out [rows.size(), dim], in [tokens, dim]
  virtual void gather(Mat<float> out, Mat<const float> in, std::span<const int32_t> rows) = 0;

  /// out = in / sqrt(mean(in^2) + eps) * gain         out, in [tokens, dim] (may be the same), gain [dim]
  virtual void rms_norm(Mat<float> out, Mat<const float> in, std::span<const float> gain, float eps) = 0;

  /// out = in weight^T + bias, for all products of one input, whose weights have one type and group size.
  /// Quantised weights are used at their float values.     in [tokens, k]
  virtual void linear(std::span<const Product> products, Mat<const float> in) = 0;

  /// out = L^-1 (in weight^T) + bias, L where a tile is coded: integer products where the weights are
  /// quantised, too. `in` is used up, its scales and offsets are not, and so are the values it was made of.
  /// The sums over all input channels are exact; what rounds is their scaling, once for each value of out.
  virtual void linear(std::span<const Product> products, const QuantMat& in) = 0;

  /// One product.
  void linear(Mat<float> out, Mat<const float> in, const WeightView& weight, std::span<const float> bias) {
    const Product product{out, weight, bias};
    linear({&product, 1}, in);
  }
  void linear(Mat<float> out, const QuantMat& in, const WeightView& weight, std::span<const float> bias) {
    const Product product{out, weight, bias};
    linear({&product, 1}, in);
  }

  /// Activations as integers under out.plan, over out.tiles: coded tiles are transformed along the sequence
  /// and get the plan's bits row by row, other tokens kTokenBits. In a pass `in` is used up.
  /// in [tokens, k]
  virtual void quantize(QuantMat& out, Mat<const float> in) = 0;

  /// Turns channels, in place.                        x [tokens, dim]
  virtual void rotate(Mat<float> x, const RotationView& rotation, bool inverse) = 0;

  /// Rotary embedding in place, halves convention: (x[i], x[i + d/2]) turned by angle i.
  ///                                                  x [tokens, heads * head_dim], cos, sin [tokens,
  ///                                                  head_dim / 2]
  virtual void rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin) = 0;

  /// gate = silu(gate) * up, which is used up         gate, up [tokens, hidden]
  virtual void silu_mul(Mat<float> gate, Mat<const float> up) = 0;

  /// x += y, which is used up                         x, y [tokens, dim]
  virtual void add(Mat<float> x, Mat<const float> y) = 0;

  /// Writes each run's keys and values to its pages, and seals the pages that it fills (KvFormat::seals):
  /// from k and v themselves if the run holds the whole page, else from the open page.  k, v [tokens,
  /// kv_heads * head_dim]
  virtual void append_kv(KvPages kv, Mat<const float> k, Mat<const float> v,
                         std::span<const RowRun> runs) = 0;

  /// Causal attention of every row over its own sequence, the row's own position included; query head h reads
  /// KV head h / (heads / kv_heads). Coded pages are never turned back into tokens: scores = L^-1 (K~ q),
  /// output = (L p)^T V~ (design section 3). There q is rounded to 8 bits, round(127 q / max |q|) of a head,
  /// so that K~ q is a product of integers; and so are, page by page, the weights of V~'s rows of 4 bits,
  /// which are L p times the rows' scales. Weights of its rows of 8 bits are floats, or integers within 2^-15
  /// of the page's largest.                  out, q [tokens, heads * head_dim]
  virtual void attention(Mat<float> out, Mat<const float> q, KvPages kv, std::span<const RowRun> runs,
                         float scale) = 0;

  /// out[r] = index of the largest of logits[r, :], the lowest on ties; -1 if one of them is not a finite
  /// number                                           logits [tokens, vocab]
  virtual void argmax(std::span<int32_t> out, Mat<const float> logits) = 0;

  /// out[i] = the token that draws[i] takes from logits[draws[i].row, :], the same bits on every device; -1
  /// if one of these is not a finite number     logits [tokens, vocab], vocab <= kMostDrawnFrom
  virtual void draw(std::span<int32_t> out, Mat<const float> logits, std::span<const Draw> draws) = 0;

  /// out[r] = log softmax(logits[r, :])[targets[r]]   logits [tokens, vocab]
  virtual void token_logprobs(std::span<float> out, Mat<const float> logits,
                              std::span<const int32_t> targets) = 0;

  /// out[r] = KL(softmax(reference[r, :]) || softmax(logits[r, :])) in nats        both [tokens, vocab]
  virtual void kl_divergence(std::span<float> out, Mat<const float> reference, Mat<const float> logits) = 0;
};

/// A pass of operations: begin_pass() now, end_pass() at the end of the block.
class OpsPass {
 public:
  explicit OpsPass(Ops& ops) : ops_(ops) { ops_.begin_pass(); }
  ~OpsPass() { ops_.end_pass(); }
  OpsPass(const OpsPass&) = delete;
  OpsPass& operator=(const OpsPass&) = delete;

 private:
  Ops& ops_;
};

/// Names of the Ops this machine can run, best first.
std::vector<std::string> available_ops();

/// Makes the Ops called `name`; an empty name takes STAMP_FORCE_OPS, else the best available. `threads` <= 0
/// means one per core this process may run on. Throws InputError naming the choices if the name is unknown or
/// this machine cannot run it.
std::unique_ptr<Ops> make_ops(std::string_view name = {}, int threads = 0);

}  // namespace stamp
