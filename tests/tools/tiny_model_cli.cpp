// Writes one of the tiny models of the C++ tests for the Python tests of the program.
#include <cstdio>
#include <cstring>

#include "tests/tiny_model.h"

int main(int argc, char** argv) {
  const bool counting = argc == 3 && std::strcmp(argv[1], "counting") == 0;
  if (!counting && (argc != 3 || std::strcmp(argv[1], "random") != 0)) {
    std::fprintf(stderr, "usage: %s counting|random DIR\n", argv[0]);
    return 2;
  }
  std::filesystem::create_directories(argv[2]);
  (counting ? stamp::counting_model() : stamp::random_model()).write(argv[2]);
  return 0;
}
