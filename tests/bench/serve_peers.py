#!/usr/bin/env python3
"""`stamp serve` and llama.cpp's llama-server over HTTP; peers.sh prepares what it needs.

Both get the same prompts, greedy, for the same number of tokens, 1, 4 and 8 streams at once. For each number they are asked
one after the other, in turns which goes first; the result is the median over rounds of the ratios. llama-server has a slot
for every stream and runs with flash attention on and off; the setting that is the faster at most streams in a first round
counts. Its F16 weights are to be compared with stamp's f32, which has the same, and Q8_0 with w8a8.
"""
import argparse
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median

from gguf import GGMLQuantizationType
from peers import add_common_arguments, packaged_gguf, write_gguf
from streams import run_streams

STREAMS = (1, 4, 8)
WORDS = """the sea ship harbour captain wind sail letter garden music winter village river stone market horse bread story answer
window mountain forest teacher journey silver candle bridge evening""".split()


class Peer:
    """A server that runs until stop(), on a port of its own."""

    def __init__(self, command, log):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([*map(str, command), "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"serve_peers: {command[0]} does not answer; see {log.name}")
            time.sleep(0.1)

    def ready(self):
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def measure(self, bodies):
        return run_streams(self.url + "/v1/completions", bodies)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


def bodies(seed, count, arguments):
    """Prompts that share no beginning, so that no prefix is found in a cache."""
    noise = random.Random(seed)
    return [{"prompt": f"{seed}-{i}: " + " ".join(noise.choice(WORDS) for _ in range(arguments.words)), "temperature": 0,
             "max_tokens": arguments.tokens, "ignore_eos": True} for i in range(count)]


def median_of(rounds, name, count, field):
    return median(r[name][count][field] for r in rounds)


def main():
    parser = argparse.ArgumentParser(description="stamp serve and llama-server over HTTP; see peers.sh.")
    add_common_arguments(parser)
    parser.add_argument("--llama-server", type=Path, required=True)
    parser.add_argument("--words", type=int, default=100, help="of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    arguments = parser.parse_args()
    most = max(STREAMS)
    seeds = iter(range(1, 1_000_000))
    peers, kinds = {}, {"F16": "f32", "Q8_0": "w8a8"}
    with open(arguments.out / "serve_peers.log", "w", encoding="utf-8") as log:
        try:
            for kind, recipe in kinds.items():
                peers["stamp " + recipe] = Peer([arguments.stamp, "serve", "--model", arguments.model, "--recipe", recipe, "--threads",
                                                 arguments.threads, "--parallel", most, "--ctx", 2048], log)
                gguf = arguments.out / f"SmolLM2-135M-Instruct.{kind}.gguf"
                if not gguf.exists():
                    write_gguf(packaged_gguf(), gguf, GGMLQuantizationType[kind])
                candidates = {}
                for attention in ("on", "off"):
                    peer = Peer([arguments.llama_server, "-m", gguf, "-t", arguments.threads, "-tb", arguments.threads, "-np", most,
                                 "-c", 2048 * most, "-fa", attention, "--no-webui"], log)
                    peer.measure(bodies(next(seeds), 1, arguments))
                    candidates[attention] = (peer.measure(bodies(next(seeds), most, arguments))[0], peer)
                best = max(candidates, key=lambda attention: candidates[attention][0])
                for attention, (_, peer) in candidates.items():
                    if attention != best:
                        peer.stop()
                peers[f"llama-server {kind}, flash attention {best}"] = candidates[best][1]
            rounds = []
            for i in range(arguments.rounds):
                rounds.append({name: {} for name in peers})
                for count in STREAMS:
                    prompts = bodies(next(seeds), count, arguments)
                    for name in peers if i % 2 == 0 else reversed(peers):
                        rate, firsts = peers[name].measure(prompts)
                        rounds[-1][name][count] = {"tokens_per_second": rate, "first_token": median(firsts)}
                print(f"round {i + 1} of {arguments.rounds}: " + ", ".join(
                    f"{name} {r[most]['tokens_per_second']:.0f}" for name, r in rounds[-1].items()), file=sys.stderr)
        finally:
            for peer in peers.values():
                peer.stop()
    names = list(peers)
    lines = [f"{arguments.threads} threads, {arguments.rounds} rounds, prompts of {arguments.words} words, answers of "
             f"{arguments.tokens} tokens; medians. {arguments.llama_name}.", "",
             "| server | streams | tokens/s, all | x one stream | first token p50, s | tokens/s x llama-server's | first token x |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    for name in names:
        for count in STREAMS:
            row = [median_of(rounds, name, count, field) for field in ("tokens_per_second", "first_token")]
            scale = median(r[name][count]["tokens_per_second"] / r[name][1]["tokens_per_second"] for r in rounds)
            against = ["", ""]
            if name.startswith("stamp"):
                other = names[names.index(name) + 1]
                against = [f"{median(r[name][count][field] / r[other][count][field] for r in rounds):.2f}"
                           for field in ("tokens_per_second", "first_token")]
            lines.append(f"| {name} | {count} | {row[0]:.1f} | {scale:.2f} | {row[1]:.3f} | {against[0]} | {against[1]} |")
    (arguments.out / "serve_peers.json").write_text(json.dumps({"threads": arguments.threads, "rounds": rounds}, indent=1) + "\n")
    (arguments.out / "serve_peers.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
