#!/usr/bin/env python3
"""The table of perplexities in the README: transform x levels x rows x weights x cache, each figure with its error.

    python3 tests/bench/quality.py --stamp build/release/stamp --model DIR --file wikitext-2-test.raw --jobs 4

Every row is one run of `stamp perplexity` (protocol gptq, windows of 2048 tokens, or of 8192 over the same tokens).
Quantised weights are made by `stamp quantize`, GPTQ's with the row's own activations; tuned plans by `stamp inspect
--tune`; both over text that the model writes itself. What a row needs runs before it, --jobs at a time, with a share
of --threads each. All results are kept in --out, scored windows too: an interrupted run continues, and what is there
is not computed again. The table goes to stdout, OUT/quality.md and OUT/quality.json. Needs only Python.

"loss" is ln(perplexity / that of f32); "closing" the share of the baseline's loss, the same bits without a transform,
that the row does not have: 1 - loss / loss of the baseline. Their errors are jackknife estimates over the windows,
which all rows share.
"""
import argparse
import concurrent.futures
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

WINDOW, LONG = 2048, 8192  # LONG: the limit of SmolLM2's context
ROTATED = {"residual": True, "head": True, "down": True, "seed": 0}
EIGHT = {"low_bits": 8}


def plan(transform="identity", levels=None, rows=2):
    fields = {"low_bits": 4, "high_bits": 8, "high_rows": rows, "block": 64, "transform": transform}
    return fields | ({"levels": levels} if levels else {})


@dataclass
class Row:
    recipe: object = "f32"  # a built-in recipe's name, or a recipe's parts
    baseline: str = None  # the row whose loss it closes
    tuned: tuple = None  # transforms that the plans of single inputs are searched among; (): all
    context: int = WINDOW


def activations(values, baseline=None, tuned=None):
    return Row({"rotation": ROTATED, "activations": values}, baseline, tuned)


def cache(values, baseline=None, context=WINDOW):
    return Row({"rotation": ROTATED, "kv": values}, baseline, context=context)


def weights(method, baseline=None, value_bits=4):
    return Row({"weights": {"bits": 4, "group": 64, "method": method, "value_bits": value_bits}, "rotation": ROTATED}, baseline)


HAAR = plan("haar", 5)
A4, KV4, LONG_KV4 = "activations 4 bits", "cache 4 bits", "cache 4 bits, context 8192"
RTN, GPTQ = "weights 4 bits, nearest, rotated", "weights 4 bits, those of v 8, GPTQ, rotated"
ROWS = {
    "f32": Row(),
    "activations 8 bits": activations(EIGHT),
    A4: activations(plan()),
    f"{A4}, Haar 5/2": activations(HAAR, A4),
    f"{A4}, DCT": activations(plan("dct"), A4),
    f"{A4}, Walsh-Hadamard": activations(plan("walsh-hadamard"), A4),
    f"{A4}, Haar 3/2 (levels do not fit the rows)": activations(plan("haar", 3), A4),
    f"{A4}, 4 rows": activations(plan(rows=4)),
    f"{A4}, Haar 4/4": activations(plan("haar", 4, 4), f"{A4}, 4 rows"),
    f"{A4}, identity tuned": activations(HAAR, A4, ("identity",)),
    f"{A4}, Haar tuned": activations(HAAR, A4, ("haar",)),
    f"{A4}, tuned": activations(HAAR, A4, ()),
    KV4: cache(plan()),
    f"{KV4}, Haar 5/2": cache(HAAR, KV4),
    f"{KV4}, DCT": cache(plan("dct"), KV4),
    RTN: weights("rtn"),
    "weights 4 bits, GPTQ, rotated": weights("gptq", RTN),
    GPTQ: weights("gptq", RTN, 8),
    "w4a4kv4": Row("w4a4kv4"),
    "w4a4kv4-stamp": Row("w4a4kv4-stamp", "w4a4kv4"),
    "w4a4kv4-stamp, tuned": Row("w4a4kv4-stamp", "w4a4kv4", ()),
    "w4a8kv4-stamp": Row("w4a8kv4-stamp"),
    "f32, context 8192": Row(context=LONG),
    LONG_KV4: cache(plan(), context=LONG),
    "cache 4 bits, Haar 5/2, context 8192": cache(HAAR, LONG_KV4, LONG),
}


