#!/usr/bin/env python3
"""`stamp serve --session-dir`: the prefix cache outlives the server, and a damaged one costs nothing but its hits."""
import unittest

from program import ProgramTest, stamp
from server import Server

PROMPT = "0123456789" * 30


class SessionDir(ProgramTest):
    def ask(self, *arguments):
        """One completion of a server of its own: the cached tokens, the answer, and the log."""
        server = Server(self.random, "--session-dir", self.dir, "--kv-memory", 1 << 22, *arguments)
        try:
            response = server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 20, "temperature": 0, "logprobs": 3})
            self.assertEqual(response.status_code, 200, response.text)
        finally:
            self.assertEqual(server.stop(), 0)
        answer = response.json()
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["choices"], "\n".join(server.lines)

    def test_the_prefix_cache_outlives_the_server(self):
        file = self.dir / "prefixes"
        cached, truth, log = self.ask()
        self.assertEqual(cached, 0)
        self.assertNotIn("restored", log)
        for _ in range(2):
            cached, choices, log = self.ask()
            self.assertEqual((cached, choices), (256, truth), log)
            self.assertIn("prefix cache restored", log)
        damaged = bytearray(file.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        file.write_bytes(damaged)
        cached, choices, log = self.ask()
        self.assertEqual((cached, choices), (0, truth))
        self.assertIn("the prefix cache is damaged", log)
        self.assertEqual(self.ask()[0], 256)  # written anew

    def test_a_directory_that_is_not_there_is_refused(self):
        result = stamp("serve", "--model", self.random, "--session-dir", self.dir / "missing")
        self.expect_error(result, 2, "missing", "--session-dir")


if __name__ == "__main__":
    unittest.main()
