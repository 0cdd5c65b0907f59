#include "models/tokenizers/normalizers.h"

#include <vector>

#include "models/tokenizers/byte_level.h"
#include "models/tokenizers/components.h"
#include "models/tokenizers/pattern.h"
#include "models/tokenizers/pieces.h"
#include "models/tokenizers/unicode.h"
#include "models/utf8.h"

namespace stamp {
namespace {

class Sequence : public Normalizer {
 public:
  explicit Sequence(const JsonFields& fields) : steps_(parse_sequence<Normalizer>(fields, "normalizers")) {}
  void normalize(std::string& text, size_t limit) const override {
    for (const auto& step : steps_) {
      step->normalize(text, limit);
      check_length(text.size(), limit);
    }
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}
  void normalize(std::string& text, size_t) const override { text = normalize_unicode(text, form_); }

 private:
  NormalForm form_;
};

class Lowercase : public Normalizer {
 public:
  void normalize(std::string& text, size_t) const override { text = lowercase(text); }
};

class ByteLevel : public Normalizer {
 public:
  void normalize(std::string& text, size_t) const override {
    std::string out;
    append_byte_level(text, out);
    text = std::move(out);
  }
};

class Strip : public Normalizer {
 public:
  explicit Strip(const JsonFields& fields)
      : left_(required_boolean(fields, "strip_left")), right_(required_boolean(fields, "strip_right")) {}
  void normalize(std::string& text, size_t) const override {
    if (right_) text.resize(trim_end(text, text.size()));
    if (left_) text.erase(0, skip_white_space(text, 0));
  }

 private:
  bool left_, right_;
};

class Replace : public Normalizer {
 public:
  explicit Replace(const JsonFields& fields)
      : pattern_(fields), content_(required_string(fields, "content")) {}
  void normalize(std::string& text, size_t limit) const override {
    text = pattern_.replace(text, content_, limit);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(const JsonFields& fields) : text_(required_string(fields, "prepend")) {}
  void normalize(std::string& text, size_t) const override {
    if (!text.empty()) text.insert(0, text_);
  }

 private:
  std::string text_;
};

}  // namespace

std::unique_ptr<Normalizer> Normalizer::parse(const JsonFields& fields) {
  const std::string type = required_string(fields, "type");
  if (type == "Sequence") return std::make_unique<Sequence>(fields);
  if (type == "NFC") return std::make_unique<UnicodeForm>(NormalForm::kNfc);
  if (type == "NFD") return std::make_unique<UnicodeForm>(NormalForm::kNfd);
  if (type == "NFKC") return std::make_unique<UnicodeForm>(NormalForm::kNfkc);
  if (type == "NFKD") return std::make_unique<UnicodeForm>(NormalForm::kNfkd);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "Strip") return std::make_unique<Strip>(fields);
  if (type == "Replace") return std::make_unique<Replace>(fields);
  if (type == "Prepend") return std::make_unique<Prepend>(fields);
  fields.fail("type",
              "is " + type +
                  "; supported normalisers are Sequence, NFC, NFD, NFKC, NFKD, Lowercase, ByteLevel, Strip, "
                  "Replace and Prepend");
}

}  // namespace stamp
