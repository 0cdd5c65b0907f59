#include "kernels/cuda/ops_cuda.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/float_products.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/pending.h"
#include "kernels/cuda/tile_plan.h"
#include "kernels/device.h"
#include "kernels/error.h"

namespace stamp {
namespace {

using cuda::check;

class Stream {
 public:
  Stream() { check(cudaStreamCreate(&stream_), "cudaStreamCreate"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

cuda::Device current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
    return value;
  };
  const int compute_capability =
      10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  return {.compute_capability = compute_capability,
          .multiprocessors = attribute(cudaDevAttrMultiProcessorCount),
          .shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
          .wgmma = compute_capability == 90 && cuda::has_wgmma_code()};
}

/// The operands of one operation, brought to the device where they are not there yet.
class Operands {
 public:
  Operands(cuda::DeviceMemory& memory, cuda::Scratch& scratch, cuda::Uploads& uploads, cuda::Pending& pending,
           cudaStream_t stream)
      : memory_(memory), scratch_(scratch), uploads_(uploads), pending_(pending), stream_(stream) {
    scratch_.reset();
  }

  template <class T>
  const T* in(const T* data, int64_t count) {
    if (data == nullptr || count == 0 || memory_.owns(data)) return data;
    const int64_t bytes = count * int64_t{sizeof(T)};
    if (bytes <= cuda::Uploads::kMostBytes) return static_cast<const T*>(uploads_.on_device(data, bytes));
    return upload(data, count);
  }
  template <class T>
  const T* in(std::span<const T> values) {
    return values.empty() ? nullptr : in(values.data(), int64_t(values.size()));
  }
  template <class T>
  T* out(T* data, int64_t count) {
    if (count == 0 || memory_.owns(data)) return data;
    T* const copy = scratch_.take<T>(count);
    results_.push_back({data, copy, count * int64_t{sizeof(T)}});
    return copy;
  }
  template <class T>
  T* in_out(T* data, int64_t count) {
    if (count == 0 || memory_.owns(data)) return data;
    T* const copy = upload(data, count);
    results_.push_back({data, copy, count * int64_t{sizeof(T)}});
    return copy;
  }
  Mat<const float> in(Mat<const float> m) { return {in(m.data, extent(m)), m.rows, m.cols, m.stride}; }
  Mat<float> in_out(Mat<float> m) { return {in_out(m.data, extent(m)), m.rows, m.cols, m.stride}; }
  Mat<float> out(Mat<float> m) {  // gaps between rows keep what they hold
    return m.stride == m.cols ? Mat<float>{out(m.data, extent(m)), m.rows, m.cols, m.stride} : in_out(m);
  }
  WeightView in(WeightView w) {
    w.data = in(static_cast<const std::byte*>(w.data), w.data_bytes());
    w.scale = in(w.scale, w.row_parameters());
    w.sum = in(w.sum, w.row_parameters());
    w.group_scale = in(w.group_scale, w.group_parameters());
    w.zero = in(w.zero, w.zero_parameters());
    return w;
  }
  cuda::Integers in(const QuantMat& m) {
    cuda::Integers x = integers(m);
    x.q = const_cast<uint8_t*>(in<uint8_t>(m.q, m.rows * m.stride));
    x.scale = const_cast<float*>(in<float>(m.scale, m.rows));
    x.offset = const_cast<float*>(in<float>(m.offset, m.rows));
    return x;
  }
  cuda::Integers out(const QuantMat& m) {
    cuda::Integers x = integers(m);
    x.q = out(m.q, m.rows * m.stride);
    x.scale = out(m.scale, m.rows);
    x.offset = out(m.offset, m.rows);
    return x;
  }

  /// Hands results back to the host; waits for the device if there are any. Scratch is the next operation's.
  void finish() {
    if (!scratch_.is_unused()) pending_.flush();
    for (const auto& [to, from, bytes] : results_)
      check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDeviceToHost, stream_), "copying a result");
    if (!results_.empty()) check(cudaStreamSynchronize(stream_), "a kernel");
  }

