#!/usr/bin/env python3
"""How stamp's speed grows with threads, and what two processes on the same cores cost each other.

    python3 tests/bench/scaling.py --stamp build/release/stamp --model DIR [--rounds 5] [--threads 2]

In each round one test after the other, prefill of 512 tokens and decode of 128, runs with half of --threads, with
--threads, and in two processes of --threads each at the same time; the result is the median over rounds of the ratios.
Two processes share the cores, so all they can reach together is what one has; --threads is to be the number of cores.
The model is copied to --memory, a tmpfs, whose huge pages they share, too; with --memory "" each has weights of its own.
--recipe takes a built-in recipe without calibration (f32, w8a8) or a recipe's JSON file, else DIR is taken as it is.
"""
import argparse
import concurrent.futures
import json
import shutil
import tempfile
from pathlib import Path
from statistics import median

from peer_programs import Columns, Stamp
from peer_report import markdown_table

TESTS = {"pp512": Columns(prefill=(512,)), "tg128": Columns(decode=128, depths=(0,))}


def ratios(rounds, test, over, under):
    values = [r[test][over] / r[test][under] for r in rounds]
    return [f"{value:.2f}" for value in (median(values), min(values), max(values))]


def table(rounds):
    rows = []
    for test in TESTS:
        speeds = [f"{median(r[test][way] for r in rounds):.1f}" for way in ("half", "one", "two")]
        rows.append([test, *speeds, *ratios(rounds, test, "one", "half"), *ratios(rounds, test, "two", "one")])
    return markdown_table(["tokens/s, medians", "half the threads", "all threads", "two processes, sum", "all : half, median",
                           "min", "max", "two processes : one, median", "min", "max"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stamp", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--recipe", default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=5, help="runs of a test in a round; the median counts")
    parser.add_argument("--memory", default="/dev/shm", help="a directory in memory; default: /dev/shm")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.threads < 2 or arguments.rounds < 1 or arguments.repeat < 1:
        parser.error("--threads must be at least 2, --rounds and --repeat positive")

    with tempfile.TemporaryDirectory(dir=arguments.memory or None) as memory:
        rounds = measure(arguments, shutil.copytree(arguments.model, f"{memory}/model") if arguments.memory else arguments.model)
    if arguments.json:
        arguments.json.write_text(json.dumps({"threads": arguments.threads, "rounds": rounds}, indent=1) + "\n")
    print(table(rounds), end="")


def measure(arguments, model):
    def speed(threads, test):
        columns = TESTS[test]
        return Stamp(arguments.stamp, threads).bench(model, columns, arguments.recipe, arguments.repeat)[0][test]

    rounds = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(arguments.rounds):
            rounds.append({})
            for test in TESTS:
                both = [pool.submit(speed, arguments.threads, test) for _ in range(2)]
                rounds[-1][test] = {"two": sum(one.result() for one in both), "one": speed(arguments.threads, test),
                                    "half": speed(arguments.threads // 2, test)}
    return rounds


if __name__ == "__main__":
    main()
