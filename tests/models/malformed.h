#pragma once
#include <filesystem>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "models/nlohmann.h"
#include "tests/tiny_model.h"

/// Model directories with one thing wrong each, by file: every case starts from a good directory and damages
/// it.
namespace stamp::malformed {

using std::filesystem::path;
using Json = nlohmann::ordered_json;

struct Case {
  std::string name;                         // letters and digits
  std::function<void(const path&)> damage;  // of a good model directory
  std::string file;                         // that the message must name
  std::string word;                         // that the message must contain: what is wrong
};
inline void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }  // for GoogleTest

/// Writes `file` anew after `change` of what it holds.
inline void edit_json(const path& file, const std::function<void(Json&)>& change) {
  Json json = Json::parse(slurp(file));
  change(json);
  write_file(file, json.dump());
}

/// A case that merges a JSON object into the file's; null removes a field.
inline Case merged(std::string name, std::string file, std::string patch, std::string word) {
  return {std::move(name),
          [file, patch](const path& dir) {
            edit_json(dir / file, [&](Json& json) { json.merge_patch(Json::parse(patch)); });
          },
          file, std::move(word)};
}

/// A case whose file has just these bytes.
inline Case replaced(std::string name, std::string file, std::string bytes, std::string word) {
  return {std::move(name), [file, bytes](const path& dir) { write_file(dir / file, bytes); }, file,
          std::move(word)};
}

}  // namespace stamp::malformed
