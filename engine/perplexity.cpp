#include "engine/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>

#include "kernels/error.h"
#include "models/json.h"
#include "models/sha256.h"

namespace stamp {
namespace {

constexpr std::pair<Protocol, const char*> kNames[] = {{Protocol::kGptq, "gptq"},
                                                       {Protocol::kStrided, "strided"},
                                                       {Protocol::kLlamaCpp, "llama.cpp"},
                                                       {Protocol::kDocument, "document"}};
constexpr int64_t kLogitRows = 256;  // rows of logits alive at once

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

PerplexityResult::Chunk score(Session& session, std::span<const int32_t> tokens, int64_t first_scored) {
  PerplexityResult::Chunk chunk;
  session.truncate(0);
  std::vector<float> logprobs;
  // Row i predicts token i + 1; the last row predicts nothing.
  session.advance_all(tokens.first(tokens.size() - 1), first_scored - 1, kLogitRows,
                      [&](int64_t index, Logits& logits) {
                        const auto targets = tokens.subspan(size_t(index + 1), size_t(logits.rows()));
                        logprobs.resize(targets.size());
                        logits.logprobs(logprobs, targets);
                        chunk.add(logprobs);
                      });
  return chunk;
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

void PerplexityResult::Chunk::add(std::span<const float> logprobs) {
  for (float logprob : logprobs) {
    nll -= double(logprob);
    nll_square += double(logprob) * double(logprob);
  }
  tokens += int64_t(logprobs.size());
}

void PerplexityResult::summarise(int64_t bytes) {
  double sum = 0, squares = 0;
  tokens_scored = 0;
  for (const Chunk& chunk : chunks) {
    sum += chunk.nll;
    squares += chunk.nll_square;
    tokens_scored += chunk.tokens;
  }
  const double n = double(tokens_scored);
  if (n == 0) return;
  nll = sum / n;
  ppl = std::exp(nll);
  const double variance = n > 1 ? std::max(0.0, squares / n - nll * nll) * n / (n - 1) : 0.0;
  ppl_stderr = ppl * std::sqrt(variance / n);
  bits_per_byte = bytes > 0 ? sum / std::log(2.0) / double(bytes) : 0.0;
}

ScoringPlan::ScoringPlan(const Engine& engine, std::string_view text, const PerplexityOptions& options)
    : tokenizer(engine.tokenizer()),
      tokens(tokenizer.encode(text, {.add_special = adds_specials(options.protocol), .parse_special = true})),
      windows(plan_windows(options, int64_t(tokens.size()))),
      text_sha256(sha256_hex(text)),
      tokenizer_sha256(sha256_file(tokenizer_file(engine.options().model))) {
  const auto id = engine.config().bos_token_id;
  bos = adds_specials(options.protocol) && id && !tokens.empty() && tokens.front() == *id;
  if (bos && options.protocol == Protocol::kLlamaCpp) replace_first = id;
}

std::vector<int32_t> ScoringPlan::window_tokens(size_t window) const {
  const auto begin = tokens.begin() + windows[window].begin;
  std::vector<int32_t> ids(begin, begin + windows[window].length);
  if (replace_first) ids.front() = *replace_first;
  return ids;
}

int64_t ScoringPlan::scored_bytes(size_t window) const {
  const Window& w = windows[window];
  const auto scored =
      std::span(tokens).subspan(size_t(w.begin + w.first_scored), size_t(w.length - w.first_scored));
  return int64_t(tokenizer.decode(scored, false).size());
}

PerplexityResult ScoringPlan::empty_result() const {
  PerplexityResult result;
  result.bos = bos;
  result.text_sha256 = text_sha256;
  result.tokenizer_sha256 = tokenizer_sha256;
  return result;
}

PerplexityResult perplexity(Engine& engine, std::string_view text, const PerplexityOptions& options,
                            const PerplexityProgress& progress) {
  const ScoringPlan plan(engine, text, options);
  const std::vector<Window>& windows = plan.windows;
  PerplexityResult result = plan.empty_result();

  const ResumeState state(options.resume, {{"engine", options.resume.empty() ? "" : engine.fingerprint()},
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
    bytes += plan.scored_bytes(i);
    if (i >= result.chunks.size()) {
      result.chunks.push_back(score(session, plan.window_tokens(i), windows[i].first_scored));
      result.tokens_evaluated += windows[i].length;
      state.save(result.chunks);
    }
    result.summarise(bytes);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (progress) progress(int64_t(i + 1), int64_t(windows.size()), result);
  }
  return result;
}

}  // namespace stamp
