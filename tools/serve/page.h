#pragma once
#include <string>
#include <string_view>

namespace stamp {

/// The chat page that is served at "/": one HTML file (tools/serve/page.html) that loads nothing else and
/// talks to v1/models and v1/chat/completions beside it.
std::string_view chat_page();

/// The value of Content-Security-Policy to serve it with: its own style and script, by their hashes, requests
/// to its own server, nothing else.
std::string content_security_policy();

}  // namespace stamp