 private:
  static int64_t extent(const Mat<const float>& m) {
    return m.rows == 0 ? 0 : (m.rows - 1) * m.stride + m.cols;
  }
  template <class T>
  T* upload(const T* data, int64_t count) {
    T* const copy = scratch_.take<T>(count);
    memory_.enqueue_write(copy, data, count * int64_t{sizeof(T)});
    return copy;
  }
  cuda::Integers integers(const QuantMat& m) {
    return {.q = nullptr,
            .rows = m.rows,
            .cols = m.cols,
            .stride = m.stride,
            .plan = m.plan,
            .tiles = in(m.tiles),
            .tile_count = int64_t(m.tiles.size()),
            .any_coded = std::ranges::any_of(m.tiles, &RowTile::coded)};
  }

  struct Result {
    void* to;
    const void* from;
    int64_t bytes;
  };
  cuda::DeviceMemory& memory_;
  cuda::Scratch& scratch_;
  cuda::Uploads& uploads_;
  cuda::Pending& pending_;
  cudaStream_t stream_;
  std::vector<Result> results_;
};

class CudaOps final : public Ops {
 public:
  explicit CudaOps(std::string_view name)
      : name_(name),
        device_(current_device()),
        pending_(stream()),
        memory_(stream(), [this] { pending_.flush(); }),
        scratch_(memory_),
        held_(memory_),
        uploads_(memory_),
        dct_(1, memory_),
        float_products_(memory_, stream()) {
    memory_.write(dct_.data(), &kDct, sizeof(DctTable));
  }

  std::string_view name() const override { return name_; }
  int threads() const override { return 1; }
  Memory& memory() override { return memory_; }

  void embed(Mat<float> out, std::span<const int32_t> ids, WeightView table) override {
    Operands o = operands();
    cuda::embed(o.out(out), o.in(ids), o.in(table), stream());
    o.finish();
  }

  void gather(Mat<float> out, Mat<const float> in, std::span<const int32_t> rows) override {
    Operands o = operands();
    cuda::gather(o.out(out), o.in(in), o.in(rows), stream());
    o.finish();
  }

  void rms_norm(Mat<float> out, Mat<const float> in, std::span<const float> gain, float eps) override {
    Operands o = joining();
    const Mat<const float> x = o.in(in);  // before `out`, which may be the same
    pending_.rms_norm(o.out(out), x, o.in(gain), eps);
    o.finish();
  }

  void linear(std::span<const Product> products, Mat<const float> in) override {
    Operands o = operands();
    const Mat<const float> x = o.in(in);
    std::vector<cuda::LinearProduct> all;
    for (const auto& [out, weight, bias] : products) all.push_back({o.out(out), o.in(weight), o.in(bias)});
    float_products_.multiply(all, x);
    o.finish();
  }

  void linear(std::span<const Product> products, const QuantMat& in) override {
    Operands o = joining();
    const cuda::Integers x = o.in(in);
    const DType type = products.front().weight.dtype;
    const bool few = in.rows <= cuda::kFewRows;
    const auto nibbles = std::ranges::find_if(products, [&](const Product& p) {
      return !few && is_quantised(type) &&
             cuda::mma_path(p.weight, x.any_coded, x.plan, device_) == cuda::MmaPath::kFour;
    });
    cuda::SplitRows split;
    if (nibbles != products.end()) {
      if (!pending_.is_to_quantize(x)) held_.reset();
      const int64_t lines = nibbles->weight.groups();
      split = {.nibbles = held_.take<uint8_t>(cuda::split_nibbles_size(x, lines)),
               .sums = held_.take<uint8_t>(cuda::split_sums_size(x, lines)),
               .lines = lines,
               .with_bytes = std::ranges::any_of(
                   products, [&](const Product& p) { return p.weight.dtype != nibbles->weight.dtype; })};
      pending_.split_rows(split, x);
    }
    pending_.flush();
    if (!is_quantised(type)) {
      const Mat<float> values{scratch_.take<float>(in.rows * in.cols), in.rows, in.cols, in.cols};
      cuda::dequantize(values, x, stream());
      std::vector<cuda::LinearProduct> all;
      for (const auto& [out, weight, bias] : products) all.push_back({o.out(out), o.in(weight)});
      float_products_.multiply(all, values);
      for (size_t i = 0; i < all.size(); ++i)
        cuda::finish_tiles(all[i].out, x, dct_.data(), o.in(products[i].bias), stream());
    } else {
      // Products with weights of the same bits are one launch.
      for (auto next = products.begin(); next != products.end();) {
        cuda::LinearProducts together;
        do {
          together.one[together.count++] = {o.out(next->out), o.in(next->weight), o.in(next->bias)};
          ++next;
        } while (next != products.end() && together.count < cuda::LinearProducts::kMost &&
                 next->weight.dtype == together.one[0].weight.dtype);
        if (few) cuda::linear_few(together, x, stream());
        else pending_.linear({together, x, split, dct_.data(), device_});
      }
    }
    o.finish();
  }

