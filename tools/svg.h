#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/quant_format.h"

namespace stamp {

/// Drawings for a page that defines the classes of svg_style(): inline SVG, whose colours follow the reader's
/// light or dark scheme.

/// Text for HTML content and attribute values.
std::string escape_html(std::string_view text);

inline constexpr int kSeriesColours = 6;

struct Series {
  std::string name;
  std::vector<double> y;  // at x_first, x_first + 1, ...
  int colour = 0;         // below kSeriesColours
};

struct Axes {
  std::string title, x_label, y_label;
  int x_first = 0;
  double y_low = 0, y_high = 1;
};

/// The smallest and largest value of all series, a little apart if they are equal.
void fit(Axes& axes, std::span<const Series> series);

/// Lines with axes.
std::string line_chart(const Axes& axes, std::span<const Series> series);
/// Lines alone under a title, one of many side by side.
std::string small_chart(const Axes& axes, std::span<const Series> series);
/// A cell for each value, the stronger its colour the larger; the value is its tooltip.
std::string heatmap(const std::string& title, std::span<const std::string> rows,
                    const std::vector<std::vector<double>>& values, const std::string& column,
                    const std::string& unit);
/// A bar for each coefficient of a block, as high as its bits.
std::string bit_plan_chart(const std::string& title, const BitPlan& plan);
/// What the lines' colours mean, as HTML.
std::string legend(std::span<const Series> series);
const char* svg_style();

}  // namespace stamp
