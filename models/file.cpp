#include "models/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kernels/error.h"

namespace stamp {

bool is_present(const std::filesystem::path& file) {
  std::error_code error;
  const auto type = std::filesystem::symlink_status(file, error).type();
  return type != std::filesystem::file_type::none && type != std::filesystem::file_type::not_found;
}

MappedFile::MappedFile(const std::filesystem::path& file) {
  const auto fail = [&](const std::string& what) { throw InputError(file.string() + ": " + what); };
  const int descriptor =
      open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not make us wait
  if (descriptor < 0) fail(std::string("cannot be opened: ") + std::strerror(errno));
  struct stat status {};
  const bool regular = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  void* memory = MAP_FAILED;
  if (regular && status.st_size > 0)
    memory = mmap(nullptr, size_t(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int error = errno;
  close(descriptor);
  if (!regular) fail("not a regular file");
  if (status.st_size == 0) fail("is empty");
  if (memory == MAP_FAILED) fail(std::string("cannot be mapped: ") + std::strerror(error));
  madvise(memory, size_t(status.st_size), MADV_WILLNEED);
  bytes_ = {static_cast<const std::byte*>(memory), size_t(status.st_size)};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace stamp
