#include "models/safetensors.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "kernels/error.h"
#include "models/json.h"

namespace stamp {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the reference implementation

struct DTypeSize {
  const char* name;
  uint64_t bytes;
};
constexpr DTypeSize kDTypes[] = {{"F64", 8}, {"F32", 4}, {"F16", 2},     {"BF16", 2},    {"I64", 8},
                                 {"I32", 4}, {"I16", 2}, {"I8", 1},      {"U64", 8},     {"U32", 4},
                                 {"U16", 2}, {"U8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"BOOL", 1}};

[[noreturn]] void fail(const std::string& file, const std::string& message) {
  throw InputError(file + ": " + printable(message));
}

uint64_t unsigned_of(const nlohmann::json& value, const std::string& file, const std::string& what) {
  if (!value.is_number_unsigned()) fail(file, what + " must be a whole number that is not negative");
  return value.get<uint64_t>();
}

/// Header length: the first eight bytes, little-endian.
uint64_t header_length(std::span<const std::byte> bytes, const std::string& file) {
  if (bytes.size() < 8) fail(file, "too short for a safetensors header; the download may be incomplete");
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | uint64_t(bytes[size_t(i)]);
  if (length > kMaxHeader)
    fail(file, "header of " + std::to_string(length) +
                   " bytes exceeds the limit of 100 MB; not a safetensors file?");
  if (length > bytes.size() - 8)
    fail(file, "header of " + std::to_string(length) +
                   " bytes does not fit the file; the download may be incomplete");
  return length;
}

TensorInfo parse_tensor(const std::string& name, const nlohmann::json& entry, std::span<const std::byte> data,
                        const std::string& file) {
  const std::string what = "tensor \"" + name + "\"";
  if (!entry.is_object()) fail(file, what + " is not an object");
  for (const auto& [key, value] : entry.items())
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      fail(file, what + " has the unknown field " + key);
  if (!entry.contains("dtype") || !entry["dtype"].is_string()) fail(file, what + " has no dtype");
  if (!entry.contains("shape") || !entry["shape"].is_array()) fail(file, what + " has no shape");
  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2)
    fail(file, what + " has no pair of data_offsets");

  TensorInfo tensor{.name = name, .file = file, .dtype = entry["dtype"], .shape = {}};
  const auto* dtype = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                   [&](const DTypeSize& d) { return tensor.dtype == d.name; });
  if (dtype == std::end(kDTypes)) fail(file, what + " has the unknown dtype " + tensor.dtype);
  uint64_t size = dtype->bytes;
  for (const auto& dimension : entry["shape"]) {
    const uint64_t n = unsigned_of(dimension, file, what + ": a dimension");
    if (n > uint64_t(INT64_MAX) || __builtin_mul_overflow(size, n, &size))
      fail(file, what + ": its shape overflows 64 bits");
    tensor.shape.push_back(int64_t(n));
  }
  const uint64_t begin = unsigned_of((*offsets)[0], file, what + ": data_offsets");
  const uint64_t end = unsigned_of((*offsets)[1], file, what + ": data_offsets");
  if (begin > end || end > data.size())
    fail(file, what + ": data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) +
                   ") are not within the file's " + std::to_string(data.size()) +
                   " bytes of data; the download may be incomplete");
  if (end - begin != size)
    fail(file, what + ": shape and dtype need " + std::to_string(size) + " bytes, data_offsets span " +
                   std::to_string(end - begin));
  tensor.data = data.data() + begin;
  tensor.bytes = size;
  if (reinterpret_cast<uintptr_t>(tensor.data) % dtype->bytes != 0)
    fail(file, what + " is not aligned to its dtype");
  return tensor;
}

/// Tensors in order of their data must follow each other without gap or overlap, from the header to the end.
void check_tiling(std::vector<TensorInfo>& tensors, std::span<const std::byte> data,
                  const std::string& file) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.data != b.data ? a.data < b.data : a.bytes < b.bytes;
  });
  const std::byte* at = data.data();
  for (const TensorInfo& tensor : tensors) {
    if (tensor.data < at) fail(file, "tensor \"" + tensor.name + "\" overlaps another");
    if (tensor.data > at) fail(file, "there is a hole before tensor \"" + tensor.name + "\"");
    at += tensor.bytes;
  }
  if (at != data.data() + data.size()) fail(file, "there are bytes after the last tensor");
}

