#include "models/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <string>
#include <thread>

#include "kernels/error.h"
#include "tests/temp_dir.h"

namespace stamp {
namespace {

using testing::HasSubstr;

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
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
  std::string bytes((size_t{23} << 20) + 12345,
                    '\0');  // two whole pieces, half of one, and a tail that stays
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = char(i * 2654435761u >> 13);
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

TEST(MappedFile, LeavesPiecesMappedOfWhichFewBytesAreRead) {
  const TempDir dir;
  constexpr size_t kPiece = size_t{8} << 20;
  const std::string bytes(3 * kPiece, 'a');
  write_file(dir / "x", bytes);
  MappedFile file(dir / "x");
  // The second piece as a whole, and a part of the third, which moves.
  file.move_to_huge_pages({}, file.bytes().subspan(kPiece, kPiece + 100));
  EXPECT_EQ(text_of(file), bytes);
  std::ofstream changed(dir / "x", std::ios::in | std::ios::out);
  for (size_t piece = 0; piece < 3; ++piece) changed.seekp(std::streamoff(piece * kPiece)).write("b", 1);
  changed.close();
  const std::string now = text_of(file);
  EXPECT_EQ(now[0], 'a');
  EXPECT_EQ(now[kPiece], 'b');
  EXPECT_EQ(now[2 * kPiece], 'a');
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
