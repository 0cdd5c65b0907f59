#!/usr/bin/env python3
"""lm-eval's API models against `stamp serve` with SmolLM2 in float32: likelihoods, greedy flags and texts are those that
lm-eval's own backend for transformers gave on the same tasks (tests/golden/make.py)."""
import hashlib
import json
import os
import sys
import unittest
from pathlib import Path

from server import SMOLLM2, Server

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS), str(TESTS / "golden/harness")]
import prepare_data  # noqa: E402
import run_tasks  # noqa: E402

KEY = "secret"


@unittest.skipUnless(SMOLLM2, "needs STAMP_SMOLLM2_DIR")
class LmEvalTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.golden = json.loads((TESTS / "golden/harness.json").read_text(encoding="utf-8"))
        cls.server = Server(SMOLLM2, "--recipe", "f32", "--ctx", 2048, "--parallel", 8, "--served-name", "smollm2", "--api-key", KEY)
        cls.addClassCleanup(cls.server.stop)
        os.environ["OPENAI_API_KEY"] = KEY  # where lm-eval looks for it

    def setUp(self):
        self.assertEqual(run_tasks.tasks_sha256(), self.golden["tasks_sha256"], "run tests/golden/make.py --only harness")
        self.assertEqual(prepare_data.fingerprint(Path(SMOLLM2)), self.golden["fingerprint"])
        tokenizer = hashlib.sha256((Path(SMOLLM2) / "tokenizer.json").read_bytes()).hexdigest()
        self.assertEqual(tokenizer, self.golden["tokenizer_sha256"])

    def run_tasks(self, names, model, path, **options):
        arguments = {"model": "smollm2", "base_url": self.server.url + path, "auth_token": KEY, "timeout": 120, **options.pop("args", {})}
        return run_tasks.run_tasks(names, model, arguments, **options)

    def expect_golden(self, responses):
        """Floats within what the two orders of summation make."""
        for task, values in responses.items():
            expected = self.golden["responses"][task]
            self.assertEqual(len(values), len(expected), task)
            for i, (value, truth) in enumerate(zip(values, expected)):
                if isinstance(truth, str):
                    self.assertEqual(value, truth, (task, i))
                    continue
                if isinstance(truth, list):
                    self.assertEqual(value[1], truth[1], (task, i, value, truth))  # the greedy flag
                    value, truth = value[0], truth[0]
                self.assertAlmostEqual(value, truth, delta=2e-5 * max(1, abs(truth)), msg=(task, i))

    def test_completions(self):
        self.expect_golden(self.run_tasks(run_tasks.LIKELIHOOD + run_tasks.GENERATION, "local-completions", "/v1/completions",
                                          args={"num_concurrent": 8}))

    def test_completions_in_batches_one_after_the_other(self):
        self.expect_golden(self.run_tasks(["cloze", *run_tasks.GENERATION], "local-completions", "/v1/completions", batch_size=4))

    def test_completions_as_text(self):
        self.expect_golden(self.run_tasks(["cloze"], "local-completions", "/v1/completions",
                                          args={"num_concurrent": 8, "tokenized_requests": False}))

    def test_chat_completions(self):
        self.expect_golden(self.run_tasks(run_tasks.CHAT, "local-chat-completions", "/v1/chat/completions",
                                          args={"num_concurrent": 8}, apply_chat_template=True))


if __name__ == "__main__":
    unittest.main()
