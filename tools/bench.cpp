#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>

#include "engine/batcher.h"
#include "engine/session.h"
#include "kernels/error.h"
#include "tools/cli.h"
#include "tools/device_model.h"
#include "tools/roofline.h"
#include "tools/terminal.h"

namespace stamp {
namespace {

constexpr const char* kFooter = R"(Tests:
  pp512        prefill of 512 tokens in tokens per second, the last one's logits included
  tg128        decode of 128 tokens, one by one
  tg128@2048   the same with 2048 tokens already in the cache
  tg128x8      decode of 128 tokens by each of 8 sequences that share forward passes, all together

Each round runs every test once, so that a slow spell of the machine touches all of them; the median counts.

Examples:
  stamp bench -m DIR
  stamp bench -m DIR --prefill 512,2048 --decode 128 --depth 0,2048 --repeat 9 --json bench.json
  stamp bench -m DIR --streams 1,4,8
  stamp bench -m DIR --verbose

--verbose runs every test again with a clock around each operation and prints, operation by operation, time, GB/s,
GOP/s and the share of the bound: of what the machine, measured just before, takes at least for the same bytes and
operations. The speeds above it are measured without the clock.

With --device-model, which needs no model directory: what a GPU takes at least, predicted from what the CUDA kernels
do and from published limits, beside FP16, W4A16 and W8A8. --prefill (2048) and --depth (8192) are its steps.
  stamp bench --device-model a100 --shape 8b)";

struct BenchFlags {
  EngineOptions engine;
  std::vector<int64_t> prefill{512, 2048}, decode{128}, depth{0, 2048}, streams;
  int64_t repeat = 5;
  bool verbose = false;
  std::string json;
  DeviceModelFlags predicted;
};

/// Reproducible ids that stay clear of the special tokens at the vocabulary's low end.
std::vector<int32_t> some_tokens(int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens;
  tokens.reserve(size_t(count));
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(int32_t(vocab / 4 + (i * 7919 + 104729) % (vocab / 2 + 1)));
  return tokens;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// One row of the result.
class Test {
 public:
  virtual ~Test() = default;
  virtual std::string name() const = 0;
  /// What comes before each run of work(), which returns the number of its tokens.
  virtual void prepare() = 0;
  virtual int64_t work() = 0;

  /// Tokens per second of one run.
  double run() {
    prepare();
    const auto start = std::chrono::steady_clock::now();
    const int64_t tokens = work();
    return double(tokens) / seconds_since(start);
  }

  const std::vector<double>& samples() const { return samples_; }
  double median() const {
    std::vector<double> sorted = samples_;
    std::sort(sorted.begin(), sorted.end());
    const size_t n = sorted.size();
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  }
  void record(double rate) { samples_.push_back(rate); }

 private:
  std::vector<double> samples_;
};

/// How fast `count` tokens pass after `depth` others.
class OneSequence : public Test {
 public:
  OneSequence(Engine& engine, bool decodes, int64_t count, int64_t depth)
      : session_(engine),
        decodes_(decodes),
        depth_(depth),
        tokens_(some_tokens(depth + count, engine.config().vocab_size)) {}

  std::string name() const override {
    return fmt::format("{}{}{}", decodes_ ? "tg" : "pp", int64_t(tokens_.size()) - depth_,
                       depth_ > 0 ? fmt::format("@{}", depth_) : "");
  }
  void prepare() override {
    session_.truncate(depth_);
    const size_t held = session_.tokens().size();  // fewer, where the last run has sealed the page
    if (held < size_t(depth_))
      session_.advance(std::span<const int32_t>(tokens_).first(size_t(depth_)).subspan(held));
  }
  int64_t work() override {
    // host() waits for a device.
    const auto rest = std::span<const int32_t>(tokens_).subspan(size_t(depth_));
    if (decodes_) {
      for (const int32_t& token : rest) session_.advance({&token, 1})->host();
    } else {
      session_.advance(rest)->host();
    }
    return int64_t(rest.size());
  }

 private:
  Session session_;
  bool decodes_;
  int64_t depth_;
  std::vector<int32_t> tokens_;
};

/// How fast some sequences decode `count` tokens each when one forward pass advances them all.
class Streams : public Test {
 public:
  Streams(Engine& engine, int64_t count, int64_t streams)
      : engine_(engine), count_(count), streams_(streams) {}

  std::string name() const override { return fmt::format("tg{}x{}", count_, streams_); }
  void prepare() override {
    batcher_.emplace(engine_, SchedulerOptions{.parallel = streams_, .prefix_cache = false});
    for (const int32_t token : some_tokens(streams_, engine_.config().vocab_size)) {
      ScheduledRequest request;
      request.generate = {.prompt = {token}, .max_tokens = count_ + 1, .ignore_eos = true};
      batcher_->add(
          std::make_unique<Batcher::Sequence>(engine_, std::move(request), [this](GenerateEvent event) {
            drawn_ += int64_t(event.tokens.size());
            error_ += event.error;
          }));
    }
    batcher_->step();  // the prompts
    drawn_ = 0;
  }
  int64_t work() override {
    while (batcher_->open() > 0) batcher_->step();
    batcher_.reset();
    if (!error_.empty()) throw Error(error_);
    return drawn_;
  }

 private:
  Engine& engine_;
  int64_t count_, streams_, drawn_ = 0;
  std::optional<Batcher> batcher_;
  std::string error_;
};

/// Every session keeps its pages, so the cache must hold all of them, each rounded up to whole pages, and
/// those of the most streams besides.
int64_t tokens_of_all(const BenchFlags& flags) {
  int64_t total = 0, streams = 0;
  for (int64_t n : flags.prefill) total += pages_for(n) * kBlock;
  for (int64_t n : flags.decode) {
    for (int64_t depth : flags.depth) total += pages_for(depth + n) * kBlock;
    for (int64_t s : flags.streams) streams = std::max(streams, s * pages_for(n + 2) * kBlock);
  }
  return total + streams;
}

/// Where the cache's bytes a token are told: the longest test, but 2048 tokens at least, since block 0 takes
/// more.
int64_t told_length(const BenchFlags& flags) {
  int64_t length = 2048;
  for (int64_t n : flags.decode)
    for (int64_t depth : flags.depth) length = std::max(length, depth + n);
  return length;
}

nlohmann::ordered_json to_json(Engine& engine, const std::vector<std::unique_ptr<Test>>& tests,
                               int64_t length) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& test : tests)
    rows.push_back({{"name", test->name()}, {"samples", test->samples()}, {"median", test->median()}});
  return {{"tests", rows},
          {"load_s", engine.load_seconds()},
          {"peak_rss_bytes", peak_rss_bytes()},
          {"weight_bytes", engine.weight_bytes()},
          {"kv_bytes_per_token", engine.cache().bytes_per_token(length)},
          {"recipe", engine.recipe().name},
          {"isa", engine.ops().name()},
          {"threads", engine.ops().threads()}};
}

