#!/usr/bin/env python3
"""The paired measurement of peers.sh, which prepares what it needs.

Each round runs stamp and llama.cpp's llama-bench one after the other, in turns which goes first, so that a slow spell
of the machine touches both. The result of a test is the median over rounds of the ratio of their speeds. llama.cpp
runs with flash attention on and off; the setting with the better median counts.
"""
import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from gguf_to_hf import packaged_gguf  # noqa: E402

PREFILL, DECODE, DEPTHS = (512, 2048), 128, (0, 2048)
TESTS = [f"pp{n}" for n in PREFILL] + [f"tg{DECODE}" + (f"@{d}" if d else "") for d in DEPTHS]


FILE_TYPES = {GGMLQuantizationType.F16: LlamaFileType.MOSTLY_F16, GGMLQuantizationType.Q8_0: LlamaFileType.MOSTLY_Q8_0}


def write_gguf(source, target, dtype=GGMLQuantizationType.F16):
    """The GGUF file `source` with its matrices in F16, which are the weights that gguf_to_hf.py writes, or in Q8_0."""
    reader = GGUFReader(source)
    temporary = target.with_suffix(".tmp")
    writer = GGUFWriter(temporary, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.quantization_version"):
            continue
        value = int(FILE_TYPES[dtype]) if key == "general.file_type" else field.contents()
        is_array = field.types[0] == GGUFValueType.ARRAY
        writer.add_key_value(key, value, field.types[0], field.types[-1] if is_array else None)
    for tensor in reader.tensors:
        full = dequantize(tensor.data, tensor.tensor_type)
        if tensor.tensor_type == GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, full)
        else:
            writer.add_tensor(tensor.name, quantize(full, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.rename(target)


def call(command):
    # Variables that change what stamp measures stay out.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STAMP_")}
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment)
    if done.returncode != 0:
        sys.exit(f"peers: {command[0]} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def run_stamp(arguments):
    """-> ({test: tokens per second}, the program's own report)"""
    file = arguments.out / "stamp.json"
    call([arguments.stamp, "bench", "--model", arguments.model, "--device", "cpu", "--threads", arguments.threads,
          "--prefill", ",".join(map(str, PREFILL)), "--decode", DECODE, "--depth", ",".join(map(str, DEPTHS)),
          "--repeat", 1, "--json", file])
    report = json.loads(file.read_text())
    return {test["name"]: test["median"] for test in report["tests"]}, report


def run_llama(arguments, gguf, flash_attention):
    rates, report = {}, {}
    base = [arguments.llama_bench, "-m", gguf, "-t", arguments.threads, "-fa", flash_attention, "-r", 1,
            "-o", "json"]
    for parts in (["-n", 0, "-p", ",".join(map(str, PREFILL))],
                  ["-p", 0, "-n", DECODE, "-d", ",".join(map(str, DEPTHS))]):
        for report in json.loads(call(base + parts)):
            kind = f"pp{report['n_prompt']}" if report["n_prompt"] else f"tg{report['n_gen']}"
            rates[kind + (f"@{report['n_depth']}" if report["n_depth"] else "")] = median(report["samples_ts"])
    return rates, report


def summary(rounds):
    rows = []
    for test in TESTS:
        peer = max(("on", "off"), key=lambda fa: median(r["llama_fa_" + fa][test] for r in rounds))
        ours, theirs = [r["stamp"][test] for r in rounds], [r["llama_fa_" + peer][test] for r in rounds]
        ratios = [a / b for a, b in zip(ours, theirs)]
        rows.append({"test": test, "stamp": median(ours), "llama": median(theirs), "llama_flash_attention": peer,
                     "ratio": median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)})
    return rows


def markdown(result):
    lines = [f"{result['cpu']}, {result['threads']} threads, {len(result['rounds'])} rounds; tokens per second, medians. "
             f"stamp ({result['stamp_isa']}) and {result['llama']}, both with F16 weights.", "",
             "| test | stamp | llama.cpp | flash attention | ratio, median | min | max |",
             "|---|---:|---:|---|---:|---:|---:|"]
    for row in result["tests"]:
        lines.append(f"| {row['test']} | {row['stamp']:.1f} | {row['llama']:.1f} | {row['llama_flash_attention']} "
                     f"| {row['ratio']:.2f} | {row['ratio_min']:.2f} | {row['ratio_max']:.2f} |")
    return "\n".join(lines) + "\n"


def add_common_arguments(parser):
    """What every comparison with llama.cpp takes."""
    parser.add_argument("--stamp", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory for stamp")
    parser.add_argument("--llama-name", default="llama.cpp", help="what the report calls it")
    parser.add_argument("--out", type=Path, required=True, help="directory for the results, the logs and the GGUF files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)


def main():
    parser = argparse.ArgumentParser(description="Paired measurement of stamp and llama.cpp; see peers.sh.")
    add_common_arguments(parser)
    parser.add_argument("--llama-bench", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.threads < 1:
        parser.error("--rounds and --threads must be positive")
    gguf = arguments.out / "SmolLM2-135M-Instruct.F16.gguf"
    if not gguf.exists():
        write_gguf(packaged_gguf(), gguf)
    rounds, stamp_report, llama_report = [], {}, {}
    for i in range(arguments.rounds):
        rates = {}
        for peer in ("stamp", "llama") if i % 2 == 0 else ("llama", "stamp"):
            if peer == "stamp":
                rates["stamp"], stamp_report = run_stamp(arguments)
            else:
                for fa in ("on", "off"):
                    rates["llama_fa_" + fa], llama_report = run_llama(arguments, gguf, fa)
        rounds.append(rates)
        print(f"round {i + 1} of {arguments.rounds}: " + ", ".join(
            f"{t} {rates['stamp'][t] / max(rates['llama_fa_on'][t], rates['llama_fa_off'][t]):.2f}" for t in TESTS),
            file=sys.stderr)
    result = {"cpu": llama_report["cpu_info"], "threads": arguments.threads, "stamp_isa": stamp_report["isa"],
              "llama": arguments.llama_name, "tests": summary(rounds), "rounds": rounds}
    (arguments.out / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.out / "peers.md").write_text(markdown(result))
    print(markdown(result), end="")


if __name__ == "__main__":
    main()
