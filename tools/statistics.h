#pragma once

#include "engine/generate.h"
#include "models/nlohmann.h"

namespace stamp {

/// One line on stderr: load time, time to first token, prefill and decode speed, peak memory.
void print_statistics(Engine& engine, const GenerateResult& result);
nlohmann::ordered_json statistics_json(Engine& engine, const GenerateResult& result);

/// Tokens a second of the prompt's new tokens, and of the generated ones after the first.
double prefill_rate(const GenerateResult& result);
double decode_rate(const GenerateResult& result);

}  // namespace stamp
