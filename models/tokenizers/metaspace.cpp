#include "models/tokenizers/metaspace.h"

#include "models/tokenizers/components.h"
#include "models/utf8.h"

namespace stamp {

Metaspace::Metaspace(const JsonFields& fields) : split(fields.boolean("split").value_or(true)) {
  append_utf8(mark, required_character(fields, "replacement"));
  const std::string scheme = fields.string("prepend_scheme").value_or("always");
  if (scheme == "always") prepend = Prepend::kAlways;
  else if (scheme == "first") prepend = Prepend::kFirst;
  else if (scheme == "never") prepend = Prepend::kNever;
  else fields.fail("prepend_scheme", "is " + scheme + "; supported are always, first and never");
  if (!fields.boolean("add_prefix_space").value_or(true)) {  // as older files say it
    if (prepend != Prepend::kNever) fields.fail("add_prefix_space", "contradicts prepend_scheme");
  }
}

}  // namespace stamp
