#define PCRE2_CODE_UNIT_WIDTH 8
#include "models/tokenizers/regex.h"

#include <pcre2.h>

#include "kernels/error.h"

namespace stamp {
namespace {

/// Where PCRE2 and Oniguruma differ: \s is White_Space there, while PCRE2 also counts U+180E.
std::string translate(const std::string& pattern) {
  constexpr std::string_view kSpaces =
      R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
  std::string out;
  int depth = 0;  // of character classes
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's') {
        out += depth > 0 ? std::string(kSpaces) : "[" + std::string(kSpaces) + "]";
      } else if (escaped == 'S' && depth == 0) {
        out += "[^" + std::string(kSpaces) + "]";
      } else {
        out += {c, escaped};
      }
      continue;
    }
    if (c == '[' && depth == 0) depth = 1;
    else if (c == ']' && depth > 0) depth = 0;
    out += c;
  }
  return out;
}

/// What a search needs, one per thread: only the range of the whole match is ever asked for.
struct MatchData {
  MatchData()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(32 << 10, 16 << 20, nullptr)) {
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchData() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  MatchData(const MatchData&) = delete;
  MatchData& operator=(const MatchData&) = delete;
  pcre2_match_data* data;
  pcre2_match_context* context;
  pcre2_jit_stack* stack;
};

}  // namespace

struct Regex::Code {
  ~Code() { pcre2_code_free(code); }
  pcre2_code* code = nullptr;
  std::string pattern;
};

Regex::Regex(const std::string& pattern, const std::string& file) : code_(std::make_unique<Code>()) {
  const std::string translated = translate(pattern);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->pattern = pattern;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (code_->code == nullptr) {
    PCRE2_UCHAR message[256];
    pcre2_get_error_message(error, message, sizeof(message));
    throw InputError(file + ": the regular expression " + pattern +
                     " cannot be used: " + reinterpret_cast<const char*>(message));
  }
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // where there is no JIT, matching is interpreted
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

bool Regex::find(std::string_view text, size_t at, size_t& begin, size_t& end) const {
  static thread_local const MatchData match;
  const int result = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                 PCRE2_NO_UTF_CHECK, match.data, match.context);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0)
    throw Error("the tokenizer's regular expression " + code_->pattern + " is too complex for this text");
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(match.data);
  begin = range[0];
  end = range[1];
  return true;
}

}  // namespace stamp