  void quantize(QuantMat& out, Mat<const float> in) override {
    Operands o = joining();
    const cuda::Integers q = o.out(out);
    const Mat<const float> x = o.in(in);
    if (q.any_coded) {
      held_.reset();
      pending_.quantize({.out = q,
                         .in = x,
                         .dct = dct_.data(),
                         .extremes = held_.take<float>(cuda::extremes_size(q)),
                         .factors = held_.take<float>(q.rows)});
    } else {
      pending_.quantize(q, x);
    }
    o.finish();
  }

  void rotate(Mat<float> x, const RotationView& rotation, bool inverse) override {
    Operands o = joining();
    pending_.rotate(o.in_out(x), rotation.block, o.in(rotation.signs), o.in(rotation.mix), inverse);
    o.finish();
  }

  void rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin) override {
    Operands o = joining();
    pending_.rope(o.in_out(x), o.in(cos), o.in(sin));
    o.finish();
  }

  void silu_mul(Mat<float> gate, Mat<const float> up) override {
    Operands o = joining();
    pending_.silu_mul(o.in_out(gate), o.in(up));
    o.finish();
  }

  void add(Mat<float> x, Mat<const float> y) override {
    Operands o = joining();
    pending_.add(o.in_out(x), o.in(y));
    o.finish();
  }

  void append_kv(KvPages kv, Mat<const float> k, Mat<const float> v, std::span<const RowRun> runs) override {
    Operands o = operands();
    const cuda::Cache cache = cache_of(kv, runs, o);
    page_writes_.clear();
    int64_t first_page = 0;
    for (const RowRun& run : runs) {
      const int64_t end = run.position + run.count;
      for (int64_t page = run.position / kBlock; page * kBlock < end; ++page) {
        const int64_t begin = page * kBlock, from = std::max(run.position, begin),
                      to = std::min(end, begin + kBlock);
        page_writes_.push_back({.page = first_page + page,
                                .row = run.row + from - run.position,
                                .begin = int(from - begin),
                                .end = int(to - begin),
                                .seals = kv.format.seals(page) && to == begin + kBlock});
      }
      first_page += int64_t(run.pages.size());
    }
    cuda::append_kv(cache, o.in(k), o.in(v), o.in(std::span<const cuda::PageWrite>(page_writes_)),
                    int64_t(page_writes_.size()), dct_.data(), stream());
    o.finish();
  }

