#!/usr/bin/env python3
"""What of gpu_check.sh needs no GPU: its usage, what it says without a device, and its page from a recorded result."""
import html.parser
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TESTS = Path(__file__).resolve().parent
BENCH = {"tests": [{"name": "pp512", "samples": [1000.0, 1200.0, 1100.0], "median": 1100.0}]}
RESULT = {
    "gpu": "NVIDIA <A100>, 580.1", "tests": {"tests": 71, "failures": 0, "errors": 0}, "compute_sanitizer_clean": True,
    "products": [{"rows": 2048, "k": 4096, "n": 4096, "stamp_us": 410.5, "cublas_us": 250.25}],
    "bench": {"cuda": BENCH, "cpu": None}, "peers": {"llama.cpp": BENCH, "vLLM": None},
    "perplexity": {"cuda": {"recipe": "w4a8kv4-stamp", "ppl": 23.27, "tokens_scored": 40940}, "cpu": None},
}


class Text(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.words, self.tags = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


class GpuCheck(unittest.TestCase):
    def script(self, *arguments, path=None):
        environment = {**os.environ, **({"PATH": path} if path else {})}
        return subprocess.run(["bash", TESTS / "gpu_check.sh", *arguments], env=environment, capture_output=True, text=True,
                              timeout=60)

    def page(self, result):
        with tempfile.TemporaryDirectory() as directory:
            source, out = Path(directory) / "result.json", Path(directory) / "page.html"
            source.write_text(result if isinstance(result, str) else json.dumps(result))
            done = subprocess.run([sys.executable, TESTS / "gpu_page.py", source, out], capture_output=True, text=True)
            return done, out.read_text() if out.exists() else None

    def test_wrong_usage_is_said_with_code_2(self):
        for arguments in (("a.json", "b.json"), ("--help",), ("result.txt",)):
            done = self.script(*arguments)
            self.assertEqual(done.returncode, 2, done)
            self.assertIn("usage: bash tests/gpu_check.sh", done.stderr)

    def test_without_a_device_one_line_says_so(self):
        with tempfile.TemporaryDirectory() as tools:  # those of the base system without nvidia-smi
            for tool in ("bash", "dirname", "nproc", "cat", "id", "git"):
                found = subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip()
                if found:
                    os.symlink(found, Path(tools) / tool)
            done = self.script(path=tools)
        self.assertEqual(done.returncode, 2, done)
        self.assertEqual(len(done.stderr.strip().splitlines()), 1, done)
        self.assertIn("no NVIDIA GPU here", done.stderr)

    def test_page_says_what_was_measured_and_what_was_not(self):
        done, page = self.page(RESULT)
        self.assertEqual(done.returncode, 0, done)
        text = Text(page)
        words = " ".join(text.words)
        for expected in ("stamp on NVIDIA <A100>, 580.1", "71 tests, 0 failed", "compute-sanitizer: clean", "410.5", "1100",
                         "llama.cpp", "Not checked: vLLM is not installed", "23.27", "40940"):
            self.assertIn(expected, words if expected != "40940" else words.replace("4.094e+04", "40940"))
        for tag, attributes in text.tags:  # nothing from elsewhere
            self.assertNotIn(tag, ("script", "link", "img", "iframe"))
            self.assertFalse({"src", "href"} & attributes.keys())

    def test_page_shows_failures_and_gaps(self):
        gaps = {**RESULT, "tests": {"tests": 71, "failures": 2, "errors": 1}, "compute_sanitizer_clean": None, "products": None,
                "bench": {"cuda": None, "cpu": None}, "peers": None, "perplexity": {"cuda": None, "cpu": None}}
        done, page = self.page(gaps)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("class=bad>71 tests, 3 failed", page)
        self.assertEqual(page.count("Not checked:"), 4)

    def test_page_refuses_what_is_no_result(self):
        for text in ("not json", "{}", "[]"):
            done, page = self.page(text)
            self.assertEqual((done.returncode, page), (2, None))
            self.assertRegex(done.stderr, r"\A[^\n]*not a result of gpu_check.sh[^\n]*\n\Z")


if __name__ == "__main__":
    unittest.main()
