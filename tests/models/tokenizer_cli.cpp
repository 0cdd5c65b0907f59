// Drives a tokenizer for the comparisons with Python: tokenizer_cli DIR reads requests from stdin, one a
// line, and answers each with a line. Bytes are written in hexadecimal, "-" is the empty string.
//   encode ADD_SPECIAL PARSE_SPECIAL TEXT   ids
//   decode SKIP_SPECIAL ID...               text
//   stream SKIP_SPECIAL ID...               the pieces of a StreamDecoder, finish() last
//   time REPEAT FILE                        seconds of the fastest encoding
//   vocab_size | id TOKEN | token ID | special ID
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "models/json.h"
#include "models/tokenizer.h"

namespace {

using stamp::Tokenizer;

std::string from_hex(const std::string& hex) {
  std::string bytes;
  if (hex != "-")
    for (size_t i = 0; i + 1 < hex.size(); i += 2) bytes += char(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

std::string to_hex(const std::string& bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) hex += {kDigits[static_cast<unsigned char>(c) >> 4], kDigits[c & 15]};
  return hex.empty() ? "-" : hex;
}

std::vector<int32_t> read_ids(std::istream& in) {
  std::vector<int32_t> ids;
  for (int32_t id; in >> id;) ids.push_back(id);
  return ids;
}

double fastest(const Tokenizer& tokenizer, int repeat, const std::string& text) {
  double best = 1e9;
  for (int i = 0; i < repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    tokenizer.encode(text, {.add_special = false, .parse_special = true});
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

void answer(const Tokenizer& tokenizer, const std::string& line) {
  std::istringstream in(line);
  std::string command, text;
  in >> command;
  if (command == "encode") {
    Tokenizer::EncodeOptions options;
    in >> options.add_special >> options.parse_special >> text;
    for (const int32_t id : tokenizer.encode(from_hex(text), options)) std::cout << id << ' ';
  } else if (command == "decode") {
    bool skip_special = false;
    in >> skip_special;
    std::cout << to_hex(tokenizer.decode(read_ids(in), skip_special));
  } else if (command == "stream") {
    bool skip_special = false;
    in >> skip_special;
    stamp::StreamDecoder decoder(tokenizer, skip_special);
    for (const int32_t id : read_ids(in)) std::cout << to_hex(decoder.push(id)) << ' ';
    std::cout << to_hex(decoder.finish());
  } else if (command == "time") {
    int repeat = 0;
    in >> repeat >> text;
    std::cout << fastest(tokenizer, repeat, stamp::read_file(text, uint64_t{1} << 32));
  } else if (command == "vocab_size") {
    std::cout << tokenizer.vocab_size();
  } else if (command == "id") {
    in >> text;
    std::cout << tokenizer.token_to_id(from_hex(text)).value_or(-1);
  } else if (command == "token" || command == "special") {
    const std::vector<int32_t> ids = read_ids(in);
    for (const int32_t id : ids)
      std::cout << (command == "token"         ? to_hex(tokenizer.id_to_token(id))
                    : tokenizer.is_special(id) ? "1"
                                               : "0")
                << ' ';
  } else {
    throw stamp::InputError("unknown command " + command);
  }
  std::cout << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tokenizer_cli DIR\n");
    return 2;
  }
  try {
    const auto tokenizer = Tokenizer::load(argv[1]);
    for (std::string line; std::getline(std::cin, line);) answer(*tokenizer, line);
  } catch (const stamp::InputError& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
