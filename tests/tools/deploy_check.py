#!/usr/bin/env python3
"""docs/deploy: what is shipped for running `stamp serve` in earnest is valid, and two replicas behind nginx work."""
import json
import re
import shutil
import socket
import subprocess
import unittest
from pathlib import Path

import httpx2 as httpx
import yaml

from program import STAMP, ProgramTest, wait_until
from server import Server

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


class DeployTest(ProgramTest):
    def metrics(self):
        server = Server(self.counting)
        self.addCleanup(server.stop)
        server.post("/v1/completions", {"prompt": "a", "max_tokens": 3})
        return set(re.findall(r"^(stamp_\w+)", server.get("/metrics").text, re.MULTILINE))

    def test_every_metric_of_the_dashboard_exists(self):
        known = self.metrics()
        dashboard = json.loads((DEPLOY / "grafana.json").read_text())
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        used = {name for expression in expressions for name in re.findall(r"stamp_\w+", expression)}
        self.assertGreater(len(used), 8)
        self.assertLessEqual(used, known)
        self.assertEqual(len({panel["id"] for panel in dashboard["panels"]}), len(dashboard["panels"]))

    def test_prometheus(self):
        job, = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
        self.assertEqual(job["metrics_path"], "/metrics")

    def test_unit(self):
        text = (DEPLOY / "stamp.service").read_text().replace("/usr/local/bin/stamp", STAMP)
        unit = self.dir / "stamp.service"
        unit.write_text(text)
        result = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
        about = [line for line in (result.stdout + result.stderr).splitlines() if "stamp.service" in line]
        self.assertEqual(about, [])

    def test_docker_file_installs_what_the_build_needs(self):
        root = DEPLOY.parents[1]
        docker = (DEPLOY / "Dockerfile").read_text()
        needed = re.search(r"BUILD_PACKAGES=\((.*?)\)", (root / "tools/setup.sh").read_text(), re.DOTALL)[1].split()
        stages = docker.split("FROM ")[1:]
        self.assertEqual(len(stages), 2)
        for package in set(needed) - {"python3", "python3-venv"}:
            self.assertIn(package, stages[0].split())
        libraries = subprocess.run(["ldd", STAMP], capture_output=True, text=True, check=True).stdout
        for library in ("libspdlog", "libfmt", "libprometheus-cpp-core", "libsentencepiece", "libutf8proc", "libedit"):
            if library in libraries:
                self.assertIn(library, stages[1])

    def free_port(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def test_two_replicas_behind_nginx(self):
        replicas = [Server(self.counting) for _ in range(2)]
        for replica in replicas:
            self.addCleanup(lambda r=replica: r.alive() and r.stop())
        port = self.free_port()
        conf = (DEPLOY / "nginx.conf").read_text()
        for shipped, here in (("127.0.0.1:8081", f"127.0.0.1:{replicas[0].port}"), ("127.0.0.1:8082", f"127.0.0.1:{replicas[1].port}"),
                              ("listen 8080", f"listen 127.0.0.1:{port}")):
            self.assertIn(shipped, conf)
            conf = conf.replace(shipped, here)
        own = "\n".join(f"{name} {self.dir}/nginx-{name};" for name in (
            "client_body_temp_path", "proxy_temp_path", "fastcgi_temp_path", "uwsgi_temp_path", "scgi_temp_path"))
        conf = conf.replace("http {", f"http {{\naccess_log off;\n{own}", 1)
        file = self.dir / "nginx.conf"
        file.write_text(f"pid {self.dir}/nginx.pid;\nerror_log stderr;\ndaemon off;\n" + conf)
        command = [NGINX, "-c", file, "-e", "stderr", "-p", self.dir]
        self.assertEqual(subprocess.run([*command, "-t"], capture_output=True).returncode, 0)
        nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        self.addCleanup(nginx.wait)
        self.addCleanup(nginx.terminate)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.addCleanup(client.close)

        def up():
            try:
                return client.get("/health").status_code == 200
            except httpx.TransportError:
                return False
        wait_until(up, "nginx answers")

        def ask(prompt, affinity=None):
            headers = {"x-stamp-affinity": affinity} if affinity else {}
            return client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 2}, headers=headers)

        def answered(total):
            """By each replica, when its log tells of `total` in all."""
            counts = lambda: [sum('path="/v1/completions" status=200' in line for line in list(r.lines)) for r in replicas]
            wait_until(lambda: sum(counts()) == total, f"{total} answers are in the logs")
            return counts()
        affinity = ask("a").headers["x-stamp-affinity"]
        before = answered(1)
        for _ in range(6):
            self.assertEqual(ask("a", affinity).headers["x-stamp-affinity"], affinity)
        self.assertIn([b - a for a, b in zip(before, answered(7))], ([6, 0], [0, 6]))  # all on one
        for i in range(24):
            self.assertEqual(ask("a", f"{i:016x}").status_code, 200)
        self.assertTrue(all(answered(31)))  # different ones on both
        with client.stream("POST", "/v1/completions", json={"prompt": "a", "stream": True}) as response:
            self.assertIn("data: [DONE]", list(response.iter_lines()))
        self.assertEqual(client.get("/metrics").status_code, 404)
        self.assertEqual(replicas[0].stop(), 0)  # one replica ends; nobody notices
        for i in range(24):
            self.assertEqual(ask("a", f"{i:016x}").status_code, 200)


if __name__ == "__main__":
    unittest.main()
