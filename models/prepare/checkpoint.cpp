#include "models/prepare/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/error.h"
#include "models/file.h"
#include "models/json.h"
#include "models/nlohmann.h"
#include "models/sha256.h"

namespace stamp {
namespace {

constexpr uint64_t kMaxConfig = uint64_t{64} << 20;
constexpr const char* kCopied[] = {"generation_config.json", "tokenizer.json",      "tokenizer.model",
                                   "tokenizer_config.json",  "chat_template.jinja", "chat_template.json",
                                   "special_tokens_map.json"};

/// A tensor to be written; `data` must stay.
struct Entry {
  std::string name, dtype;
  std::vector<int64_t> shape;
  const void* data;
  int64_t bytes;
};

std::vector<Entry> entries_of(const ModelWeights& weights) {
  std::vector<Entry> entries;
  const auto floats = [&](const std::string& name, std::span<const float> x) {
    if (!x.empty()) entries.push_back({name, "F32", {int64_t(x.size())}, x.data(), int64_t(x.size_bytes())});
  };
  const auto matrix = [&](const std::string& name, const WeightView& w) {
    if (!is_quantised(w.dtype)) {
      const char* type = w.dtype == DType::kF32 ? "F32" : w.dtype == DType::kF16 ? "F16" : "BF16";
      entries.push_back({name + ".weight", type, {w.rows, w.cols}, w.data, w.bytes()});
      return;
    }
    entries.push_back(
        {name + ".weight_packed", "U8", {w.panels(), w.panel_bytes()}, w.data, w.panels() * w.panel_bytes()});
    entries.push_back({name + ".weight_scale", "F32", {w.panels(), kPanel}, w.scale, w.row_parameters() * 4});
    entries.push_back({name + ".weight_sum", "I32", {w.panels(), kPanel}, w.sum, w.row_parameters() * 4});
    if (w.dtype != DType::kQ4) return;
    entries.push_back({name + ".weight_group_scale",
                       "U8",
                       {w.panels(), w.groups(), kPanel},
                       w.group_scale,
                       w.group_parameters()});
    entries.push_back({name + ".weight_zero_point",
                       "U8",
                       {w.panels(), w.zero_groups(), kPanel},
                       w.zero,
                       w.zero_parameters()});
  };
  matrix("model.embed_tokens", weights.embedding);
  if (weights.lm_head.data != weights.embedding.data) matrix("lm_head", weights.lm_head);
  floats("model.norm.weight", weights.norm);
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    for_each_matrix(layer, [&](const char* name, const WeightView& w) { matrix(prefix + name, w); });
    floats(prefix + "input_layernorm.weight", layer.input_norm);
    floats(prefix + "post_attention_layernorm.weight", layer.post_attention_norm);
    floats(prefix + "self_attn.q_proj.bias", layer.q_bias);
    floats(prefix + "self_attn.k_proj.bias", layer.k_bias);
    floats(prefix + "self_attn.v_proj.bias", layer.v_bias);
    floats(prefix + "self_attn.o_proj.bias", layer.o_bias);
    floats(prefix + "mlp.gate_proj.bias", layer.gate_bias);
    floats(prefix + "mlp.up_proj.bias", layer.up_bias);
    floats(prefix + "mlp.down_proj.bias", layer.down_bias);
  }
  if (!weights.residual_rotation.empty()) {
    floats("residual_rotation.signs", weights.residual_rotation.view().signs);
    floats("residual_rotation.mix", weights.residual_rotation.view().mix);
  }
  return entries;
}

/// A file that is on disk when close() has returned.
class DurableFile {
 public:
  explicit DurableFile(const std::filesystem::path& path)
      : path_(path), file_(std::fopen(path.c_str(), "wb")) {
    if (file_ == nullptr) fail();
  }
  ~DurableFile() {
    if (file_ != nullptr) std::fclose(file_);
  }
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(const void* data, int64_t bytes) {
    if (std::fwrite(data, 1, size_t(bytes), file_) != size_t(bytes)) fail();
  }
  void close() {
    const bool flushed = std::fflush(file_) == 0 && fsync(fileno(file_)) == 0;
    const bool closed = std::fclose(std::exchange(file_, nullptr)) == 0;
    if (!flushed || !closed) fail();
  }

