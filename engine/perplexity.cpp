#include "engine/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>

#include "kernels/error.h"
#include "models/json.h"
#include "models/safetensors.h"
#include "models/sha256.h"

namespace stamp {
namespace {

constexpr std::pair<Protocol, const char*> kNames[] = {{Protocol::kGptq, "gptq"},
                                                       {Protocol::kStrided, "strided"},
                                                       {Protocol::kLlamaCpp, "llama.cpp"},
                                                       {Protocol::kDocument, "document"}};
constexpr int64_t kLogitRows = 128;  // rows of logits alive at once

bool adds_specials(Protocol protocol) {
  return protocol == Protocol::kLlamaCpp || protocol == Protocol::kDocument;
}

int64_t stride_of(const PerplexityOptions& options) {
  return options.stride > 0 ? options.stride : options.context / 2;
}

/// The state file: one JSON object, replaced as a whole after each window.
class ResumeState {
 public:
  ResumeState(std::filesystem::path path, nlohmann::json run)
      : path_(std::move(path)), run_(std::move(run)) {}

  std::vector<PerplexityResult::Chunk> load() const {
    std::vector<PerplexityResult::Chunk> chunks;
    if (path_.empty() || !std::filesystem::exists(path_)) return chunks;
    const nlohmann::json state = read_json_file(path_);
    try {
      if (state.at("run") != run_)
        throw InputError(path_.string() +
                         ": belongs to another run (model, text, recipe or protocol differ); " +
                         "delete it to start over");
      for (const auto& c : state.at("chunks"))
        chunks.push_back({c.at("nll"), c.at("nll_square"), c.at("tokens")});
    } catch (const nlohmann::json::exception&) {
      throw InputError(path_.string() + ": not a state file of stamp perplexity; delete it to start over");
    }
    return chunks;
  }

  void save(const std::vector<PerplexityResult::Chunk>& chunks) const {
    if (path_.empty()) return;
    nlohmann::json state{{"run", run_}, {"chunks", nlohmann::json::array()}};
    for (const auto& c : chunks)
      state["chunks"].push_back({{"nll", c.nll}, {"nll_square", c.nll_square}, {"tokens", c.tokens}});
    const std::filesystem::path next = path_.string() + ".new";
    std::ofstream out(next, std::ios::binary);
    out << state.dump(1) << '\n';
    out.close();
    std::error_code error;
    if (out) std::filesystem::rename(next, path_, error);
    if (!out || error) throw Error(path_.string() + ": cannot write the resume state");
  }

