#include "tools/serve/prepared.h"

#include <fmt/format.h>
#include <openssl/rand.h>

#include "engine/grammar/constrain.h"
#include "kernels/error.h"
#include "models/json.h"
#include "models/sha256.h"
#include "tools/serve/api_error.h"

namespace stamp {
namespace {

uint64_t random_seed() {
  uint64_t seed = 0;
  if (RAND_bytes(reinterpret_cast<unsigned char*>(&seed), sizeof(seed)) != 1)
    throw Error("no random numbers from OpenSSL");
  return seed;
}

void check_prompt(const std::vector<int32_t>& prompt, const ServedModel& model, const char* param) {
  if (prompt.empty())
    throw ApiError(400, std::string(param) + " is empty: there is nothing to continue", param);
  if (int64_t(prompt.size()) > model.engine.context())
    throw ApiError(
        400,
        fmt::format("the context holds {} tokens, the prompt has {}", model.engine.context(), prompt.size()),
        param, "context_length_exceeded");
}

std::string render(const ChatTemplate::Inputs& inputs, const ServedModel& model) {
  const ChatTemplate* chat = model.engine.chat_template();
  if (chat == nullptr)
    throw ApiError(400, "the model has no chat template; use /v1/completions", "messages",
                   "no_chat_template");
  try {
    return chat->render(inputs);
  } catch (const InputError& e) {
    throw ApiError(400, std::string("the model's chat template refuses this conversation: ") + e.what(),
                   "messages");
  }
}

std::unique_ptr<TokenConstraint> make_constraint(const ResponseFormat& format,
                                                 const TokenVocabulary& vocabulary) {
  switch (format.kind) {
    case ResponseFormat::Kind::kText:
      break;
    case ResponseFormat::Kind::kJsonObject:
      return constrain_to_json_object(vocabulary);
    case ResponseFormat::Kind::kJsonSchema:
      return constrain_to_json_schema(vocabulary, format.schema);
    case ResponseFormat::Kind::kRegex:
      return constrain_to_regex(vocabulary, format.regex);
  }
  return nullptr;
}

/// From the model's cache, or made now. `source` says all that `make` depends on, `param` where it came from.
std::unique_ptr<TokenConstraint> constraint_from(
    const ServedModel& model, const std::string& source, const char* param,
    const std::function<std::unique_ptr<TokenConstraint>()>& make) {
  try {
    return model.constraints.get(source, make);
  } catch (const InputError& e) {
    throw ApiError(400, e.what(), param);
  }
}

std::unique_ptr<TokenConstraint> constrain(const ResponseFormat& format, const ServedModel& model) {
  if (format.kind == ResponseFormat::Kind::kText) return nullptr;
  const bool regex = format.kind == ResponseFormat::Kind::kRegex;
  return constraint_from(
      model, fmt::format("{} {}", int(format.kind), regex ? format.regex : format.schema.dump()),
      regex ? "guided_regex" : "response_format", [&] { return make_constraint(format, model.vocabulary); });
}

/// What both kinds have in common.
Prepared prepare(const GenerationParams& params, const ServedModel& model) {
  check_model(params.model, model);
  Prepared prepared;
  prepared.params = params;
  prepared.sampling = params.sampling.resolve(model.engine.generation_config());
  prepared.sampling.seed = params.seed ? *params.seed : random_seed();
  prepared.per_prompt = params.n;
  prepared.max_tokens = params.max_tokens.value_or(model.engine.context());
  prepared.top_logprobs = params.top_logprobs;
  prepared.constraint = constrain(params.format, model);
  if (prepared.constraint && params.ignore_eos)
    throw ApiError(400, "ignore_eos and a form that the text must have exclude each other", "ignore_eos");
  return prepared;
}

bool forces_call(const ToolChoice& choice) {
  return choice.kind == ToolChoice::Kind::kRequired || choice.kind == ToolChoice::Kind::kNamed;
}

/// Where the model may call tools: how it writes that, and what it may write if it must.
void prepare_tools(const ChatRequest& request, const ServedModel& model, Prepared& prepared) {
  const ChatTemplate* chat = model.engine.chat_template();
  prepared.tool_form = chat == nullptr ? std::nullopt : tool_form(chat->source(true));
  if (!prepared.tool_form)
    throw ApiError(400, "the model's chat template has no form for calling tools; set tool_choice to none",
                   "tools");
  prepared.parallel_tool_calls = request.parallel_tool_calls;
  for (const auto& tool : request.tools) prepared.tool_names.push_back(tool["function"]["name"]);
  if (!forces_call(request.tool_choice)) return;
  if (prepared.params.ignore_eos)
    throw ApiError(400, "ignore_eos and a forced call exclude each other", "ignore_eos");
  const ToolDemand demand{.name = request.tool_choice.name, .parallel = request.parallel_tool_calls};
  prepared.constraint = constraint_from(
      model, fmt::format("tools {} {} {}", demand.name, demand.parallel, request.tools.dump()), "tools",
      [&] { return constrain_to_tool_calls(model.vocabulary, *prepared.tool_form, request.tools, demand); });
}

}  // namespace

void check_model(const std::string& asked, const ServedModel& model) {
  if (!asked.empty() && asked != model.name)
    throw ApiError(
        404, "the model \"" + printable(asked) + "\" is not served here; this is \"" + model.name + "\"",
        "model", "model_not_found");
}

ScheduledRequest Prepared::make(size_t index) const {
  const size_t prompt = index / size_t(per_prompt);
  ScheduledRequest request;
  request.generate = {.prompt = prompts[prompt],
                      .max_tokens = max_tokens,
                      .sampling = sampling,
                      .stops = params.stops,
                      .ignore_eos = params.ignore_eos};
  request.generate.sampling.seed += index % size_t(per_prompt);
  request.top_logprobs = top_logprobs;
  request.prompt_logprobs = !echo.empty() && top_logprobs >= 0;
  if (constraint) request.constraint = constraint->clone();
  return request;
}

std::string Prepared::affinity() const {
  const auto& prompt = prompts.front();
  const size_t tokens = std::min(prompt.size(), size_t(kBlock));
  return sha256_hex({reinterpret_cast<const char*>(prompt.data()), tokens * sizeof(int32_t)}).substr(0, 16);
}

Prepared prepare_chat(const ChatRequest& request, const ServedModel& model) {
  Prepared prepared = prepare(request.params, model);
  ChatTemplate::Inputs inputs;
  inputs.messages = request.messages;
  inputs.extra = request.template_variables;
  if (request.tool_choice.kind != ToolChoice::Kind::kNone && !request.tools.is_null()) {
    inputs.tools = request.tools;
    prepare_tools(request, model, prepared);
  }
  std::string text = render(inputs, model);
  if (forces_call(request.tool_choice)) text += tool_opening(*prepared.tool_form);
  prepared.prompts = {model.tokenizer().encode(text, {.add_special = false, .parse_special = true})};
  check_prompt(prepared.prompts.front(), model, "messages");
  return prepared;
}

Prepared prepare_completion(CompletionRequest request, const ServedModel& model) {
  Prepared prepared = prepare(request.params, model);
  prepared.per_prompt = request.best_of;
  if (request.best_of > request.params.n) prepared.top_logprobs = std::max(0, prepared.top_logprobs);
  prepared.prompts = std::move(request.token_lists);
  for (const std::string& text : request.texts)
    prepared.prompts.push_back(model.tokenizer().encode(text, {.add_special = true, .parse_special = true}));
  for (const auto& prompt : prepared.prompts) check_prompt(prompt, model, "prompt");
  if (request.echo) {
    prepared.echo = std::move(request.texts);
    if (prepared.echo.empty())
      for (const auto& prompt : prepared.prompts)
        prepared.echo.push_back(model.tokenizer().decode(prompt, false));
  }
  return prepared;
}

std::vector<int32_t> encode_for_client(const TokenizeRequest& request, const ServedModel& model) {
  check_model(request.model, model);
  if (request.prompt)
    return model.tokenizer().encode(
        *request.prompt, {.add_special = request.add_special_tokens.value_or(true), .parse_special = true});
  ChatTemplate::Inputs inputs{.messages = request.messages,
                              .tools = request.tools,
                              .extra = request.template_variables,
                              .add_generation_prompt = request.add_generation_prompt,
                              .now = {}};
  return model.tokenizer().encode(
      render(inputs, model),
      {.add_special = request.add_special_tokens.value_or(false), .parse_special = true});
}

}  // namespace stamp
