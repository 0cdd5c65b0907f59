"""What the tests of the program share: the built `stamp`, tiny models for it, and runs with a clean environment."""
import os
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

BUILD = Path(os.environ["STAMP_BUILD_DIR"])
STAMP = str(BUILD / "stamp")
AFTER_A = "bcdefghijklmnopqrstuvwxyz"  # what the counting model says after "a", and then it ends


def environment(**variables):
    """That of this process without any STAMP_* variable, then `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STAMP_")}
    return {**kept, **variables}


def stamp(*arguments, stdin="", env=None, **options):
    """Runs the program; the result has returncode, stdout and stderr."""
    return subprocess.run([STAMP, *map(str, arguments)], input=stdin, env=environment(**(env or {})), text=True,
                          capture_output=True, timeout=120, **options)


def wait_until(condition, what, seconds=30):
    """Asks again and again until the answer is true, and returns it; an error that says `what` if it never is."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)
    return answer


class ProgramTest(unittest.TestCase):
    """Has the directories `counting` and `random` of two tiny models, and `dir` for files."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        cls.dir = Path(cls.temporary.name)
        cls.counting, cls.random = cls.dir / "counting", cls.dir / "random"
        for model in (cls.counting, cls.random):
            subprocess.run([BUILD / "tests/tiny_model_cli", model.name, model], check=True)

    def expect_error(self, result, code, *words):
        """One line on stderr, nothing on stdout."""
        self.assertEqual(result.returncode, code, result)
        self.assertEqual(result.stdout, "", result)
        self.assertRegex(result.stderr, r"\Astamp: [^\n]+\n\Z")
        for word in words:
            self.assertIn(word, result.stderr)
