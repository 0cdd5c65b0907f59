#include "kernels/timed_ops.h"

namespace stamp {
namespace {

TimedOps::Entry linear_entry(std::span<const Product> products, int64_t in) {
  TimedOps::Entry key{.kind = TimedOps::Kind::kLinear, .products = products.size(), .in = in};
  for (const Product& product : products) key.out += product.weight.rows;
  return key;
}

}  // namespace

TimedOps::Entry& TimedOps::entry(const Entry& key) {
  for (Entry& e : entries_)
    if (e.kind == key.kind && e.products == key.products && e.in == key.in && e.out == key.out) return e;
  return entries_.emplace_back(key);
}

template <class Call, class Work>
void TimedOps::timed(const Entry& key, const Call& call, const Work& work) {
  if (!measuring_) return call();
  const double begin = clock_();
  call();
  const double seconds = clock_() - begin;
  Entry& e = entry(key);
  ++e.calls;
  e.seconds += seconds;
  e.work += work();
}

void TimedOps::embed(Mat<float> out, std::span<const int32_t> ids, WeightView table) {
  timed(
      {.kind = Kind::kEmbed}, [&] { ops_->embed(out, ids, table); },
      [&] { return embed_work(out.rows, table); });
}

void TimedOps::gather(Mat<float> out, Mat<const float> in, std::span<const int32_t> rows) {
  timed(
      {.kind = Kind::kGather}, [&] { ops_->gather(out, in, rows); },
      [&] { return elementwise_work(out.rows, out.cols, 2); });
}

void TimedOps::rms_norm(Mat<float> out, Mat<const float> in, std::span<const float> gain, float eps) {
  timed(
      {.kind = Kind::kNorm}, [&] { ops_->rms_norm(out, in, gain, eps); },
      [&] { return elementwise_work(in.rows, in.cols, 2); });
}

void TimedOps::linear(std::span<const Product> products, Mat<const float> in) {
  timed(
      linear_entry(products, in.cols), [&] { ops_->linear(products, in); },
      [&] { return linear_work(products, in); });
}

void TimedOps::linear(std::span<const Product> products, const QuantMat& in) {
  timed(
      linear_entry(products, in.cols), [&] { ops_->linear(products, in); },
      [&] { return linear_work(products, in); });
}

void TimedOps::quantize(QuantMat& out, Mat<const float> in) {
  timed(
      {.kind = Kind::kQuantize}, [&] { ops_->quantize(out, in); }, [&] { return quantize_work(out); });
}

void TimedOps::rotate(Mat<float> x, const RotationView& rotation, bool inverse) {
  timed(
      {.kind = Kind::kRotate}, [&] { ops_->rotate(x, rotation, inverse); },
      [&] { return rotate_work(x.rows, x.cols, rotation); });
}

void TimedOps::rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin) {
  timed(
      {.kind = Kind::kRope}, [&] { ops_->rope(x, cos, sin); },
      [&] {
        OpWork work = elementwise_work(x.rows, x.cols, 2);
        work += elementwise_work(cos.rows, cos.cols, 2);
        return work;
      });
}

void TimedOps::silu_mul(Mat<float> gate, Mat<const float> up) {
  timed(
      {.kind = Kind::kSilu}, [&] { ops_->silu_mul(gate, up); },
      [&] { return elementwise_work(gate.rows, gate.cols, 3); });
}

void TimedOps::add(Mat<float> x, Mat<const float> y) {
  timed(
      {.kind = Kind::kAdd}, [&] { ops_->add(x, y); }, [&] { return elementwise_work(x.rows, x.cols, 3); });
}

void TimedOps::append_kv(KvPages kv, Mat<const float> k, Mat<const float> v, std::span<const RowRun> runs) {
  timed(
      {.kind = Kind::kAppendKv}, [&] { ops_->append_kv(kv, k, v, runs); },
      [&] { return append_kv_work(kv, runs); });
}

void TimedOps::attention(Mat<float> out, Mat<const float> q, KvPages kv, std::span<const RowRun> runs,
                         float scale) {
  timed(
      {.kind = Kind::kAttention}, [&] { ops_->attention(out, q, kv, runs, scale); },
      [&] { return attention_work(q.cols / kv.head_dim, kv, runs); });
}

void TimedOps::argmax(std::span<int32_t> out, Mat<const float> logits) {
  timed(
      {.kind = Kind::kEvaluate}, [&] { ops_->argmax(out, logits); },
      [&] { return elementwise_work(logits.rows, logits.cols, 1); });
}

void TimedOps::draw(std::span<int32_t> out, Mat<const float> logits, std::span<const Draw> draws) {
  timed(
      {.kind = Kind::kEvaluate}, [&] { ops_->draw(out, logits, draws); },
      [&] { return elementwise_work(int64_t(draws.size()), logits.cols, 1); });
}

void TimedOps::token_logprobs(std::span<float> out, Mat<const float> logits,
                              std::span<const int32_t> targets) {
  timed(
      {.kind = Kind::kEvaluate}, [&] { ops_->token_logprobs(out, logits, targets); },
      [&] { return elementwise_work(logits.rows, logits.cols, 1); });
}

void TimedOps::kl_divergence(std::span<float> out, Mat<const float> reference, Mat<const float> logits) {
  timed(
      {.kind = Kind::kEvaluate}, [&] { ops_->kl_divergence(out, reference, logits); },
      [&] { return elementwise_work(logits.rows, logits.cols, 2); });
}

}  // namespace stamp
