#!/usr/bin/env python3
"""`stamp serve` under load: the same answer whatever else runs, clients that leave, overload, and an orderly end."""
import concurrent.futures
import contextlib
import json
import os
import random
import signal
import time
import unittest

from program import ProgramTest, wait_until
from server import ENDLESS, LONG_CONTEXT, Server, http_post, read_all, statuses

COMPLETIONS = "/v1/completions"
DRAINING = "stopping: requests under way are finished"


def at_once(count, call):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


class LoadTest(ProgramTest):
    def server(self, *arguments, model=None):
        server = Server(model or self.random, *arguments)
        self.addCleanup(lambda: server.alive() and server.stop())
        return server

    def endless_server(self, *arguments):
        """Answers ENDLESS until its client leaves."""
        return self.server("--ctx", LONG_CONTEXT, *arguments)

    @contextlib.contextmanager
    def holding(self, server, running, waiting=0):
        """Clients whose requests run and wait until the end of the block."""
        with contextlib.ExitStack() as clients:
            for _ in range(running + waiting):
                clients.enter_context(server.connect()).sendall(http_post(COMPLETIONS, ENDLESS))
            wait_until(lambda: (server.metric("stamp_sequences_running"), server.metric("stamp_sequences_waiting")) == (running, waiting),
                       f"{running} sequences run and {waiting} wait")
            yield

    def test_answers_do_not_depend_on_company(self):
        server = self.server("--parallel", 6, "--queue", 500, "--kv-memory", 3_000_000)
        watched = {"prompt": "the same prompt " * 9, "max_tokens": 24, "temperature": 1, "seed": 42, "logprobs": 5, "ignore_eos": True}
        alone = server.post(COMPLETIONS, watched).json()["choices"]
        noise = random.Random(7)

        def one(i):
            if i % 2 == 0:
                return server.post(COMPLETIONS, watched).json()["choices"]
            length = noise.randrange(1, 300)
            server.post(COMPLETIONS, {"prompt": [noise.randrange(256) for _ in range(length)], "temperature": 1, "n": 1 + i % 3,
                                      "max_tokens": noise.randrange(1, 60), "logprobs": 2 if i % 5 else None, "echo": i % 7 == 0})
            return None
        answers = [a for a in at_once(24, lambda w: [one(24 * r + w) for r in range(8)]) for a in a if a is not None]
        self.assertEqual(len(answers), 96)
        self.assertEqual({json.dumps(a) for a in answers}, {json.dumps(alone)})
        self.assertGreater(server.metric("stamp_prefix_cache_hit_tokens_total"), 0)

    def test_clients_that_leave_free_their_places(self):
        server = self.endless_server("--parallel", 2, "--queue", 30)
        free = server.metric("stamp_kv_pages_free")
        descriptors = lambda: len(os.listdir(f"/proc/{server.process.pid}/fd"))
        before = descriptors()
        for stream in (True, False):  # two of them run, the others wait in the queue
            clients = [server.connect() for _ in range(20)]
            for client in clients:
                client.sendall(http_post(COMPLETIONS, {**ENDLESS, "stream": stream}, "connection: keep-alive"))
            wait_until(lambda: server.metric("stamp_sequences_waiting") >= 10, "a queue has formed")
            for client in clients:
                client.close()
            server.wait_until_idle()
        wait_until(lambda: server.metric("stamp_clients_left_total") == 40, "every client that left is counted")
        self.assertEqual(server.metric("stamp_kv_pages_free"), free)
        wait_until(lambda: descriptors() <= before + 1, "their descriptors are closed")
        start = time.monotonic()
        self.assertEqual(server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 1}).status_code, 200)
        self.assertLess(time.monotonic() - start, 5)

    def test_overload_is_refused_politely(self):
        server = self.endless_server("--parallel", 2, "--queue", 2)
        ask = lambda i: server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 60, "seed": i, "stream": i % 2 == 0})
        with self.holding(server, running=2, waiting=2):
            refused = at_once(40, ask)
        for response in refused:
            self.assertEqual((response.status_code, response.headers["retry-after"]), (429, "1"))
            self.assertEqual(response.json()["error"]["code"], "queue_full")
        server.wait_until_idle()
        codes = {response.status_code for response in at_once(40, ask)}
        self.assertIn(200, codes)
        self.assertLessEqual(codes, {200, 429})

    def test_memory_does_not_grow(self):
        server = self.server("--parallel", 4, "--queue", 100)

        def resident():
            with open(f"/proc/{server.process.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * 4096

        def round_of(i):
            for k in range(12):
                with server.connect() as client:
                    client.sendall(http_post(COMPLETIONS, {"prompt": f"{i} {k}", "max_tokens": 20, "stream": k % 2 == 0}))
                    if k % 3:
                        read_all(client)
        for _ in range(3):
            at_once(8, round_of)
        server.wait_until_idle()
        before = resident()
        for _ in range(5):
            at_once(8, round_of)
        server.wait_until_idle()
        self.assertLess(resident(), before * 1.1 + (4 << 20))

    def test_drain(self):
        """SIGTERM under load: what was accepted ends properly, then the server does."""
        for attempt in range(3):
            server = self.endless_server("--parallel", 3, "--queue", 100)
            body = {**ENDLESS, "max_tokens": 5000}  # some tenths of a second each

            def client(i):
                time.sleep(0.01 * i)
                try:
                    received = server.raw(http_post(COMPLETIONS, {**body, "seed": i, "stream": i % 2 == 0}))
                except ConnectionRefusedError:
                    return "not accepted"
                if statuses(received) != [200]:
                    self.assertIn(statuses(received), ([], [503]))
                    return "not accepted"
                self.assertIn(b"data: [DONE]" if i % 2 == 0 else b'"finish_reason":"length"', received)
                return "finished"
            with concurrent.futures.ThreadPoolExecutor(16) as pool:
                futures = [pool.submit(client, i) for i in range(16)]
                wait_until(lambda: server.metric("stamp_sequences_running") > 0, "a request runs")
                time.sleep(0.03 * attempt)
                server.process.send_signal(signal.SIGTERM)
                outcomes = [f.result() for f in futures]
            self.assertEqual(server.stop(None), 0)
            self.assertIn("finished", outcomes)
            answered = [line for line in server.lines if f'path="{COMPLETIONS}" status=200' in line]
            self.assertEqual(len(answered), outcomes.count("finished"), outcomes)
            self.assertFalse([line for line in server.lines if "client_left" in line])

    def test_new_requests_while_draining(self):
        server = self.endless_server("--parallel", 1)
        with server.connect() as kept, server.connect() as busy, concurrent.futures.ThreadPoolExecutor() as pool:
            busy.sendall(http_post(COMPLETIONS, {**ENDLESS, "max_tokens": 20_000, "stream": True}))
            busy.recv(1000)
            rest = pool.submit(read_all, busy)
            begun = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n"
            kept.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" + begun)
            self.assertEqual(statuses(kept.recv(1000)), [200])  # so what is begun has come in, too
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_line(DRAINING)
            kept.sendall(b"\r\n" + json.dumps({"prompt": "a"}).encode().ljust(30))
            self.assertEqual(statuses(read_all(kept)), [503])
            self.assertTrue(rest.result().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"))
        self.assertEqual(server.stop(None), 0)

    def test_a_second_signal_ends_it_at_once(self):
        server = self.endless_server("--parallel", 1)
        with self.holding(server, running=1):
            server.process.send_signal(signal.SIGINT)
            server.wait_for_line(DRAINING)
            self.assertTrue(server.alive())
            start = time.monotonic()
            self.assertEqual(server.stop(signal.SIGINT), 130)
            self.assertLess(time.monotonic() - start, 5)

    def test_it_listens_while_it_loads(self):
        session = self.dir / "slow"
        session.mkdir()
        os.mkfifo(session / "prefixes")  # loading goes on until somebody writes
        server = Server(self.random, "--session-dir", session, wait=False)
        self.addCleanup(server.process.kill)
        for path in ("/health", "/ready"):
            response = server.get(path)
            self.assertEqual((response.status_code, response.headers["retry-after"]), (503, "1"))
        self.assertEqual(server.post(COMPLETIONS, {"prompt": "a"}).status_code, 503)
        self.assertEqual(server.get("/metrics").status_code, 200)
        (session / "prefixes").write_bytes(b"nothing\n")
        server.wait_until_ready()
        self.assertEqual(server.post(COMPLETIONS, {"prompt": "a", "max_tokens": 1}).status_code, 200)
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
