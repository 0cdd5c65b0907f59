#include "models/tokenizer.h"

#include "kernels/error.h"
#include "models/json.h"
#include "models/tokenizers/json_tokenizer.h"
#include "models/tokenizers/sentencepiece.h"

namespace stamp {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

}  // namespace

std::filesystem::path tokenizer_file(const std::filesystem::path& directory) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"})
    if (std::filesystem::exists(directory / name)) return directory / name;
  throw InputError(directory.string() + ": has neither tokenizer.json nor tokenizer.model");
}

std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& directory) {
  const std::filesystem::path file = tokenizer_file(directory);
  const std::string bytes = read_file(file, kMaxFileBytes);
  return file.extension() == ".json" ? parse_json_tokenizer(bytes, file.string())
                                     : parse_sentencepiece(bytes, file);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  const std::unique_ptr<Stream> stream = open_stream(skip_special);
  std::string text;
  for (const int32_t id : ids) text += stream->push(id);
  return text += stream->finish();
}

}  // namespace stamp
