#include "tools/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "models/json.h"
#include "tools/svg.h"

namespace stamp {
namespace {

constexpr size_t kCompared = 4;  // of report_transforms(): in every figure
constexpr int kRecipeColour = 4;
constexpr int kLags = 32;
constexpr const char* kMatrixNames[kMatrices] = {"q", "k", "v", "o", "gate", "up", "down"};

std::string source_text(Source source) {
  switch (source) {
    case Source::kAttention:
      return "input of q, k, v";
    case Source::kAttended:
      return "input of o";
    case Source::kFeedForward:
      return "input of gate, up";
    case Source::kGated:
      return "input of down";
    case Source::kKeys:
      return "keys";
    case Source::kValues:
      return "values";
  }
  return {};
}

double decibels(double ratio) { return 10 * std::log10(std::max(ratio, 1e-12)); }

std::string table(const std::string& caption, const std::vector<std::string>& head,
                  const std::vector<std::vector<std::string>>& rows) {
  std::string out = "<div class=\"wide\"><table><caption>" + escape_html(caption) + "</caption><thead><tr>";
  for (const std::string& h : head) out += "<th scope=\"col\">" + escape_html(h) + "</th>";
  out += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (size_t i = 0; i < row.size(); ++i)
      out += (i == 0 ? "<th scope=\"row\">" : "<td>") + escape_html(row[i]) + (i == 0 ? "</th>" : "</td>");
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string plan_text(const BitPlan& plan) {
  return fmt::format("{}, {} of {} coefficients at {} bits, the others at {}: {:g} bits on average",
                     transform_text({plan.transform, plan.levels}), plan.high_rows, kBlock, plan.high_bits,
                     plan.low_bits, plan.mean_bits());
}

std::string values_text(const Recipe::Values& values) {
  if (!values.quantised) return "float32";
  return values.plan.is_plain() ? "8 bits a token" : plan_text(values.plan);
}

class Page {
 public:
  explicit Page(const Report& report) : report_(report), inspection_(report.inspection) {}

  std::string html() {
    const std::string title = "stamp inspect: " + report_.model;
    std::string body;
    for (const auto& part :
         {summary(), energy(), layers(), error(), plan(), weights(), autocorrelation(), perplexity()})
      body += part;
    return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
           "<meta name=\"color-scheme\" content=\"light dark\"><title>" +
           escape_html(title) + "</title>\n<style>" + svg_style() + R"(
body { background:var(--page); color:var(--ink); font:16px/1.55 system-ui, sans-serif; max-width:76rem;
  margin:0 auto; padding:1.5rem; }
h1 { font-size:1.6rem; overflow-wrap:anywhere; } h2 { font-size:1.25rem; margin-top:2.5rem; }
p { max-width:46rem; } .figures { display:flex; flex-wrap:wrap; gap:1rem; } .small { gap:.2rem; }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; font-size:.9rem; }
caption { text-align:left; font-weight:600; padding:.4rem 0; }
th, td { padding:.2rem .7rem; text-align:right; border-bottom:1px solid var(--rule); }
th[scope=row], thead th:first-child { text-align:left; } .wide { overflow-x:auto; margin:1rem 0; }
#summary td { text-align:left; }
.legend { list-style:none; display:flex; flex-wrap:wrap; gap:.2rem 1.2rem; padding:0; margin:.5rem 0; }
summary { cursor:pointer; margin:.6rem 0; }
</style></head><body><main>
<h1>)" + escape_html(title) +
           "</h1>\n" + body + "</main></body></html>\n";
  }

 private:
  static std::string section(const char* id, const char* heading, const std::string& text,
                             const std::string& content) {
    return fmt::format("<section id=\"{}\"><h2>{}</h2>\n<p>{}</p>\n{}</section>\n", id, heading, text,
                       content);
  }
  const SourceStatistics& at(size_t layer, int source) const {
    return inspection_.layers[layer][size_t(source)];
  }
  size_t layer_count() const { return inspection_.layers.size(); }
  /// SQNR under one of the compared transforms; the recipe's own for index kCompared.
  double sqnr(size_t layer, int source, size_t transform) const {
    const SourceStatistics& s = at(layer, source);
    const size_t t = transform == kCompared ? own(s) : transform;
    return sqnr_db(s.error(t, s.plan.high_rows));
  }
  size_t own(const SourceStatistics& s) const {
    return inspection_.index_of({s.plan.transform, s.plan.levels});
  }
  bool has_site_plans() const { return !report_.recipe.site_plans.empty(); }
  size_t compared() const { return kCompared + (has_site_plans() ? 1 : 0); }
  std::string compared_name(size_t i) const {
    return i == kCompared ? "the recipe's plan" : transform_text(inspection_.transforms[i]);
  }
  static int colour(size_t i) { return i == kCompared ? kRecipeColour : int(i); }
  Series empty_series(size_t i) const { return {compared_name(i), {}, colour(i)}; }

