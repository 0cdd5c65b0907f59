#!/usr/bin/env python3
"""One self-contained HTML page from what gpu_check.sh recorded.

    gpu_page.py RESULT.json OUT.html
"""
import html
import json
import statistics
import sys
from pathlib import Path

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{border:1px solid #ccc;padding:.25rem .6rem;text-align:right}
td:first-child,th:first-child{text-align:left}.bad{color:#b00020}.unknown{color:#777}
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}td,th{border-color:#444}.bad{color:#ff6b6b}}"""


def number(value, digits=4):
    return f"{value:.{digits}g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def table(header, rows):
    cell = lambda tag, value: f"<{tag}>{html.escape(number(value))}</{tag}>"
    lines = ["<table><tr>" + "".join(cell("th", h) for h in header) + "</tr>"]
    lines += ["<tr>" + "".join(cell("td", value) for value in row) + "</tr>" for row in rows]
    return "\n".join(lines) + "</table>"


def not_checked(what):
    return f'<p class="unknown">Not checked: {html.escape(what)}</p>'


def verdict(good, text):
    return f'<p{"" if good else " class=bad"}>{html.escape(text)}</p>'


def speeds(result):
    """Rows of medians: a test, then tokens per second of each engine that ran."""
    engines = {f"stamp on {device}": result["bench"][device] for device in ("cuda", "cpu") if result["bench"][device]}
    engines |= {name: peer for name, peer in (result.get("peers") or {}).items() if peer}
    names = list(dict.fromkeys(test["name"] for engine in engines.values() for test in engine["tests"]))
    by_engine = {name: {t["name"]: statistics.median(t["samples"]) for t in engine["tests"]} for name, engine in engines.items()}
    return ["tokens/s, median", *engines], [[test, *(by_engine[e].get(test, "") for e in engines)] for test in names]


def page(result):
    parts = [f"<h1>stamp on {html.escape(result['gpu'] or 'an unknown GPU')}</h1>", "<h2>Tests on the device</h2>"]
    if result["tests"]:
        wrong = result["tests"]["failures"] + result["tests"]["errors"]
        parts.append(verdict(wrong == 0, f"{result['tests']['tests']} tests, {wrong} failed"))
    else:
        parts.append(not_checked("the tests did not run to their end"))
    if result["compute_sanitizer_clean"] is None:
        parts.append(not_checked("no compute-sanitizer"))
    else:
        clean = result["compute_sanitizer_clean"]
        parts.append(verdict(clean, "compute-sanitizer: " + ("clean" if clean else "reports faults")))
    parts.append("<h2>Products against cuBLAS FP16</h2>")
    if products := result["products"]:
        rows = products if isinstance(products, list) else products["products"]
        header = list(rows[0])
        parts.append(table(header, [[row.get(key, "") for key in header] for row in rows]))
    else:
        parts.append(not_checked("the products were not timed"))
    parts.append("<h2>Whole models</h2>")
    header, rows = speeds(result)
    parts.append(table(header, rows) if rows else not_checked("no model directory"))
    for peer, measured in (result.get("peers") or {}).items():
        if not measured:
            parts.append(not_checked(f"{peer} is not installed"))
    parts.append("<h2>Perplexity</h2>")
    perplexities = [[device, p["recipe"], p["ppl"], p["tokens_scored"]] for device, p in result["perplexity"].items() if p]
    parts.append(table(["device", "recipe", "perplexity", "tokens scored"], perplexities) if perplexities
                 else not_checked("no evaluation text or no model"))
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>stamp on a GPU</title>'
            f"<style>{STYLE}</style></head><body>{chr(10).join(parts)}</body></html>\n")


def main():
    if len(sys.argv) != 3:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        text = page(json.loads(Path(sys.argv[1]).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{sys.argv[1]}: not a result of gpu_check.sh ({type(error).__name__}: {error})", file=sys.stderr)
        return 2
    Path(sys.argv[2]).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
