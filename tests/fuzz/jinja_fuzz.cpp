#include "kernels/error.h"
#include "models/jinja/template.h"

/// A template renders or is refused with an InputError, within its limits.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto variables = nlohmann::ordered_json::parse(R"({
      "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true, "n": 3, "x": 2.5, "s": "a b\né 🙂", "l": [3, 1, "2", null],
      "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "<think>t</think> hi "},
                   {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": [1, {"b": 2}]}}}]},
                   {"role": "tool", "content": "r"}],
      "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}}]})");
  const stamp::jinja::Limits limits{.work = 20000, .memory = 1 << 20, .output = 1 << 16};
  const stamp::jinja::Template text(std::string(reinterpret_cast<const char*>(data), size), "input");
  try {
    text.render(variables, {}, limits);
  } catch (const stamp::InputError&) {
  }
  return 0;
}
