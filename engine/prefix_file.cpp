// A prefix cache as a file: a line that says whose it is, then a record for each page in the order of the
// list.
#include <cstring>
#include <fstream>
#include <vector>

#include "engine/prefix_cache.h"
#include "kernels/error.h"
#include "models/json.h"
#include "models/sha256.h"

namespace stamp {
namespace {

constexpr const char* kFormat = "stamp prefix cache 1";

nlohmann::json header(KvCache& cache, std::string_view owner, int64_t pages) {
  return {{"format", kFormat}, {"owner", owner}, {"page_bytes", cache.bytes_for(1)}, {"pages", pages}};
}

/// Of a page: the number of the record it follows in its chain, or -1; its tokens; its memory; and the
/// SHA-256 of these.
class Record {
 public:
  explicit Record(size_t memory) : bytes_(sizeof(int64_t) + kBlock * sizeof(int32_t) + memory) {}

  char* parent() { return bytes_.data(); }
  char* tokens() { return parent() + sizeof(int64_t); }
  char* memory() { return tokens() + kBlock * sizeof(int32_t); }
  std::span<char> bytes() { return bytes_; }
  std::string checksum() const { return sha256_hex({bytes_.data(), bytes_.size()}); }

 private:
  std::vector<char> bytes_;
};

}  // namespace

void PrefixCache::save(const std::filesystem::path& file, std::string_view owner) const {
  const std::filesystem::path next = file.string() + ".new";
  std::ofstream out(next, std::ios::binary);
  out << header(*cache_, owner, pages()).dump() << '\n';
  struct Place {
    int64_t number, depth;
  };
  std::unordered_map<const Node*, Place> places{{nullptr, {-1, -1}}};
  for (const Node& node : nodes_) {
    const Place parent = places.at(node.parent), place{int64_t(places.size()) - 1, parent.depth + 1};
    places.emplace(&node, place);
    const auto memory = cache_->read(node.page, cache_->format().seals(place.depth));
    Record record(memory.size());
    std::memcpy(record.parent(), &parent.number, sizeof parent.number);
    std::memcpy(record.tokens(), node.tokens.data(), sizeof node.tokens);
    std::memcpy(record.memory(), memory.data(), memory.size());
    out.write(record.bytes().data(), std::streamsize(record.bytes().size())) << record.checksum();
  }
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(next, file, error);
  if (!out || error) throw Error(file.string() + ": cannot write the prefix cache");
}

int64_t PrefixCache::load(const std::filesystem::path& file, std::string_view owner) {
  std::ifstream in(file, std::ios::binary);
  const auto require = [&](bool holds, const char* what) {
    if (holds) return;
    clear();
    throw InputError(file.string() + ": " + what + "; it is not used");
  };
  std::string line;
  require(bool(std::getline(in, line)), "cannot read the prefix cache");
  const nlohmann::json found = nlohmann::json::parse(line, nullptr, false);
  const auto count = found.is_object() ? found.value("pages", nlohmann::json()) : nlohmann::json();
  require(count.is_number_unsigned(), "not a prefix cache");
  require(found == header(*cache_, owner, count), "is a prefix cache of another model, recipe or machine");
  struct Place {
    const Node* node;
    int64_t depth;
  };
  std::vector<Place> places;
  while (int64_t(places.size()) < count && cache_->free_pages() > 0) {
    int64_t parent = 0;
    in.read(reinterpret_cast<char*>(&parent), sizeof parent);
    require(in && parent >= -1 && parent < int64_t(places.size()), "the prefix cache is damaged");
    const Place before = parent < 0 ? Place{nullptr, -1} : places[size_t(parent)];
    const bool sealed = cache_->format().seals(before.depth + 1);
    const int32_t page = cache_->take();
    cache_->set_forms(page, !sealed, sealed);
    const auto memory = size_t(cache_->page_bytes(sealed));
    Record record(memory);
    std::memcpy(record.parent(), &parent, sizeof parent);
    in.read(record.tokens(), std::streamsize(record.bytes().size() - sizeof parent));
    std::string checksum(record.checksum());
    std::string stored(checksum.size(), ' ');
    in.read(stored.data(), std::streamsize(stored.size()));
    std::array<int32_t, kBlock> tokens;
    std::memcpy(tokens.data(), record.tokens(), sizeof tokens);
    cache_->write(page, sealed, {record.memory(), memory});
    const bool valid = in && stored == checksum && find(before.node, tokens) == nullptr;
    if (valid) places.push_back({add(nodes_.end(), before.node, tokens, page), before.depth + 1});
    cache_->give_back(page);
    require(valid, "the prefix cache is damaged");
  }
  if (int64_t(places.size()) == count)
    require(in.peek() == std::ifstream::traits_type::eof(), "the prefix cache is damaged");
  return pages();
}

}  // namespace stamp
