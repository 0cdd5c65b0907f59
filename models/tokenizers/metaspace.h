#pragma once
#include <string>

#include "models/json.h"

namespace stamp {

/// The fields of a Metaspace component, pre-tokeniser and decoder: spaces are written as a visible character.
struct Metaspace {
  enum class Prepend { kAlways, kFirst, kNever };

  explicit Metaspace(const JsonFields& fields);

  std::string mark;  // one character
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};

}  // namespace stamp
