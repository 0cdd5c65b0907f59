#!/usr/bin/env python3
"""The paired measurement of peers.sh, which prepares what it needs.

First llama.cpp runs every test once with each of its settings: weights F16, Q8_0 and Q4_0, flash attention off and on,
and, with the weights that are the fastest deep in a context, a cache of q8_0 and q4_0. Then rounds: stamp's recipes and
those of llama.cpp's settings that were the best of a test run one after the other, in turns forwards and backwards, so
that a slow spell of the machine touches all. The result of a test is the median over rounds of the ratio of their
speeds; f32 is compared with the best setting with F16 weights, which are the same weights.

stamp's 4-bit weights are rounded to nearest, which is as fast as GPTQ and made in a second; --model-w4 takes a directory
that `stamp quantize --recipe w4a8kv4-stamp` made.
"""
import argparse
import json
from functools import partial
from pathlib import Path

from peer_models import nearest_recipe, quantised_directory, smollm2_gguf
from peer_programs import Columns, Llama, PeerSetting, Stamp, run_rounds, say
from peer_report import against, best_settings, ratio_svg, screening_table, speed_table, tests_of_settings

RECIPES = ("w4a8kv4-stamp", "w4a4kv4-stamp", "f32")


def columns_of(recipe, columns):
    """Decoding is the same with the two recipes of 4-bit weights."""
    return Columns(columns.prefill) if recipe == "w4a4kv4-stamp" else columns


def screen(measure, columns):
    """measure(setting, tests) -> {test: rate}; -> {setting: {test: rate}}"""
    tests, screened = columns.names(), {}
    for weights in ("F16", "Q8_0", "Q4_0"):
        for attention in (False, True):
            setting = PeerSetting(weights, attention)
            screened[setting] = measure(setting, tests)
    deepest, shortest = tests[-1], tests[0]
    longer = tests[1:len(columns.prefill)]
    weights = best_settings(screened, [deepest])[deepest].weights
    for cache in ("q8_0", "q4_0"):
        setting = PeerSetting(weights, True, cache)
        screened[setting] = measure(setting, [test for test in tests if test not in longer])
        # Attention's share grows with the prompt: what loses the short one to a float cache loses the longer ones, too.
        if longer and screened[setting][shortest] >= screened[PeerSetting(weights, True)][shortest]:
            screened[setting] |= measure(setting, longer)
    return screened


def markdown(result):
    return (f"{result['cpu']}, {result['threads']} threads, {len(result['rounds'])} rounds. stamp ({result['stamp_isa']}) with "
            f"{result['stamp_weights']}; {result['llama']}, huge pages, repacked weights, each test at the setting that was the "
            "fastest when all ran once; f32 against the fastest with F16 weights.\n\n"
            + speed_table(result["tests"]) + "\n" + screening_table(result["screened"], result["screened_tests"]))


def add_common_arguments(parser):
    """What every comparison with llama.cpp takes."""
    parser.add_argument("--stamp", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory for stamp")
    parser.add_argument("--llama-name", default="llama.cpp", help="what the report calls it")
    parser.add_argument("--out", type=Path, required=True, help="directory for the results, the logs and the models made")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ops", default="", metavar="NAME",
                        help="the instruction set that stamp is held to (STAMP_FORCE_OPS), beside a llama.cpp built for the same")


def add_column_arguments(parser):
    numbers = lambda text: tuple(sorted(int(part) for part in text.split(",")))
    parser.add_argument("--prefill", type=numbers, default=(512, 2048), help="prompt lengths")
    parser.add_argument("--decode", type=int, default=128, help="tokens to decode")
    parser.add_argument("--depth", type=numbers, default=(0, 2048), help="tokens in the cache when decoding begins")


def parse(parser):
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.threads < 1:
        parser.error("--rounds and --threads must be positive")
    arguments.out.mkdir(parents=True, exist_ok=True)
    return arguments


def main():
    parser = argparse.ArgumentParser(description="Paired measurement of stamp and llama.cpp; see peers.sh.")
    add_common_arguments(parser)
    parser.add_argument("--llama-bench", type=Path, required=True)
    parser.add_argument("--model-w4", type=Path, metavar="DIR", help="of w4a8kv4-stamp, instead of weights rounded to nearest")
    add_column_arguments(parser)
    parser.add_argument("--recipes", default=",".join(RECIPES), help="of stamp, of " + ",".join(RECIPES))
    arguments = parse(parser)
    recipes, columns = arguments.recipes.split(","), Columns(arguments.prefill, arguments.decode, arguments.depth)
    if unknown := [name for name in recipes if name not in RECIPES]:
        parser.error(f"--recipes: {unknown[0]} is none of {', '.join(RECIPES)}")
    stamp, llama = Stamp(arguments.stamp, arguments.threads, arguments.ops), Llama(arguments.llama_bench, arguments.threads)
    models = {"f32": (arguments.model, "")}
    if quantised := [name for name in recipes if name != "f32"]:
        directory = arguments.model_w4 or quantised_directory(arguments.stamp, arguments.model, arguments.out, "w4a8kv4-stamp")
        recipe_of = (lambda name: name) if arguments.model_w4 else lambda name: nearest_recipe(name, arguments.out)
        models |= {name: (directory, recipe_of(name)) for name in quantised}

    def run_stamp(name):
        directory, recipe = models[name]
        return stamp.bench(directory, columns_of(name, columns), recipe)[0]

    def run_llama(setting, tests, warm):
        return llama.bench(smollm2_gguf(arguments.out, setting.weights), setting, columns.only(tests), warm)[0]

    def run_once(setting, tests):
        say(f"once: {setting}")
        return run_llama(setting, tests, False)

    def speeds(rates):
        return ", ".join(f"{name} {test} {rates['stamp'][name][test]:.0f}"
                         for name in recipes for test in columns_of(name, columns).names())

    tests = columns.names()
    screened = screen(run_once, columns)
    best = best_settings(screened, tests)
    of_f16 = best_settings({s: rates for s, rates in screened.items() if s.weights == "F16"}, tests)
    wanted = tests_of_settings(*([best] if quantised else []), *([of_f16] if "f32" in recipes else []))
    rounds = run_rounds(arguments.rounds, [
        *(("stamp", name, partial(run_stamp, name)) for name in recipes),
        *(("llama", setting, partial(run_llama, setting, its_tests, True)) for setting, its_tests in wanted.items())], speeds)
    result = {"cpu": llama.report["cpu_info"], "threads": arguments.threads, "stamp_isa": stamp.report["isa"],
              "stamp_weights": f"4-bit weights of {arguments.model_w4}" if arguments.model_w4 else
              "4-bit weights rounded to nearest",
              "llama": arguments.llama_name,
              "tests": [against(rounds, name, test, (of_f16 if name == "f32" else best)[test])
                        for name in recipes for test in columns_of(name, columns).names()],
              "screened_tests": tests, "screened": {str(setting): rates for setting, rates in screened.items()}, "rounds": rounds}
    (arguments.out / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.out / "peers.md").write_text(markdown(result))
    (arguments.out / "peers.svg").write_text(ratio_svg(
        f"SmolLM2-135M, {arguments.threads} threads: speed over llama.cpp's at its best setting", result["tests"]))
    print(markdown(result), end="")


if __name__ == "__main__":
    main()
