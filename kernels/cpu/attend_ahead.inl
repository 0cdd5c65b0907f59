// Pages of the cache that few queries will meet, asked for before: one after the other would be waited for.

/// Pages of a run, which lies within a span: a group of lanes.
constexpr int64_t kRunPages = kGroupLanes;
static_assert(kSpanPages % kRunPages == 0);

/// The pages after the one or the run at hand. Their lines are asked for little by little: all at once would
/// take as long as waiting for them.
struct PagesAhead {
  const std::byte* sides[2 * kRunPages];
  int64_t bytes[2 * kRunPages], count = 0, at = 0;  // of sides; the last one comes first

  void add(const std::byte* side, int64_t size) { sides[count] = side, bytes[count++] = size; }
  /// Four lines each time, some of them past a side's end.
  inline __attribute__((always_inline)) void ask(int times) {
    for (; times > 0 && count > 0; --times) {
      for (int line = 0; line < 4; ++line) prefetch_far(sides[count - 1] + at + 64 * line);
      if ((at += 256) >= bytes[count - 1]) at = 0, --count;
    }
  }
};
/// Up to kRunPages pages from `page` on, those of the next tile after the last one.
inline PagesAhead pages_ahead(const CodedTile& t, int64_t page) {
  PagesAhead ahead;
  const int64_t here = t.end_page - page;
  for (int64_t i = kRunPages - 1; i >= 0; --i) {
    const CodedTile* tile = i < here ? &t : t.next;
    const int64_t at = i < here ? page + i : tile != nullptr ? tile->first_page + i - here : 0;
    if (tile == nullptr || at >= tile->end_page) continue;
    const HeadPage one = head_page(*tile, at);
    ahead.add(one.values, one.bytes());
    ahead.add(one.keys, one.bytes());
  }
  return ahead;
}
