"""What the tests of `stamp serve` share: a running server, and requests as raw bytes."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

import httpx2 as httpx

from program import STAMP, environment, wait_until

SMOLLM2 = os.environ.get("STAMP_SMOLLM2_DIR", "")
LONG_CONTEXT = 200_000
ENDLESS = {"prompt": "a", "max_tokens": LONG_CONTEXT, "ignore_eos": True}  # under --ctx LONG_CONTEXT: until its client leaves


class Server:
    """`stamp serve` on a free port, with its log in `lines`; ready when the model is loaded."""

    def __init__(self, model, *arguments, env=None, wait=True, scheme="http"):
        command = [STAMP, "serve", "--model", str(model), "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(command, env=environment(**(env or {})), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.client = httpx.Client(verify=False, timeout=60)  # keeps its connections
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if not self._listening.wait(60) or self.url is None:
            self.process.kill()
            raise RuntimeError("the server does not listen: " + "\n".join(self.lines))
        assert self.url.startswith(scheme + "://"), self.url
        self.port = int(self.url.rsplit(":", 1)[1])
        try:
            if wait:
                self.wait_until_ready()
        except BaseException:
            self.process.kill()
            raise

    url = None

    def _read_log(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            found = re.search(r"listening on (https?://[^\s\"]+)", line)
            if found:
                self.url = found[1]
                self._listening.set()
        self._listening.set()

    def wait_until_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise RuntimeError("the server ended: " + "\n".join(self.lines))
            return self.client.get(self.url + "/ready").status_code == 200
        wait_until(ready, "the model is loaded", 60)

    def alive(self):
        return self.process.poll() is None

    def post(self, path, body, **options):
        return self.client.post(self.url + path, json=body, **options)

    def get(self, path, **options):
        return self.client.get(self.url + path, **options)

    def metric(self, name):
        """The sum over all labels."""
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics").text.splitlines()
                   if re.match(re.escape(name) + r"[{ ]", line))

    def wait_until_idle(self):
        wait_until(lambda: self.metric("stamp_sequences_running") + self.metric("stamp_sequences_waiting") == 0,
                   "the sequences of clients that left have ended")

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def raw(self, data, half_close=False):
        """Sends bytes and returns everything that comes back until the server closes."""
        with self.connect() as connection:
            try:
                connection.sendall(data)
                if half_close:
                    connection.shutdown(socket.SHUT_WR)
                return read_all(connection)
            except (ConnectionResetError, BrokenPipeError):
                return b""

    def wait_for_line(self, part):
        """The line of the log that has this; it is written by a thread of its own."""
        return wait_until(lambda: next((line for line in list(self.lines) if part in line), None), f"{part} is in the log")

    def stop(self, number=signal.SIGTERM):
        """Ends it, unless `number` is None and it ends by itself; the exit code."""
        if self.alive() and number is not None:
            self.process.send_signal(number)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.client.close()
            self._reader.join(10)
            self.process.stderr.close()
            self.process.stdout.close()


def read_all(connection):
    received = b""
    while True:
        try:
            part = connection.recv(65536)
        except (ConnectionResetError, TimeoutError):
            return received
        if not part:
            return received
        received += part


def http_post(path, body, *fields):
    """A request as bytes; the connection is closed after it unless `fields` say otherwise."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = {"host: test", f"content-length: {len(body)}", "connection: close"}
    names = {field.split(":")[0].lower() for field in fields}
    head = [f"POST {path} HTTP/1.1", *(f for f in sorted(own) if f.split(":")[0] not in names), *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def statuses(received):
    """Of all answers in the bytes that came back."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def sse(lines):
    """The data of server-sent events."""
    return [line[len("data: "):] for line in lines if line.startswith("data: ")]