def stem(text):
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in text)


class Task:
    """A command that makes a file or directory, after those that it needs."""

    def __init__(self, label, result, cost, command, needs=()):
        self.label, self.result, self.cost, self.command, self.needs = label, result, cost, command, list(needs)


class Plan:
    """The tasks behind the rows: each once, whoever needs it."""

    def __init__(self, arguments):
        self.arguments, self.tasks = arguments, {}
        self.threads = max(1, arguments.threads // arguments.jobs)

    def task(self, key, *fields):
        return self.tasks.setdefault(key, Task(key, *fields))

    def stamp(self, command, *flags):
        return [self.arguments.stamp, command, "--threads", self.threads, *flags]

    def tune(self, transforms):
        """The recipe with searched plans. Its costs of errors are measured once, by the search among all."""
        out = self.arguments.out / ("-".join(["tuned", *transforms]) + ".json")
        needs = [self.tune(())] if transforms else []
        chosen = ["--transforms", ",".join(transforms)] if transforms else []
        # The search falls back on the recipe's own plans, so that must not have a transform that is not searched.
        recipe = "w4a4kv4" if transforms == ("identity",) else "w4a4kv4-stamp"
        command = self.stamp("inspect", "-m", self.arguments.model, "--recipe", recipe, "--tune", out,
                             "--sensitivities", self.arguments.out / "sensitivities.json", *chosen)
        return self.task(f"search {stem(out.stem)}", out, 10_000 if transforms else 120_000, lambda: command, needs)

    def recipe(self, name, row):
        """-> (what --recipe takes, tasks before it): a name, or a function that writes the file."""
        if row.tuned is None and isinstance(row.recipe, str):
            return lambda: row.recipe, []
        search = self.tune(row.tuned) if row.tuned is not None else None

        def write():
            if isinstance(row.recipe, str):
                return search.result
            parts = {"name": name} | row.recipe
            if search:
                parts["site_plans"] = json.loads(search.result.read_text()).get("site_plans", {})
            file = self.arguments.out / f"{stem(name)}.recipe.json"
            file.write_text(json.dumps(parts, indent=2) + "\n")
            return file
        return write, [search] if search else []

    def add(self, name, row):
        """-> the row's report of `stamp perplexity`."""
        a = self.arguments
        chunks = max(1, a.chunks * WINDOW // row.context) if a.chunks > 0 else -1
        report = a.out / f"{stem(name)}-{chunks}.json"
        recipe, needs = self.recipe(name, row)
        quantised = isinstance(row.recipe, str) and row.recipe != "f32" or "weights" in row.recipe
        directory = a.out / f"weights-{stem(name)}"
        if quantised:
            made = self.task(f"quantize {name}", directory, 50_000, lambda: self.stamp(
                "quantize", "-m", a.model, "--out", directory, "--recipe", recipe()), needs)
            needs = [made]

        def command():
            model = ["-m", directory] if quantised else ["-m", a.model, "--recipe", recipe()]
            return self.stamp("perplexity", *model, "--file", a.file, "--context", row.context, "--chunks", chunks,
                              "--device", a.device, "--resume", report.with_suffix(".state"), "--json", report)
        cost = max(1, chunks) * row.context * (2 if row.context == LONG else 1)  # attention grows with the context
        self.task(f"measure {name}", report, cost, command, needs)
        return report


class Runner:
    """Runs tasks --jobs at a time and says what is left."""

    def __init__(self, tasks, arguments):
        self.done = {t.label for t in tasks if t.result.exists()}
        self.left = [t for t in tasks if t.label not in self.done]
        self.arguments, self.failed = arguments, []
        self.total, self.start, self.finished = sum(t.cost for t in self.left), time.monotonic(), 0

    def run(self):
        running = {}
        with concurrent.futures.ThreadPoolExecutor(self.arguments.jobs) as pool:
            while self.left or running:
                for task in self.ready()[:self.arguments.jobs - len(running)]:
                    self.left.remove(task)
                    running[pool.submit(self.execute, task)] = task
                if not running:
                    break  # what is left needs something that failed
                for future in concurrent.futures.wait(running, return_when="FIRST_COMPLETED").done:
                    self.settle(running.pop(future), future.result())
        return self.failed

    def ready(self):
        """Those that others wait for first, then the longest."""
        ready = [t for t in self.left if all(n.label in self.done for n in t.needs)]
        return sorted(ready, key=lambda t: (-sum(t in other.needs for other in self.left), -t.cost))

    def execute(self, task):
        with open(self.arguments.out / f"{stem(task.label)}.log", "w") as log:
            begin = time.monotonic()
            code = subprocess.run(list(map(str, task.command())), stdout=log, stderr=log).returncode
        return code, time.monotonic() - begin

    def settle(self, task, outcome):
        code, seconds = outcome
        if code != 0:
            self.failed.append(task.label)
            log = self.arguments.out / f"{stem(task.label)}.log"
            print(f"quality: {task.label} failed with exit code {code}; the end of {log}:", *log.read_text().splitlines()[-3:],
                  sep="\n", file=sys.stderr, flush=True)
            return
        self.done.add(task.label)
        self.finished += task.cost
        elapsed = time.monotonic() - self.start
        eta = elapsed / self.finished * (self.total - self.finished)
        print(f"quality: {task.label}: {seconds:.0f} s; {100 * self.finished // self.total} % after {elapsed:.0f} s, "
              f"about {eta:.0f} s left", file=sys.stderr, flush=True)


def exact_of(name):
    """The row of f32 over the same windows."""
    return "f32" if ROWS[name].context == WINDOW else "f32, context 8192"


def wanted(only):
    """The rows whose names contain `only`, and those that they are compared with."""
    chosen = {name for name in ROWS if only in name}
    for name in list(chosen):
        chosen |= {exact_of(name)} | ({ROWS[name].baseline} if ROWS[name].baseline else set())
    return {name: row for name, row in ROWS.items() if name in chosen}


def losses(reports, name):
    """-> by window, the sum of -ln p beyond that of f32, and all scored tokens."""
    exact = exact_of(name)
    if exact not in reports:
        return None
    pairs = zip(reports[name]["chunks"], reports[exact]["chunks"])
    return [a["nll"] - b["nll"] for a, b in pairs], sum(c["tokens"] for c in reports[exact]["chunks"])


def jackknife(windows, value):
    """-> value(windows) and its standard error, from leaving out one window at a time."""
    estimate, n = value(windows), len(windows)
    if n < 2:
        return estimate, math.nan
    left_out = [value(windows[:i] + windows[i + 1:]) for i in range(n)]
    mean = sum(left_out) / n
    return estimate, math.sqrt((n - 1) / n * sum((v - mean) ** 2 for v in left_out))


def loss(reports, name):
    if ROWS[name].recipe == "f32" or losses(reports, name) is None:
        return None
    windows, tokens = losses(reports, name)
    share = tokens / len(windows)
    return jackknife(windows, lambda w: sum(w) / len(w) / share)


def closing(reports, name):
    baseline = ROWS[name].baseline
    if baseline not in reports or losses(reports, name) is None:
        return None
    windows = list(zip(losses(reports, name)[0], losses(reports, baseline)[0]))
    return jackknife(windows, lambda w: 1 - sum(a for a, _ in w) / sum(b for _, b in w))


def shown(pair, digits=3):
    return "" if pair is None else f"{pair[0]:.{digits}f}" + ("" if math.isnan(pair[1]) else f" ± {pair[1]:.{digits}f}")


def f16_bytes_per_token(model):
    config = json.loads((model / "config.json").read_text())
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    return config["num_hidden_layers"] * config.get("num_key_value_heads", heads) * head_dim * 2 * 2


def table(reports, model):
    lines = ["| what is quantised | bits: weights, activations, cache | cache / f16 cache | perplexity | loss (ln) | closing |",
             "|---|---|---:|---:|---:|---:|"]
    for name, r in reports.items():
        bits = ", ".join(f"{r[k]:.3f}".rstrip("0").rstrip(".")
                         for k in ("weight_bits", "mean_activation_bits", "mean_kv_bits"))
        kv = f"{r['kv_bytes_per_token'] / f16_bytes_per_token(model):.3f}" if r["mean_kv_bits"] < 32 else ""
        lines.append(f"| {name} | {bits} | {kv} | {shown((r['ppl'], r['ppl_stderr']), 2)} | "
                     f"{shown(loss(reports, name), 4)} | {shown(closing(reports, name))} |")
    return lines


def claims(reports, model):
    """What is asked of the rows: (text, measured, bound, holds)."""
    def ratio(name):
        return reports[name]["ppl"] / reports["f32"]["ppl"]

    def bytes_of(name):
        return reports[name]["kv_bytes_per_token"] / f16_bytes_per_token(model)
    long_haar = "cache 4 bits, Haar 5/2, context 8192"
    asked = [
        ("activations 8 bits, perplexity / f32", "<=", 1.005, lambda: ratio("activations 8 bits")),
        ("activations 4 bits, Haar tuned, closing", ">=", 0.60, lambda: closing(reports, f"{A4}, Haar tuned")[0]),
        ("activations 4 bits, tuned, closing", ">=", 0.65, lambda: closing(reports, f"{A4}, tuned")[0]),
        ("cache 4 bits, Haar, perplexity / f32", "<=", 1.03, lambda: ratio(f"{KV4}, Haar 5/2")),
        ("cache 4 bits, Haar, closing", ">=", 0.65, lambda: closing(reports, f"{KV4}, Haar 5/2")[0]),
        ("cache 4 bits, bytes / f16 at 2048", "<=", 0.31, lambda: bytes_of(f"{KV4}, Haar 5/2")),
        ("cache 4 bits, bytes / f16 at 8192", "<=", 0.29, lambda: bytes_of(long_haar)),
        ("cache 4 bits, closing at 8192 - closing at 2048", ">=", 0,
         lambda: closing(reports, long_haar)[0] - closing(reports, f"{KV4}, Haar 5/2")[0]),
        ("weights 4 bits, loss of GPTQ / of nearest", "<=", 0.5, lambda: loss(reports, GPTQ)[0] / loss(reports, RTN)[0]),
        ("w4a4kv4-stamp, closing", ">=", 0.55, lambda: closing(reports, "w4a4kv4-stamp")[0]),
        ("w4a4kv4-stamp tuned, closing", ">=", 0.55, lambda: closing(reports, "w4a4kv4-stamp, tuned")[0]),
        ("w4a8kv4-stamp, perplexity / that of its weights alone", "<=", 1.10,
         lambda: ratio("w4a8kv4-stamp") / ratio(GPTQ)),
    ]
    lines = ["| asked | bound | measured | holds |", "|---|---:|---:|---|"]
    for text, relation, bound, value in asked:
        try:
            measured = value()
        except (KeyError, TypeError):
            continue  # of rows that were not run
        holds = measured <= bound if relation == "<=" else measured >= bound
        lines.append(f"| {text} | {relation} {bound} | {measured:.4f} | {'yes' if holds else 'no'} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamp", type=Path, default=Path("build/release/stamp"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--chunks", type=int, default=20, help="windows of 2048 tokens; a quarter as many of 8192")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of all jobs together")
    parser.add_argument("--jobs", type=int, default=1, help="commands that run at the same time")
    parser.add_argument("--device", default="auto", help="where perplexities are computed: auto, cpu or cuda")
    parser.add_argument("--only", default="", help="rows whose names contain this, and what they are compared with")
    parser.add_argument("--out", type=Path, default=Path("build/quality"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    work = Plan(arguments)
    files = {name: work.add(name, row) for name, row in wanted(arguments.only).items()}
    failed = Runner(list(work.tasks.values()), arguments).run()
    reports = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    (arguments.out / "quality.json").write_text(json.dumps(reports, indent=1) + "\n")
    text = "\n".join(table(reports, arguments.model) + [""] + claims(reports, arguments.model))
    (arguments.out / "quality.md").write_text(text + "\n")
    print(text)
    if failed or len(reports) < len(files):
        sys.exit(f"quality: {len(files) - len(reports)} rows are missing; the same command continues")


if __name__ == "__main__":
    main()
