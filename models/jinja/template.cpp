#include "models/jinja/template.h"

#include "kernels/error.h"
#include "models/jinja/ast.h"
#include "models/jinja/interpreter.h"
#include "models/utf8.h"

namespace stamp::jinja {
namespace {

constexpr size_t kMaxSource = size_t{4} << 20;

}  // namespace

Template::Template(std::string source, std::string name)
    : source_(std::make_unique<const std::string>(to_valid_utf8(source))), name_(std::move(name)) {
  if (source_->size() > kMaxSource) {
    error_ = name_ + ": is longer than the limit of " + std::to_string(kMaxSource) + " bytes";
    return;
  }
  try {
    ast_ = parse(*source_);
  } catch (const SyntaxError& e) {
    error_ = name_ + ": line " + std::to_string(e.line) + ": " + e.what();
  }
}

Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

std::string Template::render(const nlohmann::ordered_json& variables,
                             std::chrono::system_clock::time_point now, const Limits& limits) const {
  if (ast_ == nullptr) throw InputError(error_);
  Interpreter interpreter(limits, now);
  try {
    return interpreter.run(*ast_, variables);
  } catch (const Failure& e) {
    throw InputError(name_ + ": line " + std::to_string(interpreter.line()) + ": " + e.what());
  }
}

}  // namespace stamp::jinja
