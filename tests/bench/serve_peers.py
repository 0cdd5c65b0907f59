#!/usr/bin/env python3
"""`stamp serve` and llama.cpp's llama-server over HTTP; peers.sh prepares what it needs.

Both get the same prompts, greedy, for the same number of tokens, 1, 4 and 8 streams at once. For each number they are asked
one after the other, in turns which goes first; the result is the median over rounds of the ratios. llama-server has a slot
for every stream, continuous batching, huge pages and repacked weights, and starts with flash attention off, on, and on with
a cache of q8_0; the setting that is the fastest at most streams in a first round counts. Its F16 weights are to be compared
with stamp's f32, which has the same, Q8_0 with w8a8, and Q4_0 with w4a8kv4-stamp, whose weights are rounded to nearest
unless --model-w4 has others.
"""
import argparse
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median

from peer_models import quantised_directory, smollm2_gguf
from peer_programs import LLAMA_ENVIRONMENT, PeerSetting, say, stamp_environment
from peer_report import markdown_table
from peers import add_common_arguments, parse
from streams import run_streams

STREAMS, CONTEXT = (1, 4, 8), 2048
FIELDS = ("tokens_per_second", "first_token")
WORDS = """the sea ship harbour captain wind sail letter garden music winter village river stone market horse bread story answer
window mountain forest teacher journey silver candle bridge evening""".split()


class Peer:
    """A server that runs until stop(), on a port of its own."""
    running = []

    def __init__(self, command, log, environment=None):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([*map(str, command), "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log,
                                        env=os.environ | (environment or {}))
        Peer.running.append(self)
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
        Peer.running.remove(self)
        self.process.terminate()
        self.process.wait(30)


def bodies(seed, count, arguments):
    """Prompts that share no beginning, so that no prefix is found in a cache."""
    noise = random.Random(seed)
    return [{"prompt": f"{seed}-{i}: " + " ".join(noise.choice(WORDS) for _ in range(arguments.words)), "temperature": 0,
             "max_tokens": arguments.tokens, "ignore_eos": True} for i in range(count)]


PAIRS = {"F16": "f32", "Q8_0": "w8a8", "Q4_0": "w4a8kv4-stamp"}


def start_stamp(arguments, recipe, log):
    flags = ["--model", arguments.model, "--recipe", recipe]
    if recipe == "w4a8kv4-stamp":
        directory = arguments.model_w4 or quantised_directory(arguments.stamp, arguments.model, arguments.out, recipe)
        flags = ["--model", directory]
    return Peer([arguments.stamp, "serve", *flags, "--threads", arguments.threads, "--parallel", max(STREAMS), "--ctx", CONTEXT],
                log, stamp_environment(arguments.ops))


def start_llama(arguments, setting, log):
    return Peer([arguments.llama_server, "-m", smollm2_gguf(arguments.out, setting.weights), "-t", arguments.threads, "-tb",
                 arguments.threads, "-np", max(STREAMS), "-c", CONTEXT * max(STREAMS), "--cont-batching", "-lm", "none",
                 *setting.flags(), "--no-webui"], log, LLAMA_ENVIRONMENT)


def fastest(settings, start, measure, stop):
    """The setting that measure(peer) is greatest for, and its peer; the others are stopped."""
    best = best_peer = None
    best_rate = 0.0
    for setting in settings:
        peer = start(setting)
        rate = measure(peer)
        if best is None or rate > best_rate:
            loser, best, best_peer, best_rate = best_peer, setting, peer, rate
        else:
            loser = peer
        if loser is not None:
            stop(loser)
    return best, best_peer


def table(rounds, pairs):
    """`pairs`: each stamp's peer."""
    def middle(name, count, field):
        return median(r[name][count][field] for r in rounds)

    def ratio(ours, theirs, count, field):
        return f"{median(r[ours][count][field] / r[theirs][count][field] for r in rounds):.2f}"

    rows = []
    for names in pairs.items():
        for name in names:
            for count in STREAMS:
                scale = median(r[name][count]["tokens_per_second"] / r[name][1]["tokens_per_second"] for r in rounds)
                against = [ratio(*names, count, field) if name == names[0] else "" for field in FIELDS]
                rows.append([name, count, f"{middle(name, count, FIELDS[0]):.1f}", f"{scale:.2f}",
                             f"{middle(name, count, FIELDS[1]):.3f}", *against])
    return markdown_table(["server", "streams", "tokens/s, all", "x one stream", "first token p50, s",
                           "tokens/s x llama-server's", "first token x"], rows)


def main():
    parser = argparse.ArgumentParser(description="stamp serve and llama-server over HTTP; see peers.sh.")
    add_common_arguments(parser)
    parser.add_argument("--llama-server", type=Path, required=True)
    parser.add_argument("--model-w4", type=Path, metavar="DIR", help="of w4a8kv4-stamp, instead of weights rounded to nearest")
    parser.add_argument("--weights", default=",".join(PAIRS), help="of llama-server, of " + ",".join(PAIRS))
    parser.add_argument("--words", type=int, default=100, help="of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    arguments = parse(parser)
    weights = arguments.weights.split(",")
    if unknown := [kind for kind in weights if kind not in PAIRS]:
        parser.error(f"--weights: {unknown[0]} is none of {', '.join(PAIRS)}")
    most, seeds = max(STREAMS), iter(range(1, 1_000_000))
    peers, pairs = {}, {}

    def speed(peer):
        peer.measure(bodies(next(seeds), 1, arguments))
        return peer.measure(bodies(next(seeds), most, arguments))[0]

    with open(arguments.out / "serve_peers.log", "w", encoding="utf-8") as log:
        try:
            for kind in weights:
                ours = "stamp " + PAIRS[kind]
                peers[ours] = start_stamp(arguments, PAIRS[kind], log)
                settings = [PeerSetting(kind, False), PeerSetting(kind, True), PeerSetting(kind, True, "q8_0")]
                setting, peer = fastest(settings, lambda s: start_llama(arguments, s, log), speed, Peer.stop)
                pairs[ours] = f"llama-server {setting}"
                peers[pairs[ours]] = peer
            rounds = []
            for i in range(arguments.rounds):
                rounds.append({name: {} for name in peers})
                for count in STREAMS:
                    prompts = bodies(next(seeds), count, arguments)
                    for name in peers if i % 2 == 0 else reversed(peers):
                        rate, firsts = peers[name].measure(prompts)
                        rounds[-1][name][count] = dict(zip(FIELDS, (rate, median(firsts))))
                say(f"round {i + 1} of {arguments.rounds}: " + ", ".join(
                    f"{name} {r[most]['tokens_per_second']:.0f}" for name, r in rounds[-1].items()))
        finally:
            for peer in list(Peer.running):
                peer.stop()
    text = (f"{arguments.threads} threads, {arguments.rounds} rounds, prompts of {arguments.words} words, answers of "
            f"{arguments.tokens} tokens; medians. {arguments.llama_name}, huge pages, repacked weights, a slot for every "
            f"stream, continuous batching.\n\n" + table(rounds, pairs))
    (arguments.out / "serve_peers.json").write_text(json.dumps({"threads": arguments.threads, "rounds": rounds}, indent=1) + "\n")
    (arguments.out / "serve_peers.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
