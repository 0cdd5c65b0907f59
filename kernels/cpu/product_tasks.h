#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/views.h"

namespace stamp {

/// How products of a common input are dealt out to threads: pieces of columns, and for integers spans of rows
/// that each of them meets. Kept between calls, so that a step allocates nothing. Views of products and tiles
/// are the caller's.
class ProductTasks {
 public:
  struct Columns {
    const Product* product;
    int64_t col, cols;
  };
  struct Rows {
    std::span<const RowTile> tiles;
    int64_t row, rows;  // all of theirs
  };

  explicit ProductTasks(int threads) : threads_(threads) {}

  std::span<const Columns> columns() const { return columns_; }
  std::span<const Rows> rows() const { return rows_; }

  /// Every product's columns in pieces of `cols`, the last one shorter.
  void split(std::span<const Product> products, int64_t cols) {
    columns_.clear();
    for (const Product& product : products)
      for (int64_t col = 0; col < product.weight.rows; col += cols)
        columns_.push_back({&product, col, std::min(cols, product.weight.rows - col)});
  }

  /// Integer products over the input's `tiles` of `rows` rows together, `unpacks` if panels become bytes
  /// before they meet many rows.
  void split_integers(std::span<const Product> products, std::span<const RowTile> tiles, int64_t rows,
                      bool unpacks) {
    int64_t panels = 0;
    for (const Product& product : products) panels += product.weight.panels();
    split_rows(tiles, unpacks ? task_rows(rows, panels) : kBlock);
    if (rows <= kStreamedRows) split_streams(products, panels);
    else split_panels(products, panels * int64_t(rows_.size()) / (16 * threads_));
  }

 private:
  static constexpr int64_t kStreamedRows = 8;  // up to here products are bound by reading their weights
  static constexpr int64_t kTaskRows = 256;    // their codes stay in a core's cache

  /// Equal pieces of about `span` panels, 8 at most, which become bytes kWidePanels at a time: threads that
  /// take as many pieces are done together.
  void split_panels(std::span<const Product> products, int64_t span) {
    constexpr int64_t kCols = kWidePanels * kPanel;
    columns_.clear();
    for (const Product& product : products) {
      const int64_t wide = divide_up(product.weight.rows, kCols),
                    pieces = divide_up(wide, divide_up(std::clamp<int64_t>(span, 1, 8), kWidePanels));
      for (int64_t piece = 0; piece < pieces; ++piece) {
        const int64_t col = wide * piece / pieces * kCols, end = wide * (piece + 1) / pieces * kCols;
        columns_.push_back({&product, col, std::min(end, product.weight.rows) - col});
      }
    }
  }

  /// Where a core's stream of reads starts anew with each piece: for each thread a long piece and behind it
  /// short ones, a fifth of the panels, the last of which whoever is done first may take.
  void split_streams(std::span<const Product> products, int64_t panels) {
    constexpr int64_t kShorts = 4;
    columns_.clear();
    const int64_t shorts = divide_up(panels, 5 * kShorts * threads_),
                  longs = std::max(divide_up(panels, threads_) - kShorts * shorts, shorts);
    int64_t pieces = 0, left = 0;
    for (const Product& product : products) {
      for (int64_t panel = 0; panel < product.weight.panels();) {
        if (left == 0) left = pieces++ % (kShorts + 1) == 0 ? longs : shorts;
        const int64_t end = std::min(panel + left, product.weight.panels()), col = panel * kPanel;
        columns_.push_back({&product, col, std::min(end * kPanel, product.weight.rows) - col});
        left -= end - panel, panel = end;
      }
    }
  }

  /// Rows of a task where panels are unpacked for it: as many as leave enough tasks for all threads.
  int64_t task_rows(int64_t rows, int64_t panels) const {
    int64_t each = kTaskRows;
    if (rows > kTaskRows) each = round_up(divide_up(rows, divide_up(rows, kTaskRows)), kBlock);  // alike
    while (each > kBlock && rows / each * divide_up(panels, 4) < 8 * threads_) each /= 2;
    return each;
  }

  /// Neighbouring tiles, at most `rows` rows together.
  void split_rows(std::span<const RowTile> tiles, int64_t rows) {
    rows_.clear();
    for (size_t i = 0; i < tiles.size();) {
      const size_t first = i;
      int64_t count = tiles[i].count;
      for (++i; i < tiles.size() && count + tiles[i].count <= rows; ++i) count += tiles[i].count;
      rows_.push_back({tiles.subspan(first, i - first), tiles[first].row, count});
    }
  }

  int threads_;
  std::vector<Columns> columns_;
  std::vector<Rows> rows_;
};

}  // namespace stamp
