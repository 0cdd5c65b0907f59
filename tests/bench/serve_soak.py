#!/usr/bin/env python3
"""`stamp serve` at the scale of a deployment: speed of many streams, the prefix cache, and hours of abuse in minutes.

    STAMP_BUILD_DIR=build/test STAMP_SMOLLM2_DIR=DIR build/venv/bin/python tests/bench/serve_soak.py [NAME...]

Each measurement prints one line; without NAME all run, in this order: """
import concurrent.futures
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from program import BUILD  # noqa: E402
from server import SMOLLM2, Server, http_post, read_all, statuses  # noqa: E402
from streams import run_streams  # noqa: E402

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MEASUREMENTS = {}


def measurement(function):
    MEASUREMENTS[function.__name__] = function
    return function


def say(text):
    print(text, flush=True)


def tiny_model():
    directory = tempfile.mkdtemp()
    subprocess.run([BUILD / "tests/tiny_model_cli", "random", f"{directory}/random"], check=True)
    return f"{directory}/random"


def chat_body(i, tokens=64):
    text = f"Number {i}: write about the sea, its ships and its weather, and about {random.Random(i).choice(['cats', 'maps', 'tea'])}."
    return {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "ignore_eos": True, "temperature": 0}


@measurement
def streams(rounds=3):
    for recipe in ("f32", "w8a8"):
        server = Server(SMOLLM2, "--parallel", 8, "--recipe", recipe)
        speeds, firsts = {1: [], 4: [], 8: []}, {1: [], 4: [], 8: []}
        run_streams(server.url + CHAT, [chat_body(999)])
        for r in range(rounds):
            for count in speeds:
                speed, first = run_streams(server.url + CHAT, [chat_body(100 * r + 10 * count + i) for i in range(count)])
                speeds[count].append(speed), firsts[count].extend(first)
        server.stop()
        alone = statistics.median(speeds[1])
        for count in speeds:
            speed = statistics.median(speeds[count])
            say(f"streams: {recipe}, {count}: {speed:.1f} tokens/s in all, {speed / alone:.2f} x one stream; "
                f"first token p50 {statistics.median(firsts[count]):.3f} s")


@measurement
def prefix(rounds=5):
    server = Server(SMOLLM2, "--parallel", 2)
    words = "the engine keeps the pages of a common beginning and computes each of them once for everybody ".split()
    missed, hit = [], []
    for r in range(rounds):
        system = " ".join(random.Random(1000 * r + i).choice(words) for i in range(1500))
        body = {"messages": [{"role": "system", "content": system}, {"role": "user", "content": "Hello"}], "max_tokens": 2,
                "ignore_eos": True, "temperature": 0}
        missed.append(run_streams(server.url + CHAT, [body])[1][0])
        hit.append(run_streams(server.url + CHAT, [body])[1][0])
    server.stop()
    say(f"prefix: first token after a system message of 1,500 words: {statistics.median(missed):.3f} s missed, "
        f"{statistics.median(hit):.3f} s hit, {statistics.median(m / h for m, h in zip(missed, hit)):.1f} x shorter")


@measurement
def cold_start(rounds=3):
    seconds = []
    for _ in range(rounds):
        start = time.monotonic()
        server = Server(SMOLLM2)
        assert server.post(COMPLETIONS, {"prompt": "Hello", "max_tokens": 1}).status_code == 200
        seconds.append(time.monotonic() - start)
        server.stop()
    say(f"cold_start: launch to the first answer {statistics.median(seconds):.2f} s")


@measurement
def same_answer(count=1000):
    server = Server(tiny_model(), "--parallel", 6, "--queue", 1000, "--kv-memory", 3_000_000)
    watched = {"prompt": "the same prompt " * 9, "max_tokens": 24, "temperature": 1, "seed": 42, "logprobs": 5, "ignore_eos": True}

    def one(i):
        noise = random.Random(i)
        server.post(COMPLETIONS, {"prompt": [noise.randrange(256) for _ in range(noise.randrange(1, 300))], "seed": i,
                                  "temperature": 1, "max_tokens": noise.randrange(1, 60), "n": 1 + i % 2})
        return json.dumps(server.post(COMPLETIONS, watched).json()["choices"])
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = set(pool.map(one, range(count)))
    server.stop()
    say(f"same_answer: {count} completions among others: {len(answers)} different text(s) with logprobs")