/// All tests once more, `repeat` times, operation by operation.
Roofline measure_operations(Engine& engine, TimedOps& ops, const std::vector<std::unique_ptr<Test>>& tests,
                            int64_t repeat) {
  Roofline roofline(engine);
  Progress progress("operations");
  for (size_t i = 0; i < tests.size(); ++i) {
    double seconds = 0;
    for (int64_t round = 0; round < repeat; ++round) {
      tests[i]->prepare();
      ops.resume();
      const auto start = std::chrono::steady_clock::now();
      tests[i]->work();
      seconds += seconds_since(start);
      ops.stop();
    }
    roofline.add(tests[i]->name(), repeat, seconds, ops.take());
    progress.update(int64_t(i) + 1, int64_t(tests.size()), tests[i]->name());
  }
  return roofline;
}

int run(BenchFlags flags) {
  TimedOps* timed = nullptr;
  if (flags.verbose) {
    flags.engine.wrap_ops = [&](std::unique_ptr<Ops> ops) {
      if (&ops->memory() != &host_memory())
        throw InputError("--verbose: a device works on after a call returns; it is for the CPU alone");
      auto wrapped = std::make_unique<TimedOps>(std::move(ops));
      timed = wrapped.get();
      return wrapped;
    };
  }
  flags.engine.context = tokens_of_all(flags);
  if (flags.engine.context == 0) throw InputError("nothing to measure: give --prefill or --decode");
  Engine engine(flags.engine);
  std::vector<std::unique_ptr<Test>> tests;
  for (int64_t n : flags.prefill) tests.push_back(std::make_unique<OneSequence>(engine, false, n, 0));
  for (int64_t depth : flags.depth)
    for (int64_t n : flags.decode) tests.push_back(std::make_unique<OneSequence>(engine, true, n, depth));
  for (int64_t streams : flags.streams)
    for (int64_t n : flags.decode) tests.push_back(std::make_unique<Streams>(engine, n, streams));
  {
    Progress progress("bench");
    const int64_t runs = (flags.repeat + 1) * int64_t(tests.size());
    for (int64_t done = 0; done < runs; ++done) {
      Test& test = *tests[size_t(done) % tests.size()];
      const double rate = test.run();
      if (done >= int64_t(tests.size())) test.record(rate);  // the first round warms caches and clocks
      progress.update(done + 1, runs, test.name());
    }
  }
  print(fmt::format("| test | tok/s, median | min | max |\n|---|---:|---:|---:|\n"));
  for (const auto& test : tests) {
    const auto [low, high] = std::minmax_element(test->samples().begin(), test->samples().end());
    print(fmt::format("| {} | {:.1f} | {:.1f} | {:.1f} |\n", test->name(), test->median(), *low, *high));
  }
  const int64_t length = told_length(flags);
  fmt::print(
      stderr,
      "load {:.2f} s | weights {:.1f} MiB | cache {:.0f} bytes a token | peak memory {:.0f} MiB | {} x{}\n",
      engine.load_seconds(), double(engine.weight_bytes()) / 1048576.0,
      engine.cache().bytes_per_token(length), double(peak_rss_bytes()) / 1048576.0, engine.ops().name(),
      engine.ops().threads());
  nlohmann::ordered_json result = to_json(engine, tests, length);
  if (timed != nullptr) {
    const Roofline roofline = measure_operations(engine, *timed, tests, flags.repeat);
    print(roofline.text());
    result["roofline"] = roofline.json();
  }
  write_json(flags.json, result);
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* command = app.add_subcommand("bench", "Measure prefill and decode speed");
  command->footer(kFooter);
  add_model_flags(*command, flags->engine);
  CLI::Option* const model = command->get_option("--model")->required(false);
  const auto list = [&](const std::string& name, std::vector<int64_t>& values, int64_t low,
                        const std::string& help) {
    return add_flag_with_mirror(*command, name, values, help)
        ->delimiter(',')
        ->check(CLI::Range(low, int64_t{1} << 20))
        ->capture_default_str();
  };
  CLI::Option* const prefill = list("--prefill", flags->prefill, 1, "Prompt lengths");
  list("--decode", flags->decode, 1, "Numbers of tokens to decode");
  CLI::Option* const depth =
      list("--depth", flags->depth, 0, "Tokens already in the cache when decoding begins");
  list("--streams", flags->streams, 1, "Numbers of sequences that decode together");
  add_flag_with_mirror(*command, "--repeat", flags->repeat, "Rounds counted, after one that is not")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}))
      ->capture_default_str();
  add_switch_with_mirror(*command, "--verbose", flags->verbose, "Tell the time of every operation, too");
  add_flag_with_mirror(*command, "--json", flags->json, "Write samples and medians to this file");
  DeviceModelFlags& predicted = flags->predicted;
  CLI::Option* const device_model = add_flag_with_mirror(*command, "--device-model", predicted.machine,
                                                         "Predict instead of measuring: " + machine_names());
  add_flag_with_mirror(*command, "--shape", predicted.shapes, "Models to predict: " + shape_names())
      ->delimiter(',')
      ->needs(device_model);
  command->callback([flags, model, prefill, depth, &exit_code] {
    DeviceModelFlags& predicted = flags->predicted;
    if (predicted.machine.empty()) {
      if (model->count() == 0) throw CLI::RequiredError(model->get_name());
      exit_code = run(*flags);
      return;
    }
    if (!flags->engine.recipe.empty()) predicted.recipes = {flags->engine.recipe};
    if (prefill->count() > 0) predicted.prefill = flags->prefill;
    if (depth->count() > 0) predicted.depth = flags->depth;
    predicted.json = flags->json;
    exit_code = run_device_model(predicted);
  });
}

}  // namespace stamp
