"""stamp bench and llama-bench as one kind of measurement: tokens per second of each test, and peak memory."""
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Columns:
    """What one run measures; tests are named as stamp bench names them: pp512, tg128, tg128@2048."""
    prefill: tuple = ()
    decode: int = 0
    depths: tuple = ()

    def names(self):
        decode = [f"tg{self.decode}" + (f"@{depth}" if depth else "") for depth in self.depths]
        return [f"pp{n}" for n in self.prefill] + decode

    def only(self, names):
        return Columns(tuple(n for n in self.prefill if f"pp{n}" in names), self.decode,
                       tuple(d for d in self.depths if f"tg{self.decode}" + (f"@{d}" if d else "") in names))


@dataclass(frozen=True)
class PeerSetting:
    """A way to run llama.cpp. Quantised caches need flash attention. Integer weights are repacked at load for this CPU
    where it has a form for them, which is llama.cpp's default."""
    weights: str  # F16, Q8_0, Q4_0
    flash_attention: bool
    cache: str = "f16"  # f16, q8_0, q4_0

    def __str__(self):
        return self.weights + (", flash attention" if self.flash_attention else "") + \
            (f", cache {self.cache}" if self.cache != "f16" else "")

    def flags(self):
        return ["-fa", "on" if self.flash_attention else "off", "-ctk", self.cache, "-ctv", self.cache]


# Huge pages for llama.cpp: weights read into memory instead of mapped, and glibc's malloc asking for huge pages.
LLAMA_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def stamp_environment(ops):
    return {"STAMP_FORCE_OPS": ops} if ops else {}


def peak_bytes(pid):
    """Of what the process has resident, so far. A child's rusage would count what its parent had when it forked."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def call(command, environment=None):
    """-> (stdout, peak resident bytes of the process but for its last moment)"""
    # Variables that change what stamp measures stay out.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("STAMP_")} | (environment or {})
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process, peak = subprocess.Popen([str(part) for part in command], stdout=out, stderr=errors, env=clean), 0
        while process.poll() is None:
            peak = max(peak, peak_bytes(process.pid))
            time.sleep(0.05)
        if process.returncode != 0:
            errors.seek(0)
            sys.exit(f"{command[0]} ended with {process.returncode}: {errors.read().strip()[-2000:]}")
        out.seek(0)
        return out.read(), peak


def say(text):
    print(text, file=sys.stderr, flush=True)


def comma(values):
    return ",".join(map(str, values))


@dataclass
class Stamp:
    program: Path
    threads: int
    ops: str = ""  # the instruction set it is held to
    report: dict = field(default_factory=dict)  # the last run's own

    def bench(self, model, columns, recipe="", repeat=1):
        """-> ({test: median of tokens per second}, peak bytes); every test has run once before it counts."""
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "bench.json"
            # Nothing to decode, or to prefill, is one token: the program wants a number.
            _, peak = call([self.program, "bench", "--model", model, "--device", "cpu", "--threads", self.threads,
                            "--prefill", comma(columns.prefill or (1,)), "--decode", columns.decode or 1,
                            "--depth", comma(columns.depths or (0,)), "--repeat", repeat, "--json", file,
                            *(["--recipe", recipe] if recipe else [])], stamp_environment(self.ops))
            self.report = json.loads(file.read_text())
        rates = {test["name"]: test["median"] for test in self.report["tests"]}
        return {name: rates[name] for name in columns.names()}, peak


@dataclass
class Llama:
    program: Path
    threads: int
    report: dict = field(default_factory=dict)

    def bench(self, gguf, setting, columns, warm=True, load_mode="none", repeat=1):
        """-> ({test: median of tokens per second}, peak bytes); every prompt has run once before it counts if `warm`."""
        rates, peak = {}, 0
        base = [self.program, "-m", gguf, "-t", self.threads, "-r", repeat, "-o", "json", "-lm", load_mode, *setting.flags(),
                *([] if warm else ["--no-warmup"])]
        parts = []
        if columns.prefill:
            parts.append(["-n", 0, "-p", comma(columns.prefill)])
        if columns.depths:
            parts.append(["-p", 0, "-n", columns.decode, "-d", comma(columns.depths)])
        for part in parts:
            out, bytes_ = call(base + part, LLAMA_ENVIRONMENT)
            peak = max(peak, bytes_)
            for self.report in json.loads(out):
                kind = f"pp{self.report['n_prompt']}" if self.report["n_prompt"] else f"tg{self.report['n_gen']}"
                depth = f"@{self.report['n_depth']}" if self.report["n_depth"] else ""
                rates[kind + depth] = median(self.report["samples_ts"])
        return rates, peak


def run_rounds(count, jobs, tell):
    """`jobs` are (program, name, measure() -> {test: rate}); each round runs them all, in turns forwards and backwards, so
    that a slow spell of the machine touches all. tell(rates) comes after each; -> by round, {program: {name: rates}}"""
    rounds = []
    for i in range(count):
        rates = {"stamp": {}, "llama": {}}
        for program, name, measure in jobs if i % 2 == 0 else reversed(jobs):
            rates[program][str(name)] = measure()
        rounds.append(rates)
        say(f"round {i + 1} of {count}: " + tell(rates))
    return rounds
