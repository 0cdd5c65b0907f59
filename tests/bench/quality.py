#!/usr/bin/env python3
"""The ablation behind the README's table of perplexities: transform x levels x rows x weights x cache.

    python3 tests/bench/quality.py --stamp build/release/stamp --model DIR --file wikitext-2-test.raw [--chunks 20]

Every row is one run of `stamp perplexity` (protocol gptq); quantised weights are made by `stamp quantize`, GPTQ's with
the row's own activations, tuned plans by `stamp inspect --tune`, both over text that the model writes itself. Results
are kept in --out (build/quality): a run that was interrupted continues, --only takes the rows whose names contain a
text. The table goes to stdout and OUT/quality.md, OUT/quality.json.

"closing" is the share of the loss in log perplexity of the row's baseline, the same bits without a transform, that
the transform removes: 1 - ln(ppl / F) / ln(ppl_baseline / F), F being the perplexity of f32.
"""
import argparse
import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

ROTATED = {"residual": True, "head": True, "down": True, "seed": 0}
UNROTATED = {"residual": False, "head": True, "down": True, "seed": 0}


def plan(transform="identity", levels=None, rows=2):
    fields = {"low_bits": 4, "high_bits": 8, "high_rows": rows, "block": 64, "transform": transform}
    return fields | ({"levels": levels} if levels else {})


def weights(method, group=64, head_bits=16):
    return {"bits": 4, "group": group, "method": method, "head_bits": head_bits}


def tuned(*transforms):
    return plan("haar", 5) | {"tuned": transforms}


EIGHT = {"low_bits": 8}
HAAR = plan("haar", 5)
# name: (weights, rotation, activations, cache, baseline row)
ROWS = {
    "f32": (None, None, None, None, None),
    "activations 8 bits": (None, ROTATED, EIGHT, None, None),
    "activations 4 bits": (None, ROTATED, plan(), None, None),
    "activations 4 bits, Haar 5/2": (None, ROTATED, HAAR, None, "activations 4 bits"),
    "activations 4 bits, Haar 4/4": (None, ROTATED, plan("haar", 4, 4), None, "activations 4 bits, 4 rows"),
    "activations 4 bits, 4 rows": (None, ROTATED, plan(rows=4), None, None),
    "activations 4 bits, Haar 3/2 (mismatch)": (None, ROTATED, plan("haar", 3), None, "activations 4 bits"),
    "activations 4 bits, DCT": (None, ROTATED, plan("dct"), None, "activations 4 bits"),
    "activations 4 bits, Haar tuned": (None, ROTATED, tuned("haar"), None, "activations 4 bits"),
    "activations 4 bits, tuned": (None, ROTATED, tuned(), None, "activations 4 bits"),
    "activations 4 bits, identity tuned": (None, ROTATED, tuned("identity"), None, "activations 4 bits"),
    "activations 4 bits, Walsh-Hadamard": (None, ROTATED, plan("walsh-hadamard"), None, "activations 4 bits"),
    "cache 4 bits": (None, ROTATED, None, plan(), None),
    "cache 4 bits, Haar 5/2": (None, ROTATED, None, HAAR, "cache 4 bits"),
    "cache 4 bits, DCT": (None, ROTATED, None, plan("dct"), "cache 4 bits"),
    "weights 4 bits, nearest, rotated": (weights("rtn"), ROTATED, None, None, None),
    "weights 4 bits, GPTQ, rotated": (weights("gptq"), ROTATED, None, None, "weights 4 bits, nearest, rotated"),
    "weights 4 bits, GPTQ, residual not rotated":
        (weights("gptq"), UNROTATED, None, None, "weights 4 bits, nearest, rotated"),
    "w4a4kv4": (weights("gptq", head_bits=8), ROTATED, plan(), plan(), None),
    "w4a4kv4-stamp": (weights("gptq", head_bits=8), ROTATED, HAAR, HAAR, "w4a4kv4"),
    "w4a4kv4-stamp, tuned": (weights("gptq", head_bits=8), ROTATED, tuned(), HAAR, "w4a4kv4"),
    "w4 (head 8 bits), GPTQ": (weights("gptq", head_bits=8), ROTATED, None, None, None),
    "w4a8kv4-stamp": (weights("gptq", head_bits=8), ROTATED, EIGHT, HAAR, None),
    "w4a8kv4-stamp, residual not rotated": (weights("gptq", head_bits=8), UNROTATED, EIGHT, HAAR, None),
}


