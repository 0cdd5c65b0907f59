// Renders templates for the Python tests: one JSON object per line in, one per line out.
//   {"template": TEXT, "variables": {...}, "now": SECONDS}
//   {"directory": DIR, "messages": [...], "tools": ..., "extra": ..., "add_generation_prompt": BOOL, "now":
//   SECONDS}
// gives {"text": TEXT} or {"error": MESSAGE}.
#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>

#include "kernels/error.h"
#include "models/chat_template.h"

namespace {

using Json = nlohmann::ordered_json;

std::string render(const Json& request) {
  const std::chrono::system_clock::time_point now{std::chrono::seconds(request.value("now", int64_t{0}))};
  if (request.contains("template"))
    return stamp::jinja::Template(request["template"], "template").render(request["variables"], now);
  const auto chat = stamp::ChatTemplate::load(request["directory"].get<std::string>());
  if (!chat) throw stamp::InputError("no template");
  stamp::ChatTemplate::Inputs inputs;
  inputs.messages = request["messages"];
  inputs.tools = request.value("tools", Json());
  inputs.extra = request.value("extra", Json());
  inputs.add_generation_prompt = request.value("add_generation_prompt", true);
  inputs.now = now;
  return chat->render(inputs);
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    Json answer;
    try {
      answer["text"] = render(Json::parse(line));
    } catch (const stamp::InputError& e) {
      answer["error"] = e.what();
    }
    std::cout << answer.dump() << '\n';
  }
  return 0;
}