  std::string summary() const {
    const Recipe& r = report_.recipe;
    const auto& w = r.weights;
    std::string weights = w.bits == 16 ? "as stored" : fmt::format("{} bits", w.bits);
    if (w.bits == 4) weights += fmt::format(", groups of {}", w.group);
    if (w.bits < 16) weights += w.gptq ? ", GPTQ" : ", round to nearest";
    std::string rotation;
    for (const auto& [on, name] : {std::pair{r.rotation.residual, "residual stream"},
                                   {r.rotation.head, "heads"},
                                   {r.rotation.down, "input of down"}})
      if (on) rotation += (rotation.empty() ? "" : ", ") + std::string(name);
    return section(
        "summary", "Summary",
        "What follows was measured while the model, rotated as the recipe says, ran over a text in floats: "
        "its true "
        "activations, not those that quantised layers before them would have disturbed. Statistics are of "
        "whole blocks "
        "of 64 tokens, each sequence's first block left out.",
        table("The model and the recipe", {"what", "value"},
              {{"model", report_.model},
               {"recipe", r.name},
               {"weights", weights},
               {"rotated", rotation.empty() ? "nothing" : rotation},
               {"activations", values_text(r.activations) +
                                   (has_site_plans() ? "; single inputs have plans of their own" : "")},
               {"KV cache", values_text(r.kv)},
               {"tokens", std::to_string(inspection_.tokens)},
               {"blocks measured", std::to_string(inspection_.blocks)}}));
  }

  /// dB over the mean coefficient; layers with one weight each.
  std::vector<Series> energies(int source, size_t first_layer, size_t last_layer) const {
    std::vector<Series> series;
    for (size_t t = 0; t < kCompared; ++t) {
      Series line = empty_series(t);
      std::array<double, kBlock> sum{};
      for (size_t layer = first_layer; layer < last_layer; ++layer) {
        const auto energy = inspection_.energy(at(layer, source), t);
        for (size_t k = 0; k < energy.size(); ++k) sum[k] += energy[k] / double(last_layer - first_layer);
      }
      for (double e : sum) line.y.push_back(std::max(-30.0, decibels(e)));
      series.push_back(line);
    }
    return series;
  }

  std::string energy() const {
    std::string charts;
    std::vector<Series> series;
    for (int s = 0; s < kSources; ++s) {
      series = energies(s, 0, layer_count());
      Axes axes{.title = source_text(Source(s)), .x_label = "coefficient", .y_label = "dB over the mean"};
      fit(axes, series);
      charts += line_chart(axes, series);
    }
    return section("energy", "Energy over coefficients",
                   "The mean energy of each coefficient of a block, in decibels over the block's mean (a "
                   "logarithmic scale), "
                   "averaged over layers. A transform along the sequence gathers energy in its first "
                   "coefficients, which "
                   "get more bits; without one (identity) it lies flat.",
                   legend(series) + "<div class=\"figures\">" + charts + "</div>");
  }

  std::string layers() const {
    std::string out;
    for (int s = 0; s < kSources; ++s) {
      out += "<h3>" + escape_html(source_text(Source(s))) + "</h3><div class=\"figures small\">";
      for (size_t layer = 0; layer < layer_count(); ++layer)
        out += small_chart({.title = "layer " + std::to_string(layer),
                            .x_label = {},
                            .y_label = {},
                            .y_low = -12,
                            .y_high = 19},
                           energies(s, layer, layer + 1));
      out += "</div>\n";
    }
    std::vector<Series> names;
    for (size_t t = 0; t < kCompared; ++t) names.push_back(empty_series(t));
    return section(
        "layers", "Energy by layer",
        "The same for every layer: coefficients from left to right, energy from 12 dB below the mean to 19 "
        "above it. Layers whose lines fall steeply gain most from the transform.",
        legend(names) + out);
  }

