#pragma once
#include "engine/tool_calls.h"
#include "tools/serve/requests.h"
#include "tools/serve/served_model.h"

namespace stamp {

/// A request that is ready for the scheduler: everything is validated.
struct Prepared {
  GenerationParams params{};
  SamplingParams sampling{};
  std::vector<std::vector<int32_t>> prompts{};
  std::vector<std::string> echo{};  // the prompts' texts, if they are to be repeated
  int64_t per_prompt = 1;           // sequences
  int64_t max_tokens = 0;
  int top_logprobs = -1;
  std::unique_ptr<TokenConstraint> constraint{};  // null: anything
  std::optional<ToolForm> tool_form{};            // how calls are written, where the model may make any
  std::vector<std::string> tool_names{};
  bool parallel_tool_calls = true;

  size_t sequences() const { return prompts.size() * size_t(per_prompt); }
  /// The sequence of that index: those of the first prompt come first.
  ScheduledRequest make(size_t index) const;
  /// Of the prompts' first blocks: requests with equal ones share pages of the prefix cache.
  std::string affinity() const;
};

/// Each throws ApiError for what cannot be answered by this model.
Prepared prepare_chat(const ChatRequest& request, const ServedModel& model);
Prepared prepare_completion(CompletionRequest request, const ServedModel& model);
std::vector<int32_t> encode_for_client(const TokenizeRequest& request, const ServedModel& model);

/// Throws ApiError 404 unless `asked` is empty or the model's name.
void check_model(const std::string& asked, const ServedModel& model);

}  // namespace stamp
