#include "engine/logits.h"

#include <algorithm>

#include "kernels/error.h"

namespace stamp {

Mat<float> Logits::prepare(int64_t rows) {
  if (values_.size() < rows * vocab_size_) values_ = Buffer<float>(rows * vocab_size_, ops_.memory());
  rows_ = rows;
  likeliest_.clear(), wishes_.clear(), drawn_.clear();
  return values_.mat(rows, vocab_size_);
}

Mat<float> Logits::host_rows(int64_t first, int64_t count) {
  const Mat<float> rows = values_.mat(rows_, vocab_size_).slice(first, count);
  if (&ops_.memory() == &host_memory()) return rows;
  copy_.resize(size_t(count * vocab_size_));
  ops_.memory().read(copy_.data(), rows.data, int64_t(copy_.size() * sizeof(float)));
  return {copy_.data(), count, vocab_size_, vocab_size_};
}

int32_t Logits::likeliest(int64_t row) {
  if (likeliest_.empty()) {
    likeliest_.resize(size_t(rows_));
    ops_.argmax(likeliest_, view());
  }
  const int32_t token = likeliest_[size_t(row)];
  if (token < 0) fail_not_finite();
  return token;
}

int32_t Logits::drawn(int64_t row) {
  if (drawn_.size() < wishes_.size()) {
    const auto wishes = std::span<const Draw>(wishes_).subspan(drawn_.size());
    std::vector<int32_t> tokens(wishes.size());
    ops_.draw(tokens, view(), wishes);
    drawn_.insert(drawn_.end(), tokens.begin(), tokens.end());
  }
  const int32_t token = drawn_[size_t(std::ranges::find(wishes_, row, &Draw::row) - wishes_.begin())];
  if (token < 0) fail_not_finite();
  return token;
}

void fail_not_finite() { throw Error("the model's logits are not finite numbers; its weights are damaged"); }

}  // namespace stamp