  std::string error() const {
    std::string charts, details;
    std::vector<Series> series;
    std::vector<std::vector<std::string>> means;
    std::vector<std::vector<double>> gains;
    std::vector<std::string> names, head{"layer"};
    for (size_t t = 0; t < compared(); ++t) head.push_back(compared_name(t));
    for (int s = 0; s < kSources; ++s) {
      series.clear();
      means.push_back({source_text(Source(s))});
      for (size_t t = 0; t < compared(); ++t) {
        Series line = empty_series(t);
        double sum = 0;
        for (size_t layer = 0; layer < layer_count(); ++layer) {
          line.y.push_back(sqnr(layer, s, t));
          sum += line.y.back();
        }
        means.back().push_back(fmt::format("{:.2f}", sum / double(layer_count())));
        series.push_back(line);
      }
      Axes axes{.title = source_text(Source(s)), .x_label = "layer", .y_label = "SQNR, dB"};
      fit(axes, series);
      charts += line_chart(axes, series);
      std::vector<std::vector<std::string>> rows;
      gains.emplace_back();
      names.push_back(source_text(Source(s)));
      for (size_t layer = 0; layer < layer_count(); ++layer) {
        rows.push_back({std::to_string(layer)});
        for (const Series& line : series) rows.back().push_back(fmt::format("{:.2f}", line.y[layer]));
        const SourceStatistics& stats = at(layer, s);
        const bool plain = stats.plan.transform == SeqTransform::kIdentity;  // then Haar shows what is missed
        gains.back().push_back(sqnr(layer, s, plain ? 1 : kCompared) - sqnr(layer, s, 0));
      }
      details += "<details><summary>" + escape_html(source_text(Source(s))) + ", layer by layer</summary>" +
                 table("SQNR in dB: " + source_text(Source(s)), head, rows) + "</details>\n";
    }
    head[0] = "what is quantised";
    return section(
        "error", "Quantisation error",
        "The signal-to-quantisation-noise ratio (SQNR) of activations under the bit plans drawn "
        "below: the same bits, "
        "different transforms. 6 dB more are as good as one bit more everywhere. Keys and values "
        "are quantised "
        "head by head.",
        table("SQNR in dB, mean over layers", head, means) + legend(series) + "<div class=\"figures\">" +
            charts + "</div>" +
            heatmap("Gain of the transform over the identity", names, gains, "layer", "dB") +
            "<p>The stronger the colour of a cell, the more the recipe's transform (Haar, if it has "
            "none) improves the "
            "SQNR of that layer over leaving tokens as they are.</p>\n" +
            details);
  }

  std::string plan() const {
    std::string out;
    const auto draw = [&](const char* what, const BitPlan& plan) {
      out += bit_plan_chart(fmt::format("{}: {:g} bits on average", what, plan.mean_bits()), plan) + "<p>" +
             escape_html(plan_text(plan)) + ".</p>\n";
    };
    Recipe without = report_.recipe;
    without.site_plans.clear();
    draw("Activations", inspected_plan(without, 0, Source::kAttention));
    draw("KV cache", inspected_plan(without, 0, Source::kKeys));
    if (has_site_plans()) {
      std::vector<std::vector<std::string>> rows;
      for (size_t layer = 0; layer < layer_count(); ++layer) {
        rows.push_back({std::to_string(layer)});
        for (int s = 0; s < kSites; ++s)
          rows.back().push_back(fmt::format(
              "{}, {} rows", transform_text({at(layer, s).plan.transform, at(layer, s).plan.levels}),
              at(layer, s).plan.high_rows));
      }
      std::vector<std::string> head{"layer"};
      for (int s = 0; s < kSites; ++s) head.push_back(source_text(Source(s)));
      out += table("Plans of single inputs: transform and coefficients at high bits", head, rows);
    }
    return section("plan", "Bit plan",
                   "How many bits each of the 64 coefficients of a block gets. Where the recipe itself has "
                   "one precision "
                   "throughout, the errors above are those of the plan of the paper, drawn here.",
                   out);
  }

  std::string weights() const {
    if (report_.weight_errors.empty())
      return section("weights", "Weights", escape_html(report_.no_weight_errors), "");
    std::vector<std::string> names(std::begin(kMatrixNames), std::end(kMatrixNames)), head{"layer"};
    head.insert(head.end(), names.begin(), names.end());
    std::vector<std::vector<double>> map(kMatrices);
    std::vector<std::vector<std::string>> rows;
    for (size_t layer = 0; layer < layer_count(); ++layer) {
      rows.push_back({std::to_string(layer)});
      for (size_t m = 0; m < kMatrices; ++m) {
        map[m].push_back(sqnr_db(report_.weight_errors[layer][m]));
        rows.back().push_back(fmt::format("{:.2f}", map[m].back()));
      }
    }
    return section(
        "weights", "Weights",
        "The SQNR of every matrix as the recipe quantises it, against the rotated matrix in floats. GPTQ "
        "trades this "
        "error for a smaller one of the products, so its matrices score lower than rounding to nearest.",
        heatmap("SQNR of the weights", names, map, "layer", "dB") +
            "<details><summary>All numbers</summary>" + table("SQNR of the weights in dB", head, rows) +
            "</details>\n");
  }

