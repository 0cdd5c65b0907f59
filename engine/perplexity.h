#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/session.h"

namespace stamp {

/// How a text is cut into windows and which of their tokens are scored.
///   gptq       the whole text tokenised once without added specials; windows of `context` tokens that do not
///   overlap,
///              a last partial one dropped; every token but a window's first is scored.
///   strided    as Hugging Face's sliding window: windows of `context` tokens that begin `stride` apart, the
///   last one
///              partial; a window scores the tokens after the previous window's end.
///   llama.cpp  as llama.cpp's perplexity tool: tokenised with specials; windows as gptq, each first token
///   replaced by
///              BOS if the model adds one; scored are the tokens after position context / 2.
///   document   tokenised with specials; windows as gptq but the last partial one kept; each window after the
///   first
///              begins with the token before it, so that every token but the text's first is scored once.
enum class Protocol { kGptq, kStrided, kLlamaCpp, kDocument };

/// Throws InputError naming the choices.
Protocol parse_protocol(std::string_view name);
const char* protocol_name(Protocol protocol);

struct PerplexityOptions {
  Protocol protocol = Protocol::kGptq;
  int64_t context = 2048;
  int64_t stride = 0;              // strided alone; 0: half the context
  int64_t max_chunks = -1;         // -1: all
  std::filesystem::path resume{};  // state file: continued if it exists, written after each window
};

/// One window: tokens [begin, begin + length) of the text, of which those from index `first_scored` on are
/// scored, each predicted from the tokens before it in the window. first_scored >= 1.
struct Window {
  int64_t begin = 0, length = 0, first_scored = 1;
  bool operator==(const Window&) const = default;
};

/// The windows of a text of `tokens` tokens. Throws InputError if there is none.
std::vector<Window> plan_windows(const PerplexityOptions& options, int64_t tokens);

struct PerplexityResult {
  struct Chunk {
    double nll = 0;         // sum of -log p over the window's scored tokens, nats
    double nll_square = 0;  // sum of squares of the same
    int64_t tokens = 0;
    /// Adds tokens by their log p.
    void add(std::span<const float> logprobs);
  };
  std::vector<Chunk> chunks;
  int64_t tokens_scored = 0;
  double nll = 0;                // mean per token, nats
  double ppl = 0;                // exp(nll)
  double ppl_stderr = 0;         // ppl * standard error of nll (delta method)
  double bits_per_byte = 0;      // total nll in bits over the bytes of the scored tokens' text
  double seconds = 0;            // of this run, resumed windows not counted
  int64_t tokens_evaluated = 0;  // in this run
  bool bos = false;              // windows begin with BOS
  std::string text_sha256, tokenizer_sha256;

  /// Sums up the chunks; `bytes` is the length of the scored tokens' text.
  void summarise(int64_t bytes);
};

/// A text as one engine's tokens, and the windows of it to score. Throws InputError if there is none.
struct ScoringPlan {
  ScoringPlan(const Engine& engine, std::string_view text, const PerplexityOptions& options);

  /// With BOS in front where the protocol wants it there.
  std::vector<int32_t> window_tokens(size_t window) const;
  /// Length of the scored tokens' text.
  int64_t scored_bytes(size_t window) const;
  PerplexityResult empty_result() const;

  const Tokenizer& tokenizer;
  std::vector<int32_t> tokens;
  std::vector<Window> windows;
  bool bos = false;                      // windows begin with BOS
  std::optional<int32_t> replace_first;  // BOS, where it takes the place of each window's first token
  std::string text_sha256, tokenizer_sha256;
};

using PerplexityProgress = std::function<void(int64_t done, int64_t total, const PerplexityResult& so_far)>;

/// Scores a text. Throws InputError if it is too short for one window, or the resume state is another run's.
PerplexityResult perplexity(Engine& engine, std::string_view text, const PerplexityOptions& options,
                            const PerplexityProgress& progress);

}  // namespace stamp
