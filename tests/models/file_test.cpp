#include "models/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "kernels/error.h"
#include "tests/resident.h"
#include "tests/temp_dir.h"

namespace stamp {
namespace {

using testing::HasSubstr;

constexpr size_t kHugePage = size_t{2} << 20;

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::string varied_bytes(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = char(i * 2654435761u >> 13);
  return bytes;
}

std::string refusal(const std::filesystem::path& file) {
  try {
    MappedFile{file};
  } catch (const InputError& e) {
    return e.what();
  }
  return "was mapped";
}

TEST(MappedFile, HoldsTheBytesOfTheFile) {
  const TempDir dir;
  const std::string bytes = std::string("first\0", 6) + std::string(100'000, '\xfe') + "last";
  write_file(dir / "x", bytes);
  const MappedFile file(dir / "x");
  EXPECT_EQ(text_of(file), bytes);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.bytes().data()) % 64, 0u);
}

TEST(MappedFile, MovesItsMappingAndOutlivesTheName) {
  const TempDir dir;
  write_file(dir / "x", "one");
  write_file(dir / "y", "two");
  MappedFile a(dir / "x"), b(dir / "y");
  const std::byte* const data = a.bytes().data();
  std::filesystem::remove(dir / "x");
  MappedFile c(std::move(a));
  EXPECT_EQ(c.bytes().data(), data);
  EXPECT_TRUE(a.bytes().empty());  // NOLINT: moved-from is empty
  b = std::move(c);
  EXPECT_EQ(text_of(b), "one");
  EXPECT_TRUE(MappedFile().bytes().empty());
}

TEST(MappedFile, KeepsAddressesAndBytesWhileItMovesToHugePages) {
  const TempDir dir;
  const std::string bytes =
      varied_bytes((size_t{23} << 20) + 12345);  // eleven huge pages, and a tail that stays
  write_file(dir / "x", bytes);
  MappedFile file(dir / "x");
  const std::byte* const data = file.bytes().data();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % (2 << 20), 0u);
  std::jthread mover([&](const std::stop_token& stop) { file.move_to_huge_pages(stop); });
  for (int pass = 0; pass < 5; ++pass) ASSERT_EQ(text_of(file), bytes) << pass;  // read while it moves
  mover.join();
  EXPECT_EQ(file.bytes().data(), data);
  EXPECT_EQ(text_of(file), bytes);

  // The file's later changes reach only what is still mapped: the pieces are the process's own now.
  std::ofstream(dir / "x", std::ios::in | std::ios::out).write("changed", 7);
  EXPECT_EQ(text_of(file), bytes);
}

/// Of the bytes, how many are tmpfs's own huge pages.
size_t shared_huge_bytes(std::span<const std::byte> bytes) {
  const auto first = reinterpret_cast<uintptr_t>(bytes.data());
  size_t kilobytes = 0;
  bool here = false;
  std::string line;
  for (std::ifstream maps("/proc/self/smaps"); std::getline(maps, line);) {
    uintptr_t begin = 0;
    if (std::sscanf(line.c_str(), "%lx-", &begin) == 1 && line.find('-') < line.find(' '))
      here = begin >= first && begin < first + bytes.size();
    size_t value = 0;
    if (here && std::sscanf(line.c_str(), "ShmemPmdMapped: %zu", &value) == 1) kilobytes += value;
  }
  return kilobytes << 10;
}

