#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/views.h"
#include "models/file.h"

namespace stamp {

/// One tensor of a safetensors file: a view into the mapping.
struct TensorInfo {
  std::string name, file;
  std::string dtype;  // as the file spells it: "F16", "BF16", "I64", ...
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;
  uint64_t bytes = 0;

  int64_t elements() const;
  /// Throws InputError naming tensor and file if the type cannot be a weight.
  DType weight_dtype() const;
};

/// The tensors of one file's bytes, as views into them in the order of their data. `bytes` begins on an
/// 8-byte boundary. Throws InputError "<file>: ..." for a header that is not valid, and for tensors that do
/// not tile the data.
std::vector<TensorInfo> parse_safetensors(std::span<const std::byte> bytes, const std::string& file);

/// The tensors of a model directory: model.safetensors, or the shards that model.safetensors.index.json
/// names. Everything in the headers is checked before use; the data is mapped, not read.
class Safetensors {
 public:
  Safetensors() = default;
  /// Throws InputError naming the file and what is wrong with it.
  static Safetensors open(const std::filesystem::path& directory);

  const TensorInfo* find(std::string_view name) const;
  /// Throws InputError if there is no such tensor.
  const TensorInfo& at(std::string_view name) const;
  const std::map<std::string, TensorInfo, std::less<>>& tensors() const { return tensors_; }
  uint64_t file_bytes() const { return file_bytes_; }
  /// See MappedFile. Tensors stay where they are.
  void use_huge_pages(bool copies, const std::stop_token& stop) {
    for (MappedFile& file : files_)
      if (!file.collapse_to_huge_pages(stop) && copies) file.move_to_huge_pages(stop);
  }
  void leave_mapped(std::span<const std::byte> scattered) {
    for (MappedFile& file : files_) file.leave_mapped(scattered);
  }
  /// Bytes of a tensor.
  void copy(const std::byte* from, std::span<std::byte> to) const {
    for (const MappedFile& file : files_)
      if (file.copy(from, to)) return;
  }

 private:
  void add_file(const std::filesystem::path& file);
  void add_shards(const std::filesystem::path& index);

  std::string directory_;
  std::vector<MappedFile> files_;
  std::map<std::string, TensorInfo, std::less<>> tensors_;
  uint64_t file_bytes_ = 0;
};

}  // namespace stamp