@measurement
def disconnects(count=10_000, share=0.3):
    server = Server(tiny_model(), "--parallel", 8, "--queue", 1000)

    def state():
        server.wait_until_idle()
        time.sleep(0.5)
        pid = server.process.pid
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        return server.metric("stamp_kv_pages_free"), len(os.listdir(f"/proc/{pid}/fd")), resident

    def one(i):
        noise = random.Random(i)
        body = {"prompt": f"{i} " + "a" * noise.randrange(200), "max_tokens": noise.randrange(1, 40), "stream": i % 2 == 0}
        with server.connect() as client:
            client.sendall(http_post(COMPLETIONS, body))
            if noise.random() < share:
                if noise.random() < 0.5:  # a reset instead of an end
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return 0
            return (statuses(read_all(client)) or [0])[0]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        list(pool.map(one, range(4 * count)))  # until pools and the tokenizer's caches of words have their size
        before = state()
        codes = list(pool.map(one, range(count)))
    after = state()
    start = time.monotonic()
    assert server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 1}).status_code == 200
    answer = time.monotonic() - start
    server.stop()
    say(f"disconnects: {count} requests, {codes.count(0)} left, codes {sorted(set(codes) - {0})}; pages free {before[0]:.0f} -> "
        f"{after[0]:.0f}, descriptors {before[1]} -> {after[1]}, resident memory of {before[2] / 2**20:.1f} MiB {100 * (after[2] / before[2] - 1):+.1f} %, "
        f"next answer after {1000 * answer:.0f} ms")


@measurement
def overload():
    server = Server(tiny_model(), "--parallel", 4, "--queue", 8)

    def one(i):
        return server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 200, "ignore_eos": True, "seed": i}).status_code
    with concurrent.futures.ThreadPoolExecutor(120) as pool:
        codes = list(pool.map(one, range(600)))
    server.stop()
    say(f"overload: 120 clients for 12 places: " + ", ".join(f"{codes.count(c)} x {c}" for c in sorted(set(codes))))


@measurement
def drain(times=50):
    model, finished, refused = tiny_model(), 0, 0
    for attempt in range(times):
        server = Server(model, "--parallel", 3, "--queue", 100)

        def one(i):
            time.sleep(0.004 * i)
            try:
                return server.raw(http_post(COMPLETIONS, {"prompt": "a", "max_tokens": 300, "ignore_eos": True, "stream": i % 2 == 0}))
            except ConnectionRefusedError:
                return b""
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            futures = [pool.submit(one, i) for i in range(16)]
            time.sleep(0.002 * attempt + 0.02)
            server.process.send_signal(signal.SIGTERM)
            received = [f.result() for f in futures]
        assert server.stop(None) == 0
        for data in received:
            if statuses(data) == [200]:
                assert data.endswith((b"data: [DONE]\n\n\r\n0\r\n\r\n", b"}", b"}\n")), data[-200:]
                finished += 1
            else:
                assert statuses(data) in ([], [503]), data
                refused += 1
    say(f"drain: SIGTERM under load {times} times, exit code 0 each time: {finished} finished, {refused} not accepted, none cut off")


@measurement
def stalled(clients=500, requests=60):
    server = Server(SMOLLM2, "--parallel", 8, "--max-connections", 2000)

    def p99():
        firsts = []
        for i in range(requests):
            firsts += run_streams(server.url + CHAT, [chat_body(i + 1, 1)])[1]
        return sorted(firsts)[int(0.99 * (requests - 1))], statistics.median(firsts)
    p99()
    alone = p99()
    held = []
    for i in range(clients):
        client = server.connect()
        client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n" if i % 2 else b"GET /health HT")
        held.append(client)
    crowded = p99()
    for client in held:
        client.close()
    server.stop()
    say(f"stalled: first token with {clients} stalled clients: p50 {alone[1]:.3f} -> {crowded[1]:.3f} s, "
        f"p99 {alone[0]:.3f} -> {crowded[0]:.3f} s, {crowded[0] / alone[0]:.2f} x")


def main():
    unknown = [name for name in sys.argv[1:] if name not in MEASUREMENTS]
    if unknown or "-h" in sys.argv or "--help" in sys.argv:
        sys.exit(__doc__ + ", ".join(MEASUREMENTS) + ".")
    for name in sys.argv[1:] or MEASUREMENTS:
        MEASUREMENTS[name]()


if __name__ == "__main__":
    main()