 private:
  std::filesystem::path path_;
  nlohmann::json run_;
};

/// Tells models of equal configuration apart without reading them whole: names and first bytes of all
/// tensors.
std::string weights_fingerprint(const std::filesystem::path& model) {
  const Safetensors files = Safetensors::open(model);
  std::string text;
  for (const auto& [name, tensor] : files.tensors()) {
    text += name + ' ' + tensor.dtype + ' ';
    text.append(reinterpret_cast<const char*>(tensor.data), std::min<uint64_t>(tensor.bytes, 4096));
  }
  return sha256_hex(text);
}

PerplexityResult::Chunk score(Session& session, std::span<const int32_t> tokens, int64_t first_scored) {
  PerplexityResult::Chunk chunk;
  session.truncate(0);
  std::vector<float> logprobs;
  // Row i predicts token i + 1; the last row predicts nothing.
  session.advance_all(tokens.first(tokens.size() - 1), first_scored - 1, kLogitRows,
                      [&](int64_t index, Mat<float> logits) {
                        logprobs.resize(size_t(logits.rows));
                        session.engine().ops().token_logprobs(
                            logprobs, logits, tokens.subspan(size_t(index + 1), size_t(logits.rows)));
                        for (float logprob : logprobs) {
                          chunk.nll -= double(logprob);
                          chunk.nll_square += double(logprob) * double(logprob);
                        }
                        chunk.tokens += logits.rows;
                      });
  return chunk;
}

void summarise(PerplexityResult& result, int64_t bytes) {
  double nll = 0, squares = 0;
  result.tokens_scored = 0;
  for (const auto& chunk : result.chunks) {
    nll += chunk.nll;
    squares += chunk.nll_square;
    result.tokens_scored += chunk.tokens;
  }
  const double n = double(result.tokens_scored);
  if (n == 0) return;
  result.nll = nll / n;
  result.ppl = std::exp(result.nll);
  const double variance = n > 1 ? std::max(0.0, squares / n - result.nll * result.nll) * n / (n - 1) : 0.0;
  result.ppl_stderr = result.ppl * std::sqrt(variance / n);
  result.bits_per_byte = bytes > 0 ? nll / std::log(2.0) / double(bytes) : 0.0;
}

}  // namespace

Protocol parse_protocol(std::string_view name) {
  for (const auto& [protocol, known] : kNames)
    if (name == known) return protocol;
  throw InputError("protocol " + std::string(name) +
                   ": unknown; choose gptq, strided, llama.cpp or document");
}

const char* protocol_name(Protocol protocol) {
  for (const auto& [known, name] : kNames)
    if (known == protocol) return name;
  return "";
}

std::vector<Window> plan_windows(const PerplexityOptions& options, int64_t tokens) {
  const int64_t context = options.context, stride = stride_of(options);
  const int64_t least = options.protocol == Protocol::kLlamaCpp ? 3 : 2;  // or no token of a window is scored
  if (context < least)
    throw InputError("context " + std::to_string(context) + ": must be at least " + std::to_string(least));
  if (options.stride < 0 || stride < 1 || stride > context)
    throw InputError("stride " + std::to_string(options.stride) + ": must be between 1 and the context");
  std::vector<Window> windows;
  switch (options.protocol) {
    case Protocol::kGptq:
    case Protocol::kLlamaCpp:
      for (int64_t begin = 0; begin + context <= tokens; begin += context)
        windows.push_back({begin, context, options.protocol == Protocol::kGptq ? 1 : context / 2 + 1});
      break;
    case Protocol::kStrided:
      for (int64_t begin = 0, scored = 1; scored < tokens; begin += stride) {
        const int64_t end = std::min(begin + context, tokens);
        const int64_t first = std::max<int64_t>(1, scored - begin);
        if (begin + first < end) windows.push_back({begin, end - begin, first});
        scored = std::max(scored, end);
      }
      break;
    case Protocol::kDocument:
      for (int64_t begin = 0; begin + 1 < tokens; begin += context - 1)
        windows.push_back({begin, std::min(context, tokens - begin), 1});
      break;
  }
  if (windows.empty())
    throw InputError("the text has " + std::to_string(tokens) + " tokens, too few for a window of " +
                     std::to_string(context) + "; lower --context");
  if (options.max_chunks >= 0 && options.max_chunks < int64_t(windows.size()))
    windows.resize(size_t(options.max_chunks));
  return windows;
}

PerplexityResult perplexity(Engine& engine, std::string_view text, const PerplexityOptions& options,
                            const PerplexityProgress& progress) {
  const Tokenizer& tokenizer = engine.tokenizer();
  std::vector<int32_t> tokens =
      tokenizer.encode(text, {.add_special = adds_specials(options.protocol), .parse_special = true});
  const auto bos = engine.config().bos_token_id;
  PerplexityResult result;
  result.bos = adds_specials(options.protocol) && bos && !tokens.empty() && tokens.front() == *bos;
  result.text_sha256 = sha256_hex(text);
  result.tokenizer_sha256 = sha256_file(tokenizer_file(engine.options().model));
  const std::vector<Window> windows = plan_windows(options, int64_t(tokens.size()));

  const ResumeState state(
      options.resume, {{"model", sha256_file(engine.options().model / "config.json")},
                       {"weights", options.resume.empty() ? "" : weights_fingerprint(engine.options().model)},
                       {"recipe", engine.recipe().to_json()},
                       {"ops", engine.ops().name()},
                       {"protocol", protocol_name(options.protocol)},
                       {"context", options.context},
                       {"stride", stride_of(options)},
                       {"text_sha256", result.text_sha256},
                       {"tokenizer_sha256", result.tokenizer_sha256}});
  result.chunks = state.load();
  if (result.chunks.size() > windows.size()) result.chunks.resize(windows.size());
  for (size_t i = 0; i < result.chunks.size(); ++i)
    if (result.chunks[i].tokens != windows[i].length - windows[i].first_scored)
      throw InputError(options.resume.string() +
                       ": its windows are not those of this run; delete it to start over");

  const auto start = std::chrono::steady_clock::now();
  Session session(engine);
  int64_t bytes = 0;
  for (size_t i = 0; i < windows.size(); ++i) {
    const Window& w = windows[i];
    std::vector<int32_t> window(tokens.begin() + w.begin, tokens.begin() + w.begin + w.length);
    bytes += int64_t(tokenizer.decode(std::span(window).subspan(size_t(w.first_scored)), false).size());
    if (options.protocol == Protocol::kLlamaCpp && result.bos) window.front() = *bos;
    if (i >= result.chunks.size()) {
      result.chunks.push_back(score(session, window, w.first_scored));
      result.tokens_evaluated += w.length;
      state.save(result.chunks);
    }
    summarise(result, bytes);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (progress) progress(int64_t(i + 1), int64_t(windows.size()), result);
  }
  return result;
}

}  // namespace stamp
