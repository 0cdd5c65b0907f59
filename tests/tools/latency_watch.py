"""How long a server lets others wait, measured beside whatever is done to it: `python latency_watch.py HOST PORT` asks for
/health on a new connection every few milliseconds until stdin ends, then prints the seconds as JSON.

`control` has the same exchange with a server that does nothing else. It is what the machine itself makes one wait, which
differs between an idle one and one that runs other tests; it is a process of its own, since a thread would wait for Python.
"""
import json
import multiprocessing
import select
import socket
import subprocess
import sys
import time

REQUEST = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
PAUSE = 0.01


def answer_all(listener):
    while True:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            client.sendall(ANSWER)


def exchange(address):
    """Seconds from the first packet to the end of the answer; infinite if it is not 200."""
    start = time.monotonic()
    received = b""
    try:
        with socket.create_connection(address, timeout=20) as client:
            client.sendall(REQUEST)
            while part := client.recv(4096):
                received += part
    except OSError:
        pass
    return time.monotonic() - start if received.startswith(b"HTTP/1.1 200 ") else float("inf")


class Watch:
    """Runs from its making to stop()."""

    def __init__(self, port):
        self.process = subprocess.Popen([sys.executable, __file__, "127.0.0.1", str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.process.stdout.readline()  # it has begun

    def stop(self):
        """-> (seconds of /health, seconds of the control), each in ascending order"""
        out, _ = self.process.communicate()
        found = json.loads(out)
        return sorted(found["health"]), sorted(found["control"])


def percentile(ascending, share):
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    multiprocessing.Process(target=answer_all, args=(listener,), daemon=True).start()
    found = {"health": [], "control": []}
    print("begun", flush=True)
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        found["health"].append(exchange((sys.argv[1], int(sys.argv[2]))))
        found["control"].append(exchange(listener.getsockname()))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
