#!/usr/bin/env python3
"""stamp and llama.cpp on a Llama of 1.1 billion parameters with random weights: speed, memory, and a context of 32k.

peers.sh shape prepares what it needs. The model (random_model.py, the shape of TinyLlama-1.1B with SmolLM2's vocabulary)
is stamp's `w4a8kv4-stamp`, rounded to nearest, and llama.cpp's Q4_0, all matrices: embedding and head have 4 bits there, 8
in the recipe, which is therefore measured with 4, too. Speeds are paired as in peers.py. Memory is the peak of a process that prefills 512 tokens and decodes; of llama.cpp's
ways to load, the smaller one.

The long context is measured on a part of the model, --long-layers layers: to fill the cache of all takes an hour, and what
a token takes grows by the same amount in every layer. Growth is the time of a token behind --context others less that of
one behind none.
"""
import argparse
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from peer_models import directory_gguf, quantised_directory
from peer_programs import Columns, Llama, PeerSetting, Stamp, run_rounds, say
from peer_report import against, best_settings, markdown_table, screening_table, speed_table, tests_of_settings
from peers import add_column_arguments, add_common_arguments, parse

RECIPE = "w4a8kv4-stamp"
HEAD_BITS = {RECIPE: None, f"{RECIPE}, head of 4 bits": 4}  # of what is compared; none: the recipe's own
SETTINGS = [PeerSetting("Q4_0", False), PeerSetting("Q4_0", True), PeerSetting("Q4_0", True, "q8_0")]
MIB = 1 << 20


class Shape:
    """The model in both forms."""

    def __init__(self, arguments, layers=None):
        name = f"random-{arguments.shape}" + (f"-{layers}-layers" if layers else "")
        directory = arguments.out / name
        if not (directory / "model.safetensors").exists():
            say(f"making {directory}")
            subprocess.run([sys.executable, Path(__file__).parent / "random_model.py", arguments.shape, directory, "--tokenizer",
                            arguments.model, *(["--layers", str(layers)] if layers else [])], check=True, stdout=sys.stderr)
        self.config = json.loads((directory / "config.json").read_text())
        self.layers = self.config["num_hidden_layers"]
        self.gguf = directory_gguf(directory, arguments.out / f"{name}.Q4_0.gguf", "Q4_0")
        self.quantised = partial(quantised_directory, arguments.stamp, directory, arguments.out, RECIPE)

    def f16_kv_bytes(self):
        """Of a token."""
        c = self.config
        return 2 * 2 * self.layers * c["num_key_value_heads"] * c["hidden_size"] // c["num_attention_heads"]


def growth(rates, decode, depth):
    """Seconds that a token takes more behind `depth` others."""
    return 1 / rates[f"tg{decode}@{depth}"] - 1 / rates[f"tg{decode}"]


def long_table(result):
    ours, theirs = result["stamp"], result["llama"]
    decode, depth, layers = result["decode"], result["depth"], result["layers"]
    rows = [[name, f"{1e3 / r['rates'][f'tg{decode}']:.2f}", f"{1e3 / r['rates'][f'tg{decode}@{depth}']:.2f}",
             f"{1e3 * growth(r['rates'], decode, depth):.2f}", f"{r['kv_bytes_per_token'] / layers:.0f}"] for name, r in (("stamp", ours), (f"llama.cpp, {result['setting']}", theirs))]
    share = growth(ours["rates"], decode, depth) / growth(theirs["rates"], decode, depth)
    rows.append(["stamp : llama.cpp", "", "", f"{share:.3f}", f"{ours['kv_bytes_per_token'] / theirs['kv_bytes_per_token']:.3f}"])
    return markdown_table([f"{layers} layers", "ms a token behind 0", f"behind {depth}", "growth, ms",
                           "cache, bytes a token and layer"], rows)


def memory_table(memory):
    ours, theirs = memory["stamp"], memory["llama"]
    least = min(theirs.values())
    rows = [[f"stamp, {recipe}", f"{bytes_ / MIB:.0f}", f"{bytes_ / least:.2f}"] for recipe, bytes_ in ours.items()]
    rows += [[f"llama.cpp Q4_0, weights {way}", f"{bytes_ / MIB:.0f}", ""] for way, bytes_ in theirs.items()]
    return markdown_table(["peak memory", "MiB", "of llama.cpp's least"], rows)


