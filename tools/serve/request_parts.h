#pragma once
#include "tools/serve/request_fields.h"
#include "tools/serve/requests.h"

namespace stamp {

/// The body as a value. Throws ApiError 400 if it is not JSON.
nlohmann::ordered_json parse_body(std::string_view body);

/// Reads the fields of GenerationParams but logprobs, whose form differs between the two endpoints.
void read_generation_params(RequestFields& fields, int64_t vocab_size, GenerationParams& params);

/// messages, tools and template variables as chat templates expect them.
nlohmann::ordered_json read_messages(RequestFields& fields);
nlohmann::ordered_json read_tools(RequestFields& fields);
nlohmann::ordered_json read_template_variables(RequestFields& fields);

/// A list of token ids; `name` for messages.
std::vector<int32_t> read_token_ids(const nlohmann::ordered_json& list, const std::string& name,
                                    int64_t vocab_size);

}  // namespace stamp
