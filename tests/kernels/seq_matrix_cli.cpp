// Prints SeqMatrix, a row a line, for each "KIND LEVELS" line of stdin; KIND as in SeqTransform.
#include <cstdio>

#include "kernels/reference/seq_matrix.h"

int main() {
  for (int kind = 0, levels = 0; std::scanf("%d %d", &kind, &levels) == 2;) {
    const stamp::SeqMatrix matrix(stamp::SeqTransform(kind), levels);
    for (int64_t r = 0; r < stamp::kBlock; ++r)
      for (int64_t c = 0; c < stamp::kBlock; ++c)
        std::printf("%.17g%c", matrix.at(r, c), c + 1 < stamp::kBlock ? ' ' : '\n');
  }
}
