#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/ops.h"

namespace stamp {

/// Rows of logits, [rows, vocab], where operations work: on a device the host sees only what it asks for.
class Logits {
 public:
  Logits(Ops& ops, int64_t vocab_size) : ops_(ops), vocab_size_(vocab_size) {}

  /// Room for `rows` rows, to be written by operations; those before are gone.
  Mat<float> prepare(int64_t rows);
  /// out[r] = log softmax(row r)[targets[r]] of all rows, found where they lie.
  void logprobs(std::span<float> out, std::span<const int32_t> targets) const {
    ops_.token_logprobs(out, view(), targets);
  }
  /// For operations.
  Mat<const float> view() const { return {values_.data(), rows_, vocab_size_, vocab_size_}; }
  int64_t rows() const { return rows_; }

  /// A row where the host can read it, and may change it: of a device, a copy until the next call of these.
  std::span<float> host(int64_t row) { return host_rows(row, 1).row_span(0); }
  /// The same for all rows.
  Mat<float> host() { return host_rows(0, rows_); }

  /// Index of a row's largest logit, the lowest on ties. Throws Error if one of them is not a finite number.
  int32_t likeliest(int64_t row);
  /// Asks for a token, which is drawn with all others asked for when the first is wanted.
  void wish(const Draw& draw) { wishes_.push_back(draw); }
  /// The token that was asked for of a row. Throws Error if one of its logits is not a finite number.
  int32_t drawn(int64_t row);

 private:
  Mat<float> host_rows(int64_t first, int64_t count);

  Ops& ops_;
  int64_t vocab_size_, rows_ = 0;
  Buffer<float> values_;
  std::vector<float> copy_;
  std::vector<int32_t> likeliest_;  // of all rows, once one was asked for
  std::vector<Draw> wishes_;
  std::vector<int32_t> drawn_;  // of the first wishes
};

/// What is thrown where logits are not finite numbers.
[[noreturn]] void fail_not_finite();

}  // namespace stamp
