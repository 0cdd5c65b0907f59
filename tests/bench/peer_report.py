"""What a comparison says: the peer's best settings, ratios over rounds, tables and the plot."""
import html
from statistics import median


def best_settings(screened, tests):
    """{setting: {test: rate}} -> {test: the setting that is the fastest there}"""
    return {test: max((s for s in screened if test in screened[s]), key=lambda s: screened[s][test]) for test in tests}


def tests_of_settings(*choices):
    """{test: setting}, several -> {setting: its tests}: what a round has to run."""
    wanted = {}
    for choice in choices:
        for test, setting in choice.items():
            tests = wanted.setdefault(setting, [])
            if test not in tests:
                tests.append(test)
    return wanted


def against(rounds, ours, test, peer):
    """Medians of both sides and of the ratio within a round, which a slow spell of the machine leaves alone."""
    pairs = [(r["stamp"][ours][test], r["llama"][str(peer)][test]) for r in rounds]
    ratios = [a / b for a, b in pairs]
    return {"test": test, "recipe": ours, "stamp": median(a for a, _ in pairs), "peer": str(peer),
            "llama": median(b for _, b in pairs), "ratio": median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}


def markdown_table(header, rows, left=1):
    """The first `left` columns are words, the others numbers."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * left + "---:|" * (len(header) - left)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]) + "\n"


def speed_table(rows):
    return markdown_table(
        ["test", "recipe of stamp", "llama.cpp's best setting", "stamp, tokens/s", "llama.cpp, tokens/s", "ratio, median", "min",
         "max"],
        [[r["test"], r["recipe"], r["peer"], f"{r['stamp']:.1f}", f"{r['llama']:.1f}", f"{r['ratio']:.2f}",
          f"{r['ratio_min']:.2f}", f"{r['ratio_max']:.2f}"] for r in rows], left=3)


def screening_table(screened, tests):
    cell = lambda rates, test: f"{rates[test]:.1f}" if test in rates else ""
    return markdown_table(["llama.cpp's setting, one run", *tests],
                          [[setting, *(cell(rates, test) for test in tests)] for setting, rates in screened.items()])


SVG_STYLE = """text{font:12px system-ui,sans-serif;fill:#1c2430}.t{font-weight:600;font-size:14px}.s{fill:#5b6675}
.w{stroke:#1c2430;stroke-opacity:.55}.one{stroke:#7a8391;stroke-dasharray:3 3}
.c0{fill:#1d5fbf}.c1{fill:#0f7b5f}.c2{fill:#c2570c}.c3{fill:#8a3ab9}
@media(prefers-color-scheme:dark){text{fill:#e6e9ee}.w{stroke:#e6e9ee}.s{fill:#a0abb9}
.c0{fill:#6ba6ff}.c1{fill:#4fcfa5}.c2{fill:#f5a35c}.c3{fill:#cf95f0}}"""


def ratio_svg(title, rows):
    """A bar for each row, as long as its ratio; a line through all where both are equally fast; whiskers from the least
    to the greatest ratio."""
    left, width, bar, gap, top = 110, 620, 20, 14, 64
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    tests = list(dict.fromkeys(row["test"] for row in rows))
    most = max(1.0, *(row["ratio_max"] for row in rows))
    scale = (width - 110) / most
    body, y = [], top
    for test in tests:
        of_test = [row for row in rows if row["test"] == test]
        middle = y + len(of_test) * bar / 2 + 4
        body.append(f'<text x="{left - 8}" y="{middle:.0f}" text-anchor="end">{html.escape(test)}</text>')
        for row in of_test:
            length, low, high = (row[key] * scale for key in ("ratio", "ratio_min", "ratio_max"))
            tooltip = f"{row['recipe']} {row['stamp']:.1f} tokens/s, llama.cpp ({row['peer']}) {row['llama']:.1f}"
            body.append(f'<rect class="c{recipes.index(row["recipe"]) % 4}" x="{left}" y="{y}" width="{length:.1f}" '
                        f'height="{bar - 3}"><title>{html.escape(tooltip)}</title></rect>'
                        f'<path d="M{left + low:.1f} {y + bar / 2 - 1.5}H{left + high:.1f}" class="w"/>'
                        f'<text x="{left + high + 6:.1f}" y="{y + 13}">{row["ratio"]:.2f} '
                        f'<tspan class="s">{row["stamp"]:.0f} : {row["llama"]:.0f}</tspan></text>')
            y += bar
        y += gap
    legend, x = [], left
    for i, recipe in enumerate(recipes):
        legend.append(f'<rect class="c{i % 4}" x="{x}" y="30" width="12" height="12"/>'
                      f'<text x="{x + 17}" y="41">{html.escape(recipe)}</text>')
        x += 30 + 8 * len(recipe)
    one = left + scale
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width} {y + 20}" width="{left + width}" '
            f'height="{y + 20}" role="img" aria-label="{html.escape(title)}"><style>{SVG_STYLE}</style>'
            f'<text class="t" x="10" y="18">{html.escape(title)}</text>{"".join(legend)}{"".join(body)}'
            f'<path class="one" d="M{one:.1f} {top - 8}V{y}"/><text class="s" x="{one:.1f}" y="{y + 14}" '
            f'text-anchor="middle">as fast as llama.cpp</text></svg>\n')
