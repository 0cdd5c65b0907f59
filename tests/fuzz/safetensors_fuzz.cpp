#include "models/safetensors.h"

#include <cstdlib>
#include <cstring>

#include "kernels/buffer.h"
#include "kernels/error.h"

/// Tensors that are accepted tile the data: none reaches outside, together they are all of it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  stamp::Buffer<uint8_t> aligned{int64_t(size)};  // as a mapping is
  if (size > 0) std::memcpy(aligned.data(), data, size);
  const auto bytes = std::as_bytes(std::span<const uint8_t>(aligned.data(), size));
  std::vector<stamp::TensorInfo> tensors;
  try {
    tensors = stamp::parse_safetensors(bytes, "input.safetensors");
  } catch (const stamp::InputError&) {
    return 0;
  }
  uint64_t total = 0;
  for (const stamp::TensorInfo& tensor : tensors) {
    if (tensor.elements() < 0 || uint64_t(tensor.elements()) > tensor.bytes) std::abort();
    if (tensor.data < bytes.data() || tensor.data + tensor.bytes > bytes.data() + size) std::abort();
    total += tensor.bytes;
    try {
      const int64_t width = stamp::dtype_size(tensor.weight_dtype());
      if (uint64_t(tensor.elements() * width) != tensor.bytes) std::abort();
      if (reinterpret_cast<uintptr_t>(tensor.data) % uintptr_t(width) != 0) std::abort();
    } catch (const stamp::InputError&) {
    }
  }
  uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | aligned[i];
  if (8 + header + total != size) std::abort();
  return 0;
}
