#pragma once
#include <cstdint>
#include <vector>

#include "models/json.h"

namespace stamp {

/// What is put around a text's ids: TemplateProcessing's "single" template. ByteLevel, which only concerns
/// offsets, and Sequences of both are read too.
class PostProcessor {
 public:
  PostProcessor() = default;
  /// Throws InputError naming the file and an unknown type.
  explicit PostProcessor(const JsonFields& fields) { read(fields); }

  /// The ids with those of the template around them; without the template's own if not `add_special`.
  std::vector<int32_t> process(std::vector<int32_t> ids, bool add_special) const;

  /// All that it may add.
  std::vector<int32_t> own_ids() const { return process({}, true); }

 private:
  struct Part {
    bool text = false;         // the text's ids; else
    std::vector<int32_t> ids;  // the template's own
  };
  void read(const JsonFields& fields);
  void read_template(const JsonFields& fields);
  std::vector<Part> parts_;
  bool has_template_ = false;
};

}  // namespace stamp
