// Times the products of the CUDA operations against cuBLAS with FP16 operands: the same shapes, alternating,
// on the current device. Integer products, quantising included, and those of floats with F16 weights; an
// argument names one of these parts. Prints one JSON array.
#include <cublas_v2.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <random>
#include <string_view>
#include <vector>

#include "kernels/device.h"
#include "kernels/error.h"
#include "kernels/half.h"
#include "kernels/pack.h"
#include "models/nlohmann.h"
#include "tests/kernels/quantised.h"

namespace stamp {
namespace {

constexpr int kWarmUp = 3, kSamples = 21, kLaunches = 10;

/// Microseconds of one call, of several in a row. Reading `of_it` in `memory` starts what operations hold
/// back.
double time_once(Buffer<float>& of_it, Memory& memory, const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < kLaunches; ++i) call();
  float first = 0;
  memory.read(&first, of_it.data(), sizeof(first));
  if (cudaDeviceSynchronize() != cudaSuccess) throw Error("cuda_products: a kernel failed");
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() /
         kLaunches;
}

double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

/// Random elements in a device's memory. Not zeros: these take less power, so that clocks stay higher.
template <class T, class Draw>
void fill(Buffer<T>& to, Memory& memory, const Draw& draw) {
  static std::mt19937 rng(1);
  std::vector<T> values(size_t(to.size()));
  for (T& value : values) value = draw(rng);
  memory.write(to.data(), values.data(), to.size() * int64_t{sizeof(T)});
}
float random_float(std::mt19937& rng) { return float(int32_t(rng())) * 0x1p-31f; }  // in [-1, 1)
uint16_t random_half(std::mt19937& rng) { return f32_to_f16(random_float(rng)); }

/// A random weight in the operations' memory.
struct DeviceWeight {
  DeviceWeight(Memory& memory, int64_t n, int64_t k)
      : view{.dtype = DType::kQ4, .rows = n, .cols = k, .group = 64},
        data(view.data_bytes(), memory),
        group_scale(view.group_parameters(), memory),
        zero(view.zero_parameters(), memory),
        scale(view.row_parameters(), memory),
        sum(view.row_parameters(), memory) {
    fill(data, memory, [](std::mt19937& rng) { return uint8_t(rng()); });
    fill(group_scale, memory, [](std::mt19937& rng) { return uint8_t(4 + rng() % 5); });
    fill(zero, memory, [](std::mt19937& rng) { return uint8_t(40 + rng() % 16); });
    fill(scale, memory, [](std::mt19937& rng) { return 0.01f + 0.001f * random_float(rng); });
    fill(sum, memory, [](std::mt19937& rng) { return int32_t(rng() % 4096) - 2048; });
    view.data = data.data();
    view.group_scale = group_scale.data();
    view.zero = zero.data();
    view.scale = scale.data();
    view.sum = sum.data();
  }
  WeightView view;
  Buffer<uint8_t> data, group_scale, zero;
  Buffer<float> scale;
  Buffer<int32_t> sum;
};

/// cuBLAS with FP16 operands.
struct HalfProduct {
  HalfProduct(Memory& memory, int64_t rows, int64_t n, int64_t k)
      : rows(rows), n(n), k(k), x(rows * k, memory), w(n * k, memory), y(rows * n, memory) {
    fill(x, memory, random_half);
    fill(w, memory, random_half);
  }
  void run(cublasHandle_t blas) {
    const float one = 1.0f, nothing = 0.0f;
    // Column-major: y^T [n, rows] = w [n, k] x^T [k, rows].
    cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, int(n), int(rows), int(k), &one, w.data(), CUDA_R_16F,
                 int(k), x.data(), CUDA_R_16F, int(k), &nothing, y.data(), CUDA_R_16F, int(n),
                 CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  }
  int64_t rows, n, k;
  Buffer<uint16_t> x, w, y;
};

using Calls = std::vector<std::function<void()>>;

/// Medians of each of them, alternating.
std::vector<double> time_all(Buffer<float>& y, Memory& memory, const Calls& calls) {
  std::vector<std::vector<double>> samples(calls.size());
  for (int i = 0; i < kWarmUp + kSamples; ++i)
    for (size_t c = 0; c < calls.size(); ++c) {
      const double time = time_once(y, memory, calls[c]);
      if (i >= kWarmUp) samples[c].push_back(time);
    }
  std::vector<double> medians;
  for (const std::vector<double>& of_one : samples) medians.push_back(median(of_one));
  return medians;
}

nlohmann::json measure_integers(Ops& ops, cublasHandle_t blas, int64_t rows, int64_t n, int64_t k) {
  Memory& memory = ops.memory();
  const DeviceWeight weight(memory, n, k);
  Buffer<float> x(rows * k, memory), y(rows * n, memory);
  fill(x, memory, random_float);
  HalfProduct half(memory, rows, n, k);
  const BitPlan plan{.transform = SeqTransform::kHaar, .levels = 5, .high_rows = 2, .low_bits = 4};
  const RowRun run{.row = 0, .count = rows, .position = kBlock, .pages = {}};
  Quantised in(rows, k, plan, {&run, 1}, memory);
  const auto quantize = [&] { ops.quantize(in.view, x.mat(rows, k)); };
  const auto ours = [&] {
    quantize();
    ops.linear(y.mat(rows, n), in.view, weight.view, {});
  };
  const auto times = time_all(y, memory, {ours, [&] { half.run(blas); }, quantize});
  return {{"part", "integer"},
          {"rows", rows},
          {"n", n},
          {"k", k},
          {"stamp_us", times[0]},
          {"cublas_fp16_us", times[1]},
          {"of_it_quantize_us", times[2]}};
}

nlohmann::json measure_floats(Ops& ops, cublasHandle_t blas, int64_t rows, int64_t n, int64_t k) {
  Memory& memory = ops.memory();
  Buffer<float> x(rows * k, memory), y(rows * n, memory);
  fill(x, memory, random_float);
  HalfProduct half(memory, rows, n, k);
  const WeightView weight{.data = half.w.data(), .dtype = DType::kF16, .rows = n, .cols = k};
  const auto ours = [&] { ops.linear(y.mat(rows, n), x.mat(rows, k), weight, {}); };
  const auto times = time_all(y, memory, {ours, [&] { half.run(blas); }});
  return {{"part", "float"}, {"rows", rows},         {"n", n},
          {"k", k},          {"stamp_us", times[0]}, {"cublas_fp16_us", times[1]}};
}

/// `part`: integer, float or empty, which is both.
void run(std::string_view part) {
  const auto ops = make_cuda_ops();
  cublasHandle_t blas = nullptr;
  if (cublasCreate(&blas) != CUBLAS_STATUS_SUCCESS) throw Error("cuda_products: cublasCreate failed");
  nlohmann::json results = nlohmann::json::array();
  if (part != "float")
    for (const int64_t rows : {1, 16, 64, 256, 512, 2048})  // the products of Llama-3-8B
      for (const auto& [n, k] :
           std::vector<std::pair<int64_t, int64_t>>{{4096, 4096}, {14336, 4096}, {4096, 14336}})
        results.push_back(measure_integers(*ops, blas, rows, n, k));
  if (part != "integer")
    for (const int64_t rows : {1, 64, 2048}) results.push_back(measure_floats(*ops, blas, rows, 4096, 4096));
  cublasDestroy(blas);
  std::cout << results.dump(2) << "\n";
}

}  // namespace
}  // namespace stamp

int main(int argc, char** argv) {
  const std::string_view part = argc > 1 ? argv[1] : "";
  if (argc > 2 || (argc == 2 && part != "integer" && part != "float")) {
    std::cerr << "usage: cuda_products [integer|float]\n";
    return 2;
  }
  try {
    stamp::run(part);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
