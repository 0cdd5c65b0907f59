#include "engine/grammar/json_formats.h"

#include <string>

#include "engine/grammar/regex.h"
#include "kernels/error.h"

namespace stamp::grammar {
namespace {

/// RFC 3339's full-date: the days that the Gregorian calendar has, from year 1 on.
std::string date() {
  const std::string year = R"((000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3}))";
  const std::string leap_year = R"((\d\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00))";
  const std::string day =
      R"(((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8])))";
  return "(" + year + "-" + day + "|" + leap_year + "-02-29)";
}

/// Its full-time, without leap seconds.
std::string time() {
  return R"(([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+\-]([01]\d|2[0-3]):[0-5]\d))";
}

std::string pattern_of(std::string_view name) {
  const std::string byte = R"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d))";
  const std::string label = "[A-Za-z0-9]([A-Za-z0-9\\-]{0,61}[A-Za-z0-9])?";
  const std::string hostname = label + "(\\." + label + "){0,3}";  // at most 253 characters
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-]{1,15}";
  if (name == "date") return date();
  if (name == "time") return time();
  if (name == "date-time") return date() + "T" + time();
  if (name == "uuid") return "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
  if (name == "ipv4") return byte + "(\\." + byte + "){3}";
  if (name == "hostname") return hostname;
  if (name == "email")
    return atom + "(\\." + atom + "){0,3}@" + hostname;  // at most 64 characters before the @
  throw InputError("format '" + std::string(name) +
                   "' is not supported; date, time, date-time, uuid, ipv4, hostname and email are");
}

}  // namespace

Expression format_expression(std::string_view name) {
  return parse_regex(pattern_of(name), RegexMatch::kWhole);
}

}  // namespace stamp::grammar
