#!/usr/bin/env python3
"""`stamp batch`: OpenAI's batch lines in, results out, each request answered once however often it is started."""
import json
import unittest

from program import AFTER_A, ProgramTest, stamp


def request(custom_id, url="/v1/completions", **body):
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


class Batch(ProgramTest):
    def setUp(self):
        self.requests, self.results = self.dir / f"{self.id()}.jsonl", self.dir / f"{self.id()}.out.jsonl"

    def write(self, lines):
        self.requests.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def run_batch(self, *arguments, model=None):
        return stamp("batch", "--model", model or self.counting, "--in", self.requests, "--out", self.results,
                     "--threads", "1", "--kv-memory", 1 << 24, *arguments)

    def read(self):
        return {line["custom_id"]: line for line in map(json.loads, self.results.read_text().splitlines())}

    def test_each_request_has_its_result(self):
        self.write([
            request("text", prompt="a", max_tokens=40),
            request("several", prompt=["w", "x"], n=2, max_tokens=2),
            request("chat", "/v1/chat/completions", messages=[{"role": "user", "content": "q"}], max_tokens=3),
            request("refused", prompt="a", temperature=-1),
            request("streams", prompt="a", stream=True),
            request("elsewhere", model="another", prompt="a"),
        ])
        result = self.run_batch()
        self.assertEqual((result.returncode, result.stdout), (0, ""), result)
        self.assertRegex(result.stderr, r"\A6 requests \| 0 had results \| 3 failed \| ")
        results = self.read()
        self.assertEqual(len(results), 6)
        for line in results.values():
            self.assertEqual(set(line), {"id", "custom_id", "response", "error"})
            self.assertEqual(set(line["response"]), {"status_code", "request_id", "body"})
            self.assertIsNone(line["error"])
        body = {name: line["response"]["body"] for name, line in results.items()}
        status = {name: line["response"]["status_code"] for name, line in results.items()}
        self.assertEqual(status, {"text": 200, "several": 200, "chat": 200, "refused": 400, "streams": 400, "elsewhere": 404})
        self.assertEqual(body["text"]["choices"][0]["text"], AFTER_A)
        self.assertEqual(body["text"]["choices"][0]["finish_reason"], "stop")
        self.assertEqual([choice["text"] for choice in body["several"]["choices"]], ["xy", "xy", "yz", "yz"])
        self.assertEqual(body["chat"]["object"], "chat.completion")
        self.assertEqual(body["chat"]["choices"][0]["message"]["role"], "assistant")
        self.assertEqual(body["refused"]["error"]["param"], "temperature")
        self.assertEqual(body["streams"]["error"]["param"], "stream")
        self.assertEqual(body["elsewhere"]["error"]["code"], "model_not_found")

    def test_many_requests_at_once_give_the_answers_of_each_alone(self):
        lines = [request(f"r{i}", prompt="seed " * (i % 7 + 1), max_tokens=20, temperature=1, seed=i, logprobs=2)
                 for i in range(60)]
        self.write(lines)
        self.assertEqual(self.run_batch("--parallel", 16, model=self.random).returncode, 0)
        together = self.read()
        self.results.unlink()
        self.assertEqual(self.run_batch("--parallel", 1, model=self.random).returncode, 0)
        alone = self.read()
        self.assertEqual(set(together), {f"r{i}" for i in range(60)})
        for name, line in together.items():
            self.assertEqual(line["response"]["body"]["choices"], alone[name]["response"]["body"]["choices"])

    def test_goes_on_where_it_was_stopped(self):
        self.write([request(str(i), prompt="a", max_tokens=i) for i in range(1, 6)])
        self.assertEqual(self.run_batch().returncode, 0)
        complete = self.results.read_text().splitlines(keepends=True)
        self.results.write_text("".join(complete[:2]) + complete[2][:50])  # killed within the third line
        result = self.run_batch()
        self.assertEqual(result.returncode, 0, result)
        self.assertRegex(result.stderr, r"\A3 requests \| 2 had results \| 0 failed")
        self.assertEqual(self.results.read_text().splitlines(keepends=True)[:2], complete[:2])
        texts = {name: line["response"]["body"]["choices"][0]["text"] for name, line in self.read().items()}
        self.assertEqual(texts, {str(i): AFTER_A[:i] for i in range(1, 6)})
        before = self.results.read_text()
        result = self.run_batch()
        self.assertEqual((result.returncode, result.stderr), (0, "all 5 requests have their results\n"))
        self.assertEqual(self.results.read_text(), before)

    def test_a_file_that_is_no_batch_is_refused_by_the_line(self):
        good = json.dumps(request("1", prompt="a"))
        for text, words in [
                ("", ["holds no request"]),
                (good + "\n{", [":2"]),
                (good + "\n" + good, [":2", "custom_id 1"]),
                ("[]", [":1", "object"]),
                (json.dumps({**request("1"), "url": "/v1/embeddings"}), [":1", "url"]),
                (json.dumps({**request("1"), "method": "GET"}), [":1", "method"]),
                (json.dumps({**request("1"), "body": 1}), [":1", "body"]),
                (json.dumps({"url": "/v1/completions"}), [":1", "custom_id"])]:
            with self.subTest(text):
                self.requests.write_text(text)
                self.expect_error(self.run_batch(), 2, self.requests.name, *words)
                self.assertFalse(self.results.exists())
        self.write([request("1", prompt="a")])
        self.results.write_text('{"custom_id": "1"}\n')
        self.expect_error(self.run_batch(), 2, self.results.name, "no result")
        self.requests.unlink()
        self.expect_error(self.run_batch(), 2, self.requests.name, "cannot be read")


if __name__ == "__main__":
    unittest.main()