 private:
  [[noreturn]] void fail() const {
    throw Error(path_.string() + ": cannot be written: " + std::strerror(errno));
  }
  std::filesystem::path path_;
  std::FILE* file_;
};

void write_text(const std::filesystem::path& path, const std::string& text) {
  DurableFile file(path);
  file.write(text.data(), int64_t(text.size()));
  file.close();
}

void write_safetensors(const std::filesystem::path& path, const ModelWeights& weights) {
  const std::vector<Entry> entries = entries_of(weights);
  nlohmann::ordered_json header{{"__metadata__", {{"format", "stamp"}}}};
  int64_t at = 0;
  for (const Entry& e : entries) {
    header[e.name] = {{"dtype", e.dtype}, {"shape", e.shape}, {"data_offsets", {at, at + e.bytes}}};
    at += e.bytes;
  }
  std::string text = header.dump();
  text.resize(size_t(round_up(int64_t(text.size()) + 8, 64) - 8), ' ');
  DurableFile file(path);
  uint8_t length[8];
  for (int i = 0; i < 8; ++i) length[i] = uint8_t(uint64_t(text.size()) >> (8 * i));
  file.write(length, 8);
  file.write(text.data(), int64_t(text.size()));
  for (const Entry& e : entries) file.write(e.data, e.bytes);
  file.close();
}

void sync_directory(const std::filesystem::path& directory) {
  const int descriptor = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0 || fsync(descriptor) != 0) {
    if (descriptor >= 0) close(descriptor);
    throw Error(directory.string() + ": cannot be flushed to disk");
  }
  close(descriptor);
}

void write_files(const std::filesystem::path& directory, const std::filesystem::path& source,
                 const ModelWeights& weights, const Recipe& recipe) {
  write_safetensors(directory / "model.safetensors", weights);
  nlohmann::json config = read_json_file(source / "config.json");
  config["quantization_config"] = {{"quant_method", "stamp"},
                                   {"version", kQuantisedVersion},
                                   {"recipe", nlohmann::json::parse(recipe.to_json())}};
  write_text(directory / "config.json", config.dump(2) + "\n");
  for (const char* name : kCopied)
    if (is_present(source / name)) write_text(directory / name, read_file(source / name, kMaxConfig));
  nlohmann::ordered_json files;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    files[entry.path().filename().string()] = {{"bytes", entry.file_size()},
                                               {"sha256", sha256_file(entry.path())}};
  write_text(directory / "manifest.json", nlohmann::ordered_json{{"files", files}}.dump(2) + "\n");
  sync_directory(directory);
}

}  // namespace

void save_checkpoint(const std::filesystem::path& out, const std::filesystem::path& source,
                     const ModelWeights& weights, const Recipe& recipe) {
  if (is_present(out)) throw InputError(out.string() + ": exists already; give a new directory");
  const std::filesystem::path absolute = std::filesystem::absolute(out).lexically_normal();
  const std::filesystem::path target = absolute.has_filename() ? absolute : absolute.parent_path();
  const std::filesystem::path partial = target.string() + ".partial-" + std::to_string(getpid());
  std::error_code error;
  std::filesystem::create_directories(partial, error);
  if (error) throw Error(partial.string() + ": cannot be made: " + error.message());
  try {
    write_files(partial, source, weights, recipe);
    std::filesystem::rename(partial, target);
    sync_directory(target.parent_path());
  } catch (const std::filesystem::filesystem_error& e) {
    std::filesystem::remove_all(partial, error);
    throw Error(target.string() + ": cannot be written: " + e.code().message());
  } catch (...) {
    std::filesystem::remove_all(partial, error);
    throw;
  }
}

std::vector<std::string> verify_checkpoint(const std::filesystem::path& directory) {
  const auto file = directory / "manifest.json";
  const nlohmann::json manifest = read_json_file(file);
  const JsonFields fields(manifest, file.string());
  const nlohmann::json* files = fields.find("files");
  if (files == nullptr || !files->is_object()) fields.fail("files", "is missing");
  std::vector<std::string> problems;
  for (const auto& [name, entry] : files->items()) {
    if (name.empty() || name.find('/') != std::string::npos) fields.fail(name, "is no plain file name");
    const JsonFields expected(entry, file.string(), name + ".");
    std::error_code error;  // no regular file: no size
    if (!is_present(directory / name)) problems.push_back(name + ": is missing");
    else if (int64_t(std::filesystem::file_size(directory / name, error)) !=
             expected.integer("bytes", 0, INT64_MAX))
      problems.push_back(name + ": has another size than when it was written");
    else if (sha256_file(directory / name) != expected.string("sha256"))
      problems.push_back(name + ": was changed, its SHA-256 is another");
  }
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename();
    if (name != "manifest.json" && !files->contains(name))
      problems.push_back(name + ": is not in the manifest");
  }
  return problems;
}

}  // namespace stamp