def write_recipe(arguments, name, parts):
    """-> the file of a recipe with weights, rotation, activations and cache."""
    recipe = {"name": name}
    recipe |= {k: dict(v) for k, v in zip(("weights", "rotation", "activations", "kv"), parts) if v}
    transforms = recipe.get("activations", {}).pop("tuned", None)
    if transforms is not None:
        recipe["site_plans"] = tune(arguments, transforms, {k: recipe[k] for k in ("rotation", "activations")})
    path = arguments.out / f"{name}.recipe.json"
    path.write_text(json.dumps(recipe, indent=2) + "\n")
    return path


def tune(arguments, transforms, recipe):
    """-> the site_plans that the search finds for the rotated model, from an earlier search if there is one."""
    path = arguments.out / "-".join(["tuned", *transforms, "plans.json"])
    if not path.exists():
        base = arguments.out / "untuned.json"
        base.write_text(json.dumps(recipe))
        found = path.with_suffix(".partial")
        run([arguments.stamp, "inspect", "-m", arguments.model, "--recipe", base, "--tune", found, "--threads",
             arguments.threads, *(["--transforms", ",".join(transforms)] if transforms else [])])
        found.rename(path)
    return json.loads(path.read_text())["site_plans"]


def quantise(arguments, row):
    """-> the directory with the row's weights, made if it does not exist."""
    parts = row[:3] if row[0]["method"] == "gptq" else row[:2]
    name = "weights-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    directory = arguments.out / name
    if not directory.exists():
        run([arguments.stamp, "quantize", "-m", arguments.model, "--out", directory, "--threads", arguments.threads,
             "--recipe", write_recipe(arguments, name, parts)])
    return directory


def run(command):
    print("quality:", *map(str, command), file=sys.stderr)
    if subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit("quality: the command above failed")


def measure(arguments, name, row):
    """-> the report of `stamp perplexity` for one row, from an earlier run if there is one."""
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    report = arguments.out / f"{stem}-{arguments.chunks}.json"
    if not report.exists():
        recipe = write_recipe(arguments, stem, row[:4])
        model = quantise(arguments, row) if row[0] else arguments.model
        partial = report.with_suffix(".partial")
        run([arguments.stamp, "perplexity", "-m", model, "--recipe", recipe, "--file", arguments.file, "--chunks",
             arguments.chunks, "--threads", arguments.threads, "--resume", report.with_suffix(".state"), "--json",
             partial])
        partial.rename(report)
    return json.loads(report.read_text())


def closing(reports, name, baseline):
    if baseline not in reports or "f32" not in reports:
        return None
    ppl, base, exact = (reports[n]["ppl"] for n in (name, baseline, "f32"))
    return 1 - math.log(ppl / exact) / math.log(base / exact)


def table(reports):
    lines = ["| what is quantised | bits: weights, activations, cache | perplexity | loss (ln) | closing |",
             "|---|---|---:|---:|---:|"]
    for name, (*_, baseline) in ROWS.items():
        if name not in reports:
            continue
        r, share = reports[name], closing(reports, name, baseline)
        bits = ", ".join(f"{r[k]:.3f}" for k in ("weight_bits", "mean_activation_bits", "mean_kv_bits"))
        loss = f"{math.log(r['ppl'] / reports['f32']['ppl']):.4f}" if "f32" in reports else ""
        shown = "" if share is None else f"{share:.3f}"
        lines.append(f"| {name} | {bits} | {r['ppl']:.4f} ± {r['ppl_stderr']:.4f} | {loss} | {shown} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamp", type=Path, default=Path("build/release/stamp"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--only", default="", help="rows whose names contain this")
    parser.add_argument("--out", type=Path, default=Path("build/quality"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    reports = {name: measure(arguments, name, row) for name, row in ROWS.items() if arguments.only in name}
    (arguments.out / "quality.json").write_text(json.dumps(reports, indent=1) + "\n")
    text = table(reports)
    (arguments.out / "quality.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
