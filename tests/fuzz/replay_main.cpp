// Runs a fuzz target without libFuzzer: every file of the corpus as it is, then 2,000 mutations drawn from a
// fixed seed, so that each test run on any compiler sees the same inputs.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

void run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string mutate(std::string input, const std::vector<std::string>& corpus, std::mt19937& rng) {
  const auto below = [&rng](size_t n) { return n == 0 ? size_t{0} : size_t(rng() % n); };
  for (size_t edits = 1 + below(4); edits > 0; --edits) {
    const size_t at = below(input.size());
    switch (below(6)) {
      case 0:
        if (!input.empty()) input[at] = char(rng());
        break;
      case 1:
        if (!input.empty()) input[at] = char(uint8_t(input[at]) ^ (1u << below(8)));
        break;
      case 2:
        input.insert(at, 1 + below(8), char(rng()));
        break;
      case 3:
        input.erase(at, 1 + below(16));
        break;
      case 4:
        input.resize(at);
        break;
      default: {
        const std::string& other = corpus[below(corpus.size())];
        input.insert(at, other.substr(below(other.size()), below(64)));
      }
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || !std::filesystem::is_directory(argv[1])) {
    std::fprintf(stderr, "usage: %s CORPUS_DIR\n", argv[0]);
    return 2;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<std::string> corpus;
  for (const auto& file : files) {
    std::ifstream in(file, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    run(corpus.back());
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: no corpus files\n", argv[1]);
    return 2;
  }
  constexpr int kMutations = 2000;
  std::mt19937 rng(20260101);
  for (int i = 0; i < kMutations; ++i) run(mutate(corpus[size_t(i) % corpus.size()], corpus, rng));
  std::printf("%zu corpus files, %d mutations\n", corpus.size(), kMutations);
  return 0;
}
