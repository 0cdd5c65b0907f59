#pragma once
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/op_work.h"
#include "kernels/ops.h"

namespace stamp {

/// Other operations, measured: how long each kind takes and what it had to do. Of a device that works on
/// after a call returns it measures the calls alone.
class TimedOps final : public Ops {
 public:
  enum class Kind : uint8_t {
    kEmbed,
    kGather,
    kNorm,
    kQuantize,
    kLinear,
    kRope,
    kRotate,
    kAppendKv,
    kAttention,
    kSilu,
    kAdd,
    kEvaluate
  };
  struct Entry {
    Kind kind;
    size_t products = 0;      // of linear, where those of one shape are an entry; else 0
    int64_t in = 0, out = 0;  // its channels, of all products together
    int64_t calls = 0;
    double seconds = 0;
    OpWork work{};
  };
  using Clock = double (*)();  // seconds

  explicit TimedOps(std::unique_ptr<Ops> ops, Clock clock = steady_clock)
      : ops_(std::move(ops)), clock_(clock) {}

  /// Before resume() and after stop() calls are only passed on.
  void resume() { measuring_ = true; }
  void stop() { measuring_ = false; }
  /// What was measured, in the order in which it came first; the next is measured anew.
  std::vector<Entry> take() { return std::exchange(entries_, {}); }

  std::string_view name() const override { return ops_->name(); }
  int threads() const override { return ops_->threads(); }
  Memory& memory() override { return ops_->memory(); }
  /// What is measured is done when it is called, each operation by itself.
  void begin_pass() override {
    if (!measuring_) ops_->begin_pass();
  }
  void end_pass() override { ops_->end_pass(); }
  void embed(Mat<float> out, std::span<const int32_t> ids, WeightView table) override;
  void gather(Mat<float> out, Mat<const float> in, std::span<const int32_t> rows) override;
  void rms_norm(Mat<float> out, Mat<const float> in, std::span<const float> gain, float eps) override;
  void linear(std::span<const Product> products, Mat<const float> in) override;
  void linear(std::span<const Product> products, const QuantMat& in) override;
  void quantize(QuantMat& out, Mat<const float> in) override;
  void rotate(Mat<float> x, const RotationView& rotation, bool inverse) override;
  void rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin) override;
  void silu_mul(Mat<float> gate, Mat<const float> up) override;
  void add(Mat<float> x, Mat<const float> y) override;
  void append_kv(KvPages kv, Mat<const float> k, Mat<const float> v, std::span<const RowRun> runs) override;
  void attention(Mat<float> out, Mat<const float> q, KvPages kv, std::span<const RowRun> runs,
                 float scale) override;
  void argmax(std::span<int32_t> out, Mat<const float> logits) override;
  void draw(std::span<int32_t> out, Mat<const float> logits, std::span<const Draw> draws) override;
  void token_logprobs(std::span<float> out, Mat<const float> logits,
                      std::span<const int32_t> targets) override;
  void kl_divergence(std::span<float> out, Mat<const float> reference, Mat<const float> logits) override;

 private:
  static double steady_clock() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  template <class Call, class Work>
  void timed(const Entry& key, const Call& call, const Work& work);
  Entry& entry(const Entry& key);

  std::unique_ptr<Ops> ops_;
  Clock clock_;
  bool measuring_ = false;
  std::vector<Entry> entries_;
};

}  // namespace stamp
