#include "models/sha256.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/temp_dir.h"

namespace stamp {
namespace {

// FIPS 180-2, appendix B, and NIST's vector of no bytes.
constexpr std::pair<const char*, const char*> kVectors[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"}};
constexpr const char* kMillionA = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256, EqualsThePublishedVectors) {
  for (const auto& [text, digest] : kVectors) EXPECT_EQ(sha256_hex(text), digest) << text;
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')), kMillionA);
}

TEST(Sha256, OfAFileIsThatOfItsBytes) {
  const TempDir dir;
  for (const auto& [text, digest] : kVectors) {
    write_file(dir / "x", text);
    EXPECT_EQ(sha256_file(dir / "x"), digest);
  }
  write_file(dir / "x", std::string(1'000'000, 'a'));
  EXPECT_EQ(sha256_file(dir / "x"), kMillionA);
  const std::string larger_than_the_buffer((1 << 20) + 17, '\xff');
  write_file(dir / "x", larger_than_the_buffer);
  EXPECT_EQ(sha256_file(dir / "x"), sha256_hex(larger_than_the_buffer));
}

TEST(Sha256, NamesAFileThatCannotBeRead) {
  const TempDir dir;
  for (const auto& file : {dir / "absent", dir.path()}) {
    try {
      sha256_file(file);
      FAIL() << file;
    } catch (const InputError& e) {
      EXPECT_NE(std::string(e.what()).find(file.string() + ": cannot be read"), std::string::npos)
          << e.what();
    }
  }
}

}  // namespace
}  // namespace stamp