  std::string autocorrelation() const {
    std::vector<Series> series;
    for (int s = 0; s < kSources; ++s) {
      series.push_back({source_text(Source(s)), {}, s});
      for (int lag = 1; lag <= kLags; ++lag) {
        double sum = 0;
        for (size_t layer = 0; layer < layer_count(); ++layer) sum += at(layer, s).autocorrelation(lag);
        series.back().y.push_back(sum / double(layer_count()));
      }
    }
    Axes axes{.title = "Autocorrelation along the sequence",
              .x_label = "lag, tokens",
              .y_label = "correlation",
              .x_first = 1};
    fit(axes, series);
    axes.y_low = std::min(0.0, axes.y_low), axes.y_high = 1;
    return section("autocorrelation", "Autocorrelation",
                   "How much a token's activations resemble those of a token some places before it in the "
                   "same block: the "
                   "products of the two over their squares, channels weighted by energy, mean over layers. 1 "
                   "would be no "
                   "change at all. This resemblance is what makes transforms along the sequence work.",
                   legend(series) + line_chart(axes, series));
  }

  std::string perplexity() const {
    if (report_.perplexities.empty()) return {};
    std::vector<std::vector<std::string>> rows;
    for (const PerplexityRow& p : report_.perplexities)
      rows.push_back({p.recipe, fmt::format("{:.3f} ± {:.3f}", p.ppl, p.ppl_stderr),
                      fmt::format("{:.3f}", p.weight_bits), fmt::format("{:.3f}", p.activation_bits),
                      fmt::format("{:.3f}", p.kv_bits), std::to_string(p.tokens),
                      fmt::format("{}, {}", p.protocol, p.context)});
    return section("perplexity", "Perplexity",
                   "What the errors cost: perplexities that were measured by stamp perplexity, lower is "
                   "better. Compare rows of "
                   "one protocol and number of tokens only.",
                   table("Perplexity by recipe",
                         {"recipe", "perplexity", "weight bits", "activation bits", "cache bits", "tokens",
                          "protocol, context"},
                         rows));
  }

  const Report& report_;
  const Inspection& inspection_;
};

}  // namespace

PerplexityRow PerplexityRow::load(const std::filesystem::path& file) {
  const nlohmann::json json = read_json_file(file);
  const JsonFields fields(json, file.string());
  const auto number = [&](const char* name) { return fields.required_number(name, 0, 1e300); };
  const auto text = [&](const char* name) {
    const auto value = fields.string(name);
    if (!value) fields.fail(name, "is missing; the file must be one of stamp perplexity --json");
    return *value;
  };
  return {.recipe = text("recipe"),
          .protocol = text("protocol"),
          .ppl = number("ppl"),
          .ppl_stderr = number("ppl_stderr"),
          .activation_bits = number("mean_activation_bits"),
          .kv_bits = number("mean_kv_bits"),
          .weight_bits = number("weight_bits"),
          .tokens = fields.required_integer("tokens_scored", 0, INT64_MAX),
          .context = fields.required_integer("context", 0, INT64_MAX)};
}

std::vector<Transform> report_transforms(const Recipe& recipe, int64_t layers) {
  const BitPlan plan = recipe.activations.plan;
  const bool haar = recipe.activations.quantised && plan.transform == SeqTransform::kHaar;
  std::vector<Transform> all{{SeqTransform::kIdentity},
                             {SeqTransform::kHaar, haar ? plan.levels : 5},
                             {SeqTransform::kDct},
                             {SeqTransform::kWalshHadamard}};
  for (int64_t layer = 0; layer < layers; ++layer)
    for (int s = 0; s < kSources; ++s) {
      const BitPlan used = inspected_plan(recipe, layer, Source(s));
      const bool known = std::any_of(all.begin(), all.end(), [&](const Transform& t) {
        return t.kind == used.transform && (t.kind != SeqTransform::kHaar || t.levels == used.levels);
      });
      if (!known) all.push_back({used.transform, used.levels});
    }
  return all;
}

std::string html_report(const Report& report) { return Page(report).html(); }

}  // namespace stamp