/// Whether the system makes a huge page of shared memory, which tmpfs holds: not before Linux 6.1, nor where
/// they are disabled or there is none left.
bool can_collapse() {
  constexpr int kCollapse = 25;  // MADV_COLLAPSE
  void* const room = mmap(nullptr, 2 * kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) return false;
  // On a huge page's boundary, as its offset is.
  auto* const page = static_cast<char*>(room) + -reinterpret_cast<uintptr_t>(room) % kHugePage;
  bool can =
      mmap(page, kHugePage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page;
  if (can) {
    std::memset(page, 1, kHugePage);
    can = madvise(page, kHugePage, kCollapse) == 0;
  }
  munmap(room, 2 * kHugePage);
  return can;
}

TEST(MappedFile, SharesTheHugePagesOfAFileInMemory) {
  const TempDir dir("/dev/shm");
  const std::string bytes = varied_bytes(5 * kHugePage / 2 + 12345);  // two huge pages and a tail
  write_file(dir / "x", bytes);
  MappedFile file(dir / "x"), other(dir / "x");
  bool huge = false;
  for (int tries = 0; tries < 10 && !huge; ++tries)  // beside other programs that want such pages
    huge = file.collapse_to_huge_pages({}) && other.collapse_to_huge_pages({});
  EXPECT_TRUE(huge || !can_collapse());
  for (const MappedFile* each : {&file, &other}) {
    EXPECT_EQ(text_of(*each), bytes);
    if (huge) {
      EXPECT_EQ(shared_huge_bytes(each->bytes()), 2 * kHugePage);
    }
  }
  std::ofstream(dir / "x", std::ios::in | std::ios::out)
      .write("changed", 7);  // the pages are still the file's
  EXPECT_EQ(text_of(file).substr(0, 7), "changed");
  EXPECT_EQ(text_of(other).substr(0, 7), "changed");
}

/// Eleven huge pages and a bit, of which those that lie in the middle shall stay: the two at its ends do not.
class MappedFileLeft : public testing::Test {
 protected:
  static constexpr size_t kPages = 11, kFirst = 3, kLast = 7;
  MappedFileLeft() {
    write_file(dir_ / "x", bytes_);
    file_ = MappedFile(dir_ / "x");
    const std::string other(100, 'a');
    file_.leave_mapped(file_.bytes().subspan(kFirst * kHugePage - 1, (kLast - kFirst) * kHugePage + 100));
    file_.leave_mapped(std::as_bytes(std::span(other)));  // another file's: changes nothing
  }

  const TempDir dir_;
  const std::string bytes_ = varied_bytes(kPages * kHugePage + 12345);
  MappedFile file_;
};

TEST_F(MappedFileLeft, StaysMappedWhenTheRestMoves) {
  file_.move_to_huge_pages({});
  EXPECT_EQ(text_of(file_), bytes_);
  std::ofstream changed(dir_ / "x", std::ios::in | std::ios::out);
  for (size_t page = 0; page < kPages; ++page)
    changed.seekp(std::streamoff(page * kHugePage)).put(char(bytes_[page * kHugePage] + 1));
  changed.close();
  const std::string now = text_of(file_);
  for (size_t page = 0; page < kPages; ++page)
    EXPECT_EQ(now[page * kHugePage] != bytes_[page * kHugePage], kFirst <= page && page < kLast) << page;
}

TEST_F(MappedFileLeft, IsCopiedWithoutBecomingResident) {
  const auto left = file_.bytes().subspan(kFirst * kHugePage, (kLast - kFirst) * kHugePage);
  std::vector<std::byte> copied(12'345);
  for (const bool moved : {false, true}) {
    if (moved) file_.move_to_huge_pages({});
    for (size_t at = 0; at + copied.size() <= left.size(); at += 99'999) {
      ASSERT_TRUE(file_.copy(left.data() + at, copied));
      ASSERT_EQ(std::memcmp(copied.data(), bytes_.data() + kFirst * kHugePage + at, copied.size()), 0) << at;
    }
    EXPECT_EQ(resident_bytes(left), 0u) << moved;
  }
  EXPECT_FALSE(file_.copy(file_.bytes().data() + file_.bytes().size() - 1, std::span(copied).first(2)));
  EXPECT_FALSE(file_.copy(file_.bytes().data() - 1, std::span(copied).first(2)));
  EXPECT_EQ(left[1], std::byte(bytes_[kFirst * kHugePage + 1]));
  EXPECT_GT(resident_bytes(left), 0u);
}

TEST(MappedFile, StaysMappedWhenToldToStop) {
  const TempDir dir;
  write_file(dir / "x", std::string(size_t{5} << 20, 'a'));
  MappedFile file(dir / "x");
  std::stop_source source;
  source.request_stop();
  file.move_to_huge_pages(source.get_token());
  std::ofstream(dir / "x", std::ios::in | std::ios::out).write("changed", 7);
  EXPECT_EQ(text_of(file).substr(0, 8), "changeda");
}

TEST(MappedFile, RefusesWhatCannotBeMapped) {
  const TempDir dir;
  write_file(dir / "empty", "");
  mkfifo((dir / "pipe").c_str(), 0600);
  std::filesystem::create_symlink("nowhere", dir / "dangling");
  EXPECT_THAT(refusal(dir / "absent"),
              HasSubstr((dir / "absent").string() + ": cannot be opened: No such file"));
  EXPECT_THAT(refusal(dir / "dangling"), HasSubstr((dir / "dangling").string() + ": cannot be opened"));
  EXPECT_THAT(refusal(dir.path()), HasSubstr(dir.path().string() + ": not a regular file"));
  EXPECT_THAT(refusal(dir / "pipe"),
              HasSubstr("pipe: not a regular file"));  // and does not wait for a writer
  EXPECT_THAT(refusal("/dev/zero"), HasSubstr("/dev/zero: not a regular file"));
  EXPECT_THAT(refusal(dir / "empty"), HasSubstr((dir / "empty").string() + ": is empty"));
}

TEST(IsPresent, CountsEveryKindOfEntry) {
  const TempDir dir;
  write_file(dir / "file", "");
  std::filesystem::create_symlink("nowhere", dir / "dangling");
  for (const auto& there : {dir / "file", dir / "dangling", dir.path()})
    EXPECT_TRUE(is_present(there)) << there;
  for (const auto& not_there : {dir / "absent", dir / "file/below", dir / std::string(5000, 'x')})
    EXPECT_FALSE(is_present(not_there)) << not_there;
}

}  // namespace
}  // namespace stamp
