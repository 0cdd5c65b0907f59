#include "models/json.h"

#include <cstdlib>

#include "kernels/error.h"

/// What is accepted means the same to nlohmann's own parser and survives being written and read again;
/// everything else is an InputError.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  nlohmann::json value;
  try {
    value = stamp::parse_json(text, "input.json");
  } catch (const stamp::InputError&) {
    return 0;
  }
  if (value != nlohmann::json::parse(text)) std::abort();
  if (value != stamp::parse_json(value.dump(), "again.json")) std::abort();
  return 0;
}
