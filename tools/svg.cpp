#include "tools/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace stamp {
namespace {

std::string open_svg(int width, int height, const std::string& title) {
  return fmt::format(R"(<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}">)",
                     width, height, escape_html(title));
}

/// A step of 1, 2 or 5 times a power of ten that divides the range into about four.
double tick_step(double range) {
  const double rough = range / 4, power = std::pow(10.0, std::floor(std::log10(rough)));
  for (double factor : {1.0, 2.0, 5.0})
    if (rough <= factor * power) return factor * power;
  return 10 * power;
}

/// Values as points of a box of pixels.
struct Box {
  double left, top, width, height;
  const Axes& axes;
  size_t count;  // of points along x
  double x(size_t i) const { return left + (count > 1 ? width * double(i) / double(count - 1) : width / 2); }
  double y(double value) const {
    const double clamped = std::clamp(value, axes.y_low, axes.y_high);
    return top + height * (axes.y_high - clamped) / (axes.y_high - axes.y_low);
  }
  std::string lines(std::span<const Series> series) const {
    std::string out;
    for (const Series& s : series) {
      std::string points;
      for (size_t i = 0; i < s.y.size(); ++i) points += fmt::format("{:.1f},{:.1f} ", x(i), y(s.y[i]));
      out += fmt::format(R"(<polyline class="line c{}" points="{}"><title>{}</title></polyline>)", s.colour,
                         points, escape_html(s.name));
    }
    return out;
  }
};

size_t longest(std::span<const Series> series) {
  size_t count = 0;
  for (const Series& s : series) count = std::max(count, s.y.size());
  return count;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

void fit(Axes& axes, std::span<const Series> series) {
  axes.y_low = 1e300, axes.y_high = -1e300;
  for (const Series& s : series)
    for (double y : s.y) axes.y_low = std::min(axes.y_low, y), axes.y_high = std::max(axes.y_high, y);
  if (axes.y_high - axes.y_low < 1e-9) axes.y_low -= 0.5, axes.y_high += 0.5;
}

std::string line_chart(const Axes& axes, std::span<const Series> series) {
  constexpr int kWidth = 390, kHeight = 240;
  const Box box{48, 26, kWidth - 60, kHeight - 68, axes, longest(series)};
  const double right = box.left + box.width, bottom = box.top + box.height;
  std::string out = open_svg(kWidth, kHeight, axes.title);
  out += fmt::format(R"(<text class="title" x="{}" y="14">{}</text>)", box.left, escape_html(axes.title));
  const double step = tick_step(axes.y_high - axes.y_low);
  for (double tick = std::ceil(axes.y_low / step) * step; tick <= axes.y_high + 1e-9 * step; tick += step)
    out += fmt::format(R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)"
                       R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{:g}</text>)",
                       box.left, right, box.y(tick), box.y(tick), box.left - 5, box.y(tick) + 4,
                       std::fabs(tick) < step / 1e6 ? 0 : tick);
  const size_t every = std::max<size_t>(1, size_t(tick_step(double(box.count) * 0.8)));
  for (size_t i = 0; i < box.count; ++i)
    if ((i + size_t(axes.x_first)) % every == 0)
      out += fmt::format(R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", box.x(i),
                         bottom + 15, int(i) + axes.x_first);
  out += fmt::format(R"(<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>)",
                     (box.left + right) / 2, bottom + 33, escape_html(axes.x_label));
  out += fmt::format(
      R"svg(<text class="tick" transform="translate(12 {}) rotate(-90)" text-anchor="middle">{}</text>)svg",
      (box.top + bottom) / 2, escape_html(axes.y_label));
  return out + box.lines(series) + "</svg>\n";
}

std::string small_chart(const Axes& axes, std::span<const Series> series) {
  constexpr int kWidth = 92, kHeight = 60;
  const Box box{2, 14, kWidth - 4, kHeight - 18, axes, longest(series)};
  return open_svg(kWidth, kHeight, axes.title) +
         fmt::format(
             R"(<text class="tick" x="2" y="10">{}</text><rect class="frame" x="2" y="14" width="{}" height="{}"/>)",
             escape_html(axes.title), box.width, box.height) +
         box.lines(series) + "</svg>";
}