  void attention(Mat<float> out, Mat<const float> q, KvPages kv, std::span<const RowRun> runs,
                 float scale) override {
    Operands o = operands();
    const cuda::Cache cache = cache_of(kv, runs, o);
    const int64_t d = kv.head_dim;
    cuda::plan_attention(attention_plan_, runs, q.cols / d / kv.kv_heads, kv.kv_heads,
                         cuda::memory_of_tile(cache), device_);
    const auto& [many, few, split, many_queries, parts] = attention_plan_;
    const auto list = [&](const std::vector<cuda::QueryTile>& tiles) {
      return o.in(std::span<const cuda::QueryTile>(tiles));
    };
    const cuda::AttentionTiles tiles{.many = list(many),
                                     .few = list(few),
                                     .split = list(split),
                                     .many_count = int64_t(many.size()),
                                     .few_count = int64_t(few.size()),
                                     .split_count = int64_t(split.size()),
                                     .many_queries = many_queries};
    const int64_t rows = parts * kv.kv_heads * cuda::kFewQueries;
    const cuda::Partials partials{.sums = scratch_.take<float>(rows * d),
                                  .softmax = scratch_.take<float2>(rows),
                                  .kv_heads = kv.kv_heads,
                                  .parts = parts};
    cuda::attention(o.out(out), o.in(q), cache, tiles, partials, scale, dct_.data(), stream());
    o.finish();
  }

  void argmax(std::span<int32_t> out, Mat<const float> logits) override {
    Operands o = operands();
    cuda::argmax(o.out(out.data(), logits.rows), o.in(logits), stream());
    o.finish();
  }

  void draw(std::span<int32_t> out, Mat<const float> logits, std::span<const Draw> draws) override {
    Operands o = operands();
    const auto count = int64_t(draws.size());
    cuda::draw(o.out(out.data(), count), o.in(logits), o.in(draws), count, stream());
    o.finish();
  }

  void token_logprobs(std::span<float> out, Mat<const float> logits,
                      std::span<const int32_t> targets) override {
    Operands o = operands();
    cuda::token_logprobs(o.out(out.data(), logits.rows), o.in(logits), o.in(targets), stream());
    o.finish();
  }

  void kl_divergence(std::span<float> out, Mat<const float> reference, Mat<const float> logits) override {
    Operands o = operands();
    cuda::kl_divergence(o.out(out.data(), logits.rows), o.in(reference), o.in(logits), stream());
    o.finish();
  }

 private:
  cudaStream_t stream() const { return stream_.get(); }
  /// Of an operation that the pending ones may be joined with, and of any other.
  Operands joining() { return {memory_, scratch_, uploads_, pending_, stream()}; }
  Operands operands() {
    pending_.flush();
    return joining();
  }

  /// The pages of all runs, one run after another.
  cuda::Cache cache_of(const KvPages& kv, std::span<const RowRun> runs, Operands& o) {
    page_bases_.clear();
    for (const RowRun& run : runs)
      for (int32_t page : run.pages)
        page_bases_.push_back({kv.open[size_t(page)], kv.sealed.empty() ? nullptr : kv.sealed[size_t(page)]});
    return {.pages = o.in(std::span<const cuda::PageBases>(page_bases_)),
            .layer_index = kv.layer_index,
            .kv_heads = kv.kv_heads,
            .head_dim = kv.head_dim,
            .format = kv.format,
            .open_side = kv.open_side(),
            .sealed_side = kv.sealed_side(),
            .open_layer_bytes = kv.open_layer_bytes(),
            .sealed_layer_bytes = kv.sealed_layer_bytes()};
  }

  std::string name_;
  cuda::Device device_;
  Stream stream_;
  cuda::Pending pending_;
  cuda::DeviceMemory memory_;
  cuda::Scratch scratch_;
  cuda::Scratch held_;  // of what is pending
  cuda::Uploads uploads_;
  Buffer<DctTable> dct_;
  cuda::FloatProducts float_products_;
  // Of one call, kept for their memory.
  std::vector<cuda::PageBases> page_bases_;
  std::vector<cuda::PageWrite> page_writes_;
  cuda::AttentionPlan attention_plan_;
};

}  // namespace

std::unique_ptr<Ops> make_device_ops(std::string_view name) { return std::make_unique<CudaOps>(name); }

std::unique_ptr<Ops> make_cuda_ops() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess)
    throw InputError(std::string("device cuda: ") + cudaGetErrorString(status) + "; use --device cpu");
  if (count == 0) throw InputError("device cuda: no device found; use --device cpu");
  return make_device_ops("cuda");
}

}  // namespace stamp
