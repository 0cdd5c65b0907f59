#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "models/json.h"
#include "models/nlohmann.h"
#include "models/sha256.h"
#include "tests/kernels/nmse.h"

/// What the tests of golden values share; the values are made by make.py beside this file.
namespace stamp::golden {

inline const std::filesystem::path kDirectory = std::filesystem::path(STAMP_SOURCE_DIR) / "tests/golden";
inline const std::filesystem::path kTinyModels = std::filesystem::path(STAMP_TEST_DATA_DIR) / "tiny";

inline nlohmann::json load(const std::string& name) { return read_json_file(kDirectory / name); }

/// As prepare_data.py: SHA-256 over the names and contents of config.json and the weights.
inline std::string fingerprint(const std::filesystem::path& directory) {
  std::set<std::filesystem::path> files{directory / "config.json"};
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().extension() == ".safetensors") files.insert(entry.path());
  std::string lines;
  for (const auto& file : files) lines += file.filename().string() + " " + sha256_file(file) + "\n";
  return sha256_hex(lines);
}

/// Largest difference over the largest magnitude.
inline double relative_error(std::span<const float> values, std::span<const float> truth) {
  double difference = 0, magnitude = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    difference = std::max(difference, std::fabs(double(values[i]) - double(truth[i])));
    magnitude = std::max(magnitude, std::fabs(double(truth[i])));
  }
  return difference / magnitude;
}

/// The contract is NMSE <= 1e-9 and relative error <= 2e-5; what the two implementations' orders of summation
/// make is a hundredth and a fifth of that, and a frequency rounded otherwise already shows between the two.
inline void expect_equal_logits(std::span<const float> values, std::span<const float> truth) {
  ASSERT_EQ(values.size(), truth.size());
  EXPECT_LE(nmse(values, truth), 1e-10);
  EXPECT_LE(relative_error(values, truth), 1e-5);
}

}  // namespace stamp::golden