std::string heatmap(const std::string& title, std::span<const std::string> rows,
                    const std::vector<std::vector<double>>& values, const std::string& column,
                    const std::string& unit) {
  constexpr int kLeft = 110, kTop = 26, kCell = 20;
  double low = 1e300, high = -1e300;
  size_t columns = 0;
  for (const auto& row : values) {
    columns = std::max(columns, row.size());
    for (double v : row) low = std::min(low, v), high = std::max(high, v);
  }
  const int width = std::max(kLeft + int(columns) * kCell + 10, 420),
            height = kTop + int(rows.size()) * kCell + 54;
  std::string out = open_svg(width, height, title);
  out += fmt::format(R"(<text class="title" x="0" y="14">{}</text>)", escape_html(title));
  for (size_t r = 0; r < rows.size(); ++r) {
    const int y = kTop + int(r) * kCell;
    out += fmt::format(R"(<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>)", kLeft - 6, y + 14,
                       escape_html(rows[r]));
    for (size_t c = 0; c < values[r].size(); ++c) {
      const double strength = high > low ? (values[r][c] - low) / (high - low) : 0.5;
      out += fmt::format(
          R"(<rect class="cell" x="{}" y="{}" width="{}" height="{}" fill-opacity="{:.2f}"><title>{}, {} {}: {:.1f} {}</title></rect>)",
          kLeft + int(c) * kCell, y, kCell - 1, kCell - 1, 0.08 + 0.92 * strength, escape_html(rows[r]),
          escape_html(column), c, values[r][c], escape_html(unit));
    }
  }
  const int bottom = kTop + int(rows.size()) * kCell;
  for (size_t c = 0; c<columns; c += columns> 12 ? 5 : 1)
    out += fmt::format(R"(<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>)",
                       kLeft + int(c) * kCell + kCell / 2, bottom + 14, c);
  out +=
      fmt::format(R"(<text class="tick" x="{}" y="{}">{}</text>)", kLeft, bottom + 30, escape_html(column));
  out += fmt::format(R"(<text class="tick" x="0" y="{}">weakest colour {:.1f}, strongest {:.1f} {}</text>)",
                     bottom + 48, low, high, escape_html(unit));
  return out + "</svg>\n";
}

std::string bit_plan_chart(const std::string& title, const BitPlan& plan) {
  constexpr int kWidth = 460, kLeft = 34, kTop = 26, kBar = 6, kBit = 9;
  constexpr int kBottom = kTop + 8 * kBit;
  std::string out = open_svg(kWidth, kBottom + 36, title);
  out += fmt::format(R"(<text class="title" x="{}" y="14">{}</text>)", kLeft, escape_html(title));
  for (int bits : {plan.low_bits, plan.high_bits})
    out += fmt::format(R"(<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>)", kLeft - 5,
                       kBottom - bits * kBit + 8, bits);
  for (int64_t r = 0; r < kBlock; ++r) {
    const int bits = plan.bits(r);
    out += fmt::format(
        R"(<rect class="c{}" x="{}" y="{}" width="{}" height="{}"><title>coefficient {}: {} bits</title></rect>)",
        r < plan.high_rows ? 2 : 1, kLeft + r * kBar, kBottom - bits * kBit, kBar - 1, bits * kBit, r, bits);
  }
  for (int64_t r = 0; r < kBlock; r += 16)
    out += fmt::format(R"(<text class="tick" x="{}" y="{}">{}</text>)", kLeft + r * kBar, kBottom + 14, r);
  out += fmt::format(R"(<text class="tick" x="{}" y="{}">coefficient, coarse to fine; bar: bits</text>)",
                     kLeft, kBottom + 30);
  return out + "</svg>\n";
}

std::string legend(std::span<const Series> series) {
  std::string out = "<ul class=\"legend\">";
  for (const Series& s : series)
    out += fmt::format(R"(<li><span class="swatch c{}"></span>{}</li>)", s.colour, escape_html(s.name));
  return out + "</ul>\n";
}

const char* svg_style() {
  return R"(
:root { --ink:#1c2430; --soft:#5b6675; --rule:#dde2e8; --page:#ffffff; --cell:#1d5fbf;
  --c0:#7a8391; --c1:#1d5fbf; --c2:#c2570c; --c3:#0f7b5f; --c4:#8a3ab9; --c5:#b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ee; --soft:#a0abb9; --rule:#343c47; --page:#14181d;
  --cell:#6ba6ff; --c0:#98a2b0; --c1:#6ba6ff; --c2:#f5a35c; --c3:#4fcfa5; --c4:#cf95f0; --c5:#ff8a80; } }
svg { max-width:100%; height:auto; font:11px system-ui, sans-serif; }
svg .title { font-size:13px; font-weight:600; fill:var(--ink); }
svg .tick { fill:var(--soft); }
svg .grid { stroke:var(--rule); }
svg .frame { fill:none; stroke:var(--rule); }
svg .cell { fill:var(--cell); }
svg .line { fill:none; stroke-width:1.6; stroke-linejoin:round; }
svg .line.c0 { stroke:var(--c0); } svg .line.c1 { stroke:var(--c1); } svg .line.c2 { stroke:var(--c2); }
svg .line.c3 { stroke:var(--c3); } svg .line.c4 { stroke:var(--c4); } svg .line.c5 { stroke:var(--c5); }
svg rect.c1 { fill:var(--c1); } svg rect.c2 { fill:var(--c2); }
.swatch { display:inline-block; width:1.4em; height:.3em; margin-right:.4em; vertical-align:middle; }
.swatch.c0 { background:var(--c0); } .swatch.c1 { background:var(--c1); } .swatch.c2 { background:var(--c2); }
.swatch.c3 { background:var(--c3); } .swatch.c4 { background:var(--c4); } .swatch.c5 { background:var(--c5); }
)";
}

}  // namespace stamp