def measure_long(arguments, stamp, llama):
    shape, decode = Shape(arguments, arguments.long_layers), 16
    depth = arguments.context - decode
    columns = Columns(decode=decode, depths=(0, depth))
    probe = Columns(decode=decode, depths=(min(4096, depth),))
    say(f"a context of {arguments.context}, {shape.layers} layers: stamp")
    rates, _ = stamp.bench(shape.quantised(), columns, repeat=3)
    result = {"decode": decode, "depth": depth, "layers": shape.layers,
              "stamp": {"rates": rates, "kv_bytes_per_token": stamp.report["kv_bytes_per_token"]}}
    probed = {s: llama.bench(shape.gguf, s, probe)[0] for s in SETTINGS if s.cache == "f16"}
    setting = best_settings(probed, probe.names())[probe.names()[0]]
    say(f"a context of {arguments.context}, {shape.layers} layers: llama.cpp, {setting}")
    # Its memory is not comparable: llama-bench keeps a copy of the filled cache.
    rates, _ = llama.bench(shape.gguf, setting, columns, repeat=3)
    return result | {"setting": str(setting),
                     "llama": {"rates": rates, "kv_bytes_per_token": shape.f16_kv_bytes()}}


def measure_speed(arguments, stamp, llama):
    shape, columns = Shape(arguments), Columns(arguments.prefill, arguments.decode, arguments.depth)
    tests, screened = columns.names(), {}
    for setting in SETTINGS:
        say(f"once: {setting}")
        screened[setting] = llama.bench(shape.gguf, setting, columns, warm=False)[0]
    best = best_settings(screened, tests)

    directories = {recipe: shape.quantised(head_bits) for recipe, head_bits in HEAD_BITS.items()}

    def run_stamp(directory):
        return stamp.bench(directory, columns)[0]

    def run_llama(setting, its_tests):
        return llama.bench(shape.gguf, setting, columns.only(its_tests))[0]

    def ratios(rates):
        return ", ".join(f"{t} {rates['stamp'][RECIPE][t] / rates['llama'][str(best[t])][t]:.2f}" for t in tests)

    rounds = run_rounds(arguments.rounds, [
        *(("stamp", recipe, partial(run_stamp, directory)) for recipe, directory in directories.items()),
        *(("llama", setting, partial(run_llama, setting, its_tests))
          for setting, its_tests in tests_of_settings(best).items())], ratios)
    small = Columns(prefill=(512,), decode=arguments.decode, depths=(0,))
    memory = {"stamp": {recipe: stamp.bench(directory, small)[1] for recipe, directory in directories.items()},
              "llama": {way: llama.bench(shape.gguf, SETTINGS[1], small, load_mode=mode)[1]
                        for way, mode in (("read", "none"), ("mapped", "mmap"))}}
    return {"tests": [against(rounds, recipe, test, best[test]) for recipe in directories for test in tests], "screened_tests": tests,
            "screened": {str(setting): rates for setting, rates in screened.items()}, "rounds": rounds, "memory": memory}


def markdown(result):
    text = f"{result['cpu']}, {result['threads']} threads, {result['llama']}. Llama of shape {result['shape']}, random weights.\n"
    if "speed" in result:
        speed = result["speed"]
        text += (f"\n{len(speed['rounds'])} rounds\n\n" + speed_table(speed["tests"]) + "\n"
                 + screening_table(speed["screened"], speed["screened_tests"]) + "\n" + memory_table(speed["memory"]))
    if "long" in result:
        text += "\n" + long_table(result["long"])
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_arguments(parser)
    add_column_arguments(parser)
    parser.set_defaults(rounds=3, decode=32)
    parser.add_argument("--llama-bench", type=Path, required=True)
    parser.add_argument("--shape", default="1b", help="of random_model.py")
    parser.add_argument("--context", type=int, default=32768)
    parser.add_argument("--long-layers", type=int, default=2)
    parser.add_argument("--parts", default="speed,long", help="what to measure: speed, long or both")
    arguments = parse(parser)
    parts = {"speed": measure_speed, "long": measure_long}
    chosen = arguments.parts.split(",")
    if unknown := [part for part in chosen if part not in parts]:
        parser.error(f"--parts: {unknown[0]} is none of {', '.join(parts)}")
    stamp, llama = Stamp(arguments.stamp, arguments.threads, arguments.ops), Llama(arguments.llama_bench, arguments.threads)
    measured = {part: parts[part](arguments, stamp, llama) for part in chosen}
    result = {"cpu": llama.report["cpu_info"], "threads": arguments.threads, "llama": arguments.llama_name,
              "shape": arguments.shape, **measured}
    (arguments.out / "shape_peers.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.out / "shape_peers.md").write_text(markdown(result))
    print(markdown(result), end="")


if __name__ == "__main__":
    main()