/// Shards live beside the index; a name that leads elsewhere is refused.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

}  // namespace

int64_t TensorInfo::elements() const {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

DType TensorInfo::weight_dtype() const {
  if (dtype == "F32") return DType::kF32;
  if (dtype == "F16") return DType::kF16;
  if (dtype == "BF16") return DType::kBF16;
  fail(file, "tensor \"" + name + "\" has dtype " + dtype + "; weights must be F32, F16 or BF16");
}

std::vector<TensorInfo> parse_safetensors(std::span<const std::byte> bytes, const std::string& file) {
  const uint64_t length = header_length(bytes, file);
  const std::span<const std::byte> data = bytes.subspan(8 + length);
  const nlohmann::json header = parse_json({reinterpret_cast<const char*>(bytes.data()) + 8, length}, file);
  if (!header.is_object()) fail(file, "the header is not a JSON object");
  std::vector<TensorInfo> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      tensors.push_back(parse_tensor(name, entry, data, file));
      continue;
    }
    if (!entry.is_object()) fail(file, "__metadata__ is not an object");
    for (const auto& [key, value] : entry.items())
      if (!value.is_string()) fail(file, "__metadata__ \"" + key + "\" is not a string");
  }
  check_tiling(tensors, data, file);
  return tensors;
}

Safetensors Safetensors::open(const std::filesystem::path& directory) {
  Safetensors all;
  all.directory_ = directory.string();
  const auto single = directory / "model.safetensors", index = directory / "model.safetensors.index.json";
  if (is_present(single)) {
    all.add_file(single);
  } else if (is_present(index)) {
    all.add_shards(index);
  } else {
    throw InputError(all.directory_ + ": has neither model.safetensors nor model.safetensors.index.json");
  }
  return all;
}

void Safetensors::add_file(const std::filesystem::path& path) {
  const std::string file = path.string();
  const std::span<const std::byte> bytes = files_.emplace_back(path).bytes();
  for (TensorInfo& tensor : parse_safetensors(bytes, file)) {
    const auto [it, added] = tensors_.try_emplace(tensor.name, tensor);
    if (!added) fail(file, "tensor \"" + tensor.name + "\" is also in " + it->second.file);
  }
  file_bytes_ += bytes.size();
}

void Safetensors::add_shards(const std::filesystem::path& path) {
  const std::string file = path.string();
  const nlohmann::json index = read_json_file(path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    fail(file, "has no weight_map");
  const nlohmann::json& weight_map = index["weight_map"];
  std::set<std::string> shards;
  for (const auto& [name, shard] : weight_map.items()) {
    if (!shard.is_string() || !is_plain_name(shard.get<std::string>()))
      fail(file, "tensor \"" + name + "\": the shard must be a plain file name in the same directory");
    shards.insert(shard.get<std::string>());
  }
  if (shards.empty()) fail(file, "weight_map is empty");
  for (const std::string& shard : shards) add_file(path.parent_path() / shard);
  for (const auto& [name, shard] : weight_map.items()) {
    const TensorInfo* tensor = find(name);
    if (tensor == nullptr || std::filesystem::path(tensor->file).filename() != shard.get<std::string>())
      fail(file, "tensor \"" + name + "\" is not in " + shard.get<std::string>());
  }
  uint64_t total = 0;
  for (const auto& [name, tensor] : tensors_) {
    if (!weight_map.contains(name)) fail(file, "does not name the tensor \"" + name + "\" of " + tensor.file);
    total += tensor.bytes;
  }
  const auto metadata = index.find("metadata");
  if (metadata != index.end() && metadata->is_object() && metadata->contains("total_size")) {
    const auto& declared = (*metadata)["total_size"];
    if (!declared.is_number() || declared.get<double>() != double(total))
      fail(file,
           "total_size is " + declared.dump() + ", the shards hold " + std::to_string(total) + " bytes");
  }
}

const TensorInfo* Safetensors::find(std::string_view name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

const TensorInfo& Safetensors::at(std::string_view name) const {
  const TensorInfo* tensor = find(name);
  if (tensor == nullptr)
    throw InputError(directory_ + ": no tensor \"" + std::string(name) + "\" in its safetensors");
  return *tensor;
}

}  // namespace stamp
