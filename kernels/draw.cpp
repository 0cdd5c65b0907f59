#include "kernels/draw.h"

#include <algorithm>

#include "kernels/argmax.h"

namespace stamp {
namespace {

/// Brings the first `count` of the places to the front, in any order.
void bring_to_front(std::span<uint64_t> places, size_t count) {
  const auto end = places.begin() + ptrdiff_t(count);
  if (count <= places.size() / 64) std::partial_sort(places.begin(), end, places.end());  // a small heap
  else if (count < places.size()) std::nth_element(places.begin(), end - 1, places.end());
}

/// Brings as many of the first places to the front as have weights that reach `least`, and counts them.
size_t bring_nucleus_to_front(std::span<uint64_t> places, const DrawWeights& weight, uint64_t least) {
  const auto reaches = [&](size_t begin, size_t end) {
    uint64_t sum = 0;
    for (size_t i = begin; i < end; ++i) sum += weight(logit_at(places[i]));
    if (sum < least) least -= sum;
    else return true;
    return false;
  };
  // In growing pieces, the last of which is halved: the nucleus is short as a rule.
  size_t begin = 0, end = std::min<size_t>(64, places.size());
  for (;; begin = end, end = std::min(places.size(), 4 * end)) {
    bring_to_front(places.subspan(begin), end - begin);
    if (reaches(begin, end)) break;
  }
  while (end - begin > 1) {
    const size_t middle = begin + (end - begin) / 2;
    bring_to_front(places.subspan(begin, end - begin), middle - begin);
    if (reaches(begin, middle)) end = middle;
    else begin = middle;
  }
  return end;
}

}  // namespace

int32_t draw_token(std::span<const float> logits, const Draw& draw, std::span<uint64_t> scratch) {
  const DrawWeights weight(logits[size_t(argmax(logits))], draw.temperature);
  const std::span<uint64_t> sums = scratch.first(logits.size());
  std::span<uint64_t> places = scratch.subspan(logits.size(), logits.size());
  for (size_t i = 0; i < logits.size(); ++i) places[i] = place_of(logits[i], uint32_t(i));
  if (draw.top_k > 0 && size_t(draw.top_k) < places.size()) {
    bring_to_front(places, size_t(draw.top_k));
    places = places.first(size_t(draw.top_k));
  }
  if (draw.top_p < 1.0f) {
    uint64_t total = 0;
    for (const uint64_t place : places) total += weight(logit_at(place));
    places = places.first(bring_nucleus_to_front(places, weight, draw.nucleus(total)));
  }
  if (draw.top_k > 0 || draw.top_p < 1.0f)
    std::ranges::sort(places, [](uint64_t a, uint64_t b) { return id_at(a) < id_at(b); });
  uint64_t total = 0;
  const uint64_t least = draw.least_weight();
  for (size_t i = 0; i < places.size(); ++i) {
    const uint64_t w = weight(logit_at(places[i]));
    sums[i] = total += w >= least ? w : 0;
  }
  const auto drawn = std::ranges::lower_bound(sums.first(places.size()), draw.drawn(total)) - sums.begin();
  return int32_t(id_at(places[size_t(drawn)]));
}

}  // namespace stamp
