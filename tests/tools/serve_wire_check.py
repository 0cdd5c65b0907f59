#!/usr/bin/env python3
"""`stamp serve` on the wire: what is answered, chunk by chunk, on the model that counts, whose text is known."""
import json
import ssl
import subprocess
import unittest
from pathlib import Path

import httpx2 as httpx

from program import AFTER_A, ProgramTest, stamp, wait_until
from server import Server, http_post, read_all, sse, statuses

CHAT = [{"role": "user", "content": "a"}]


class WireTest(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = Server(cls.counting, "--parallel", 4, "--queue", 8)
        cls.addClassCleanup(cls.server.stop)

    def completion(self, **fields):
        response = self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 40, **fields})
        self.assertEqual(response.status_code, 200, response.text)
        return response.json()

    def chat(self, **fields):
        response = self.server.post("/v1/chat/completions", {"messages": CHAT, **fields})
        self.assertEqual(response.status_code, 200, response.text)
        return response.json()

    def refused(self, path, status, body, **options):
        response = self.server.post(path, body, **options)
        self.assertEqual(response.status_code, status, response.text)
        error = response.json()["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertTrue(error["message"])
        return error

    def stream(self, path, body):
        """The events of a stream, which must end with [DONE]."""
        with httpx.stream("POST", self.server.url + path, json={**body, "stream": True}, timeout=60) as response:
            self.assertEqual(response.status_code, 200)
            self.assertTrue(response.headers["content-type"].startswith("text/event-stream"))
            events = sse(list(response.iter_lines()))
        self.assertEqual(events[-1], "[DONE]")
        return [json.loads(event) for event in events[:-1]]

    def test_completion(self):
        answer = self.completion()
        self.assertEqual(answer["object"], "text_completion")
        self.assertEqual(answer["model"], "counting")
        choice, = answer["choices"]
        self.assertEqual((choice["index"], choice["text"], choice["finish_reason"]), (0, AFTER_A, "stop"))
        self.assertEqual(answer["usage"]["prompt_tokens"], 2)  # <s> and a
        self.assertEqual(answer["usage"]["completion_tokens"], 26)  # b to z and </s>
        self.assertEqual(answer["usage"]["total_tokens"], 28)

    def test_length_and_stop(self):
        choice, = self.completion(max_tokens=3)["choices"]
        self.assertEqual((choice["text"], choice["finish_reason"]), ("bcd", "length"))
        choice, = self.completion(stop=["xyz", "fg"])["choices"]
        self.assertEqual((choice["text"], choice["finish_reason"]), ("bcde", "stop"))
        choice, = self.completion(max_tokens=0)["choices"]
        self.assertEqual((choice["text"], choice["finish_reason"]), ("", "length"))
        choice, = self.completion(prompt="x", ignore_eos=True, max_tokens=5, logprobs=0)["choices"]
        self.assertEqual(len(choice["logprobs"]["tokens"]), 5)

    def test_prompts_of_all_forms(self):
        answer = self.completion(prompt=["a", "x", "b"], max_tokens=2)
        self.assertEqual([c["text"] for c in answer["choices"]], ["bc", "yz", "cd"])
        self.assertEqual([c["index"] for c in answer["choices"]], [0, 1, 2])
        answer = self.completion(prompt=[[97], [98, 99]], max_tokens=2)
        self.assertEqual([c["text"] for c in answer["choices"]], ["bc", "de"])
        self.assertEqual(answer["usage"]["prompt_tokens"], 3)
        self.assertEqual(self.completion(prompt=[97], max_tokens=1)["choices"][0]["text"], "b")
        many = self.completion(prompt=["a"] * 40, max_tokens=2)  # more than may run and wait at once
        self.assertEqual([c["text"] for c in many["choices"]], ["bc"] * 40)

    def test_echo_and_logprobs(self):
        answer = self.completion(echo=True, logprobs=2, max_tokens=2)
        choice, = answer["choices"]
        self.assertEqual(choice["text"], "abc")
        logprobs = choice["logprobs"]
        self.assertEqual(logprobs["tokens"], ["<s>", "a", "b", "c"])
        self.assertEqual(logprobs["token_logprobs"][0], None)
        self.assertEqual(logprobs["top_logprobs"][0], None)
        for token, logprob, top in list(zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]))[2:]:
            self.assertEqual(max(top, key=top.get), token)
            self.assertEqual(top[token], logprob)
            self.assertEqual(len(top), 2)
        only, = self.completion(echo=True, logprobs=0, max_tokens=0)["choices"]
        self.assertEqual((only["text"], only["logprobs"]["tokens"]), ("a", ["<s>", "a"]))
        self.assertEqual(only["logprobs"]["token_logprobs"][1], logprobs["token_logprobs"][1])

    def test_choices_and_best_of(self):
        answer = self.completion(n=3, max_tokens=2)
        self.assertEqual([c["text"] for c in answer["choices"]], ["bc"] * 3)
        self.assertEqual(answer["usage"]["prompt_tokens"], 2)
        answer = self.completion(n=2, best_of=4, max_tokens=6, temperature=60, seed=3)
        self.assertEqual(len(answer["choices"]), 2)
        self.assertEqual(answer["usage"]["completion_tokens"], 24)
        drawn = self.completion(n=4, max_tokens=6, temperature=60, seed=3, logprobs=0)["choices"]
        by_mean = sorted(drawn, key=lambda c: -sum(c["logprobs"]["token_logprobs"]))
        self.assertEqual([c["text"] for c in answer["choices"]], [c["text"] for c in by_mean[:2]])

    def test_seed(self):
        draw = lambda seed: self.completion(temperature=60, seed=seed, max_tokens=12, ignore_eos=True)["choices"][0]["text"]
        self.assertEqual(draw(1), draw(1))
        self.assertNotEqual(draw(1), draw(2))
        second = self.completion(temperature=60, seed=1, n=2, max_tokens=12, ignore_eos=True)["choices"][1]["text"]
        self.assertEqual(second, draw(2))

    def test_completion_stream(self):
        chunks = self.stream("/v1/completions", {"prompt": "a", "max_tokens": 40, "logprobs": 0})
        self.assertEqual("".join(c["choices"][0]["text"] for c in chunks), AFTER_A)
        self.assertEqual([c["choices"][0]["finish_reason"] for c in chunks][-1], "stop")
        self.assertTrue(all(c["choices"][0]["finish_reason"] is None for c in chunks[:-1]))
        tokens = [t for c in chunks for t in c["choices"][0]["logprobs"]["tokens"]]
        self.assertEqual("".join(tokens), AFTER_A + "</s>")
        offsets = [t for c in chunks for t in c["choices"][0]["logprobs"]["text_offset"]]
        self.assertEqual(offsets, list(range(26)))

    def test_chat(self):
        answer = self.chat(max_tokens=2)
        self.assertEqual(answer["object"], "chat.completion")
        choice, = answer["choices"]
        self.assertEqual(choice["message"], {"role": "assistant", "content": "bc", "refusal": None})
        self.assertIsNone(choice["logprobs"])
        self.assertEqual(choice["finish_reason"], "length")
        self.assertEqual(self.chat()["choices"][0]["message"]["content"], AFTER_A)  # no limit but the context
        self.assertEqual(self.chat(max_completion_tokens=1)["choices"][0]["message"]["content"], "b")

    def test_chat_logprobs(self):
        content = self.chat(max_tokens=1, logprobs=True, top_logprobs=3)["choices"][0]["logprobs"]["content"]
        entry, = content
        self.assertEqual((entry["token"], entry["bytes"]), ("b", [98]))
        self.assertEqual(len(entry["top_logprobs"]), 3)
        self.assertEqual(entry["top_logprobs"][0]["logprob"], entry["logprob"])

    def test_chat_stream(self):
        chunks = self.stream("/v1/chat/completions", {"messages": CHAT, "max_tokens": 3, "n": 2,
                                                      "stream_options": {"include_usage": True}})
        self.assertEqual(len({c["id"] for c in chunks}), 1)
        usage = chunks.pop()
        self.assertEqual(usage["choices"], [])
        self.assertEqual(usage["usage"]["completion_tokens"], 6)
        self.assertTrue(all(c["usage"] is None for c in chunks))
        for index in (0, 1):
            choices = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
            self.assertEqual(choices[0]["delta"], {"role": "assistant", "content": ""})
            self.assertEqual("".join(c["delta"]["content"] for c in choices[1:-1]), "bcd")
            self.assertEqual((choices[-1]["delta"], choices[-1]["finish_reason"]), ({}, "length"))
            self.assertTrue(all(c["finish_reason"] is None for c in choices[:-1]))

    def test_models(self):
        model, = self.server.get("/v1/models").json()["data"]
        self.assertEqual((model["id"], model["object"], model["max_model_len"]), ("counting", "model", 512))
        self.assertEqual(self.server.get("/v1/models/counting").json(), model)
        self.assertEqual(self.server.get("/v1/models/other").status_code, 404)
        self.assertEqual(self.refused("/v1/completions", 404, {"prompt": "a", "model": "gpt-9"})["code"], "model_not_found")
        self.completion(model="counting")

    def test_tokenize(self):
        answer = self.server.post("/tokenize", {"prompt": "ab", "return_token_strs": True}).json()
        self.assertEqual(answer, {"count": 3, "max_model_len": 512, "tokens": [256, 97, 98], "token_strs": ["<s>", "a", "b"]})
        plain = self.server.post("/tokenize", {"prompt": "ab", "add_special_tokens": False}).json()
        self.assertEqual((plain["tokens"], plain["token_strs"]), ([97, 98], None))
        chat = self.server.post("/tokenize", {"messages": CHAT}).json()
        self.assertEqual(chat["tokens"], [256, 258, 97])
        self.assertEqual(self.server.post("/detokenize", {"tokens": [97, 98]}).json(), {"prompt": "ab"})
        info = self.server.get("/tokenizer_info").json()
        self.assertEqual((info["eos_token"], info["tokenizer_class"]), ("</s>", "PreTrainedTokenizerFast"))

    def test_refusals(self):
        self.assertEqual(self.refused("/v1/completions", 400, {"prompt": "a", "suffix": "b"})["param"], "suffix")
        self.assertEqual(self.refused("/v1/completions", 400, {"prompt": "a", "temperature": -1})["param"], "temperature")
        self.assertEqual(self.refused("/v1/completions", 400, {"prompt": [[]]})["param"], "prompt")
        error = self.refused("/v1/completions", 400, {"prompt": "a" * 600})
        self.assertEqual((error["param"], error["code"]), ("prompt", "context_length_exceeded"))
        error = self.refused("/v1/chat/completions", 400, {"messages": [{"role": "user", "content": "a" * 600}], "stream": True})
        self.assertEqual(error["code"], "context_length_exceeded")
        image = [{"type": "image_url", "image_url": {"url": "data:"}}]
        error = self.refused("/v1/chat/completions", 400, {"messages": [{"role": "user", "content": image}]})
        self.assertEqual(error["param"], "messages[0].content[0].type")

    def test_methods_and_paths(self):
        url = self.server.url
        self.assertEqual(httpx.get(url + "/nothing").status_code, 404)
        response = httpx.get(url + "/v1/completions")
        self.assertEqual((response.status_code, response.headers["allow"]), (405, "POST, OPTIONS"))
        response = httpx.options(url + "/v1/completions")
        self.assertEqual((response.status_code, response.headers["allow"]), (204, "POST, OPTIONS"))
        response = httpx.head(url + "/health")
        self.assertEqual((response.status_code, response.headers["content-length"], response.text), (200, "15", ""))
        self.assertEqual(httpx.get(url + "/openapi.json").json()["openapi"], "3.1.0")

    def test_page(self):
        response = self.server.get("/")
        self.assertTrue(response.headers["content-type"].startswith("text/html"))
        self.assertIn("script-src 'sha256-", response.headers["content-security-policy"])
        self.assertIn("</html>", response.text)

    def test_request_ids(self):
        response = self.server.get("/health", headers={"x-request-id": "mine-1"})
        self.assertEqual(response.headers["x-request-id"], "mine-1")
        answer = self.server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}, headers={"x-request-id": "mine-2"})
        self.assertEqual(answer.json()["id"], "cmpl-mine-2")
        self.assertIn('path="/v1/completions" status=200', self.server.wait_for_line("mine-2"))

    def test_affinity_is_of_the_prompts_begin(self):
        affinity = lambda text: self.server.post("/v1/completions", {"prompt": text, "max_tokens": 1}).headers["x-stamp-affinity"]
        self.assertEqual(affinity("b" * 64 + "x"), affinity("b" * 64 + "y"))
        self.assertNotEqual(affinity("x" + "b" * 64), affinity("y" + "b" * 64))

    def test_pipelined_requests_are_answered_in_order(self):
        keep = "connection: keep-alive"
        requests = [http_post("/v1/completions", {"prompt": p, "max_tokens": 1}, keep) for p in "abcdefgh"]
        received = self.server.raw(b"".join(requests) + b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        self.assertEqual(statuses(received), [200] * 9)
        bodies = [json.loads(part[part.index(b"{"):part.rindex(b"}") + 1]) for part in received.split(b"HTTP/1.1 200 OK")[1:]]
        self.assertEqual("".join(b["choices"][0]["text"] for b in bodies[:-1]), "bcdefghi")

    def test_continue_and_chunked_bodies(self):
        body = json.dumps({"prompt": "a", "max_tokens": 2}).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\n"
        chunked = head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(b"1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n"
        self.assertIn(b'"text":"bc"', self.server.raw(chunked))
        with self.server.connect() as connection:
            connection.sendall(head + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body))
            self.assertEqual(connection.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.sendall(body)
            self.assertIn(b'"text":"bc"', read_all(connection))
        refused = self.server.raw(b"POST /nothing HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        self.assertEqual(statuses(refused), [404])

    def test_old_clients(self):
        body = json.dumps({"prompt": "a", "max_tokens": 2, "stream": True}).encode()
        received = self.server.raw(b"POST /v1/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        self.assertNotIn(b"chunked", received)
        self.assertTrue(received.endswith(b"data: [DONE]\n\n"))

    def test_metrics(self):
        before = self.server.metric("stamp_generated_tokens_total")
        self.completion(max_tokens=7)
        wait_until(lambda: self.server.metric("stamp_generated_tokens_total") == before + 7, "the end of the scheduler's step")
        text = self.server.get("/metrics").text
        self.assertRegex(text, r'stamp_requests_total\{path="/v1/completions",status="200"\} \d+')
        self.assertRegex(text, r"stamp_time_to_first_token_seconds_count [1-9]")
        self.assertRegex(text, r"stamp_inter_token_seconds_count [1-9]")
        self.assertGreater(self.server.metric("stamp_kv_pages"), 0)
        self.assertEqual(self.server.metric("stamp_model_loaded"), 1)


class OptionsTest(ProgramTest):
    """Flags, each on a server of its own."""

    def server(self, *arguments, **options):
        server = Server(options.pop("model", self.counting), *arguments, **options)
        self.addCleanup(server.stop)
        return server

    def test_keys(self):
        file = self.dir / "keys"
        file.write_text("# team\nfrom-file\n")
        server = self.server("--api-key", "one", "--api-key", "two", "--api-key-file", file)
        body = {"prompt": "a", "max_tokens": 1}
        for key in ("one", "two", "from-file"):
            self.assertEqual(server.post("/v1/completions", body, headers={"authorization": "Bearer " + key}).status_code, 200)
        for headers in ({}, {"authorization": "Bearer three"}, {"authorization": "one"}):
            response = server.post("/v1/completions", body, headers=headers)
            self.assertEqual((response.status_code, response.headers["www-authenticate"]), (401, "Bearer"))
            self.assertEqual(server.get("/metrics", headers=headers).status_code, 401)
        self.assertEqual(server.get("/health").status_code, 200)
        self.assertFalse(any("from-file" in line or "Bearer" in line for line in server.lines))

    def test_origins(self):
        closed, open_ = self.server(), self.server("--cors-origin", "https://app.example")
        body = {"prompt": "a", "max_tokens": 1}
        app, other = {"origin": "https://app.example"}, {"origin": "https://other.example"}
        self.assertEqual(closed.post("/v1/completions", body, headers=app).status_code, 403)
        own = {"origin": closed.url}
        self.assertEqual(closed.post("/v1/completions", body, headers=own).status_code, 200)
        self.assertEqual(open_.post("/v1/completions", body, headers=other).status_code, 403)
        response = open_.post("/v1/completions", body, headers=app)
        self.assertEqual((response.status_code, response.headers["access-control-allow-origin"]), (200, "https://app.example"))
        preflight = httpx.options(open_.url + "/v1/completions", headers={**app, "access-control-request-method": "POST"})
        self.assertEqual(preflight.status_code, 204)
        self.assertIn("Content-Type", preflight.headers["access-control-allow-headers"])

    def test_tls(self):
        certificate, key = self.dir / "cert.pem", self.dir / "key.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1",
                        "-keyout", key, "-out", certificate], check=True, capture_output=True)
        server = self.server("--tls-cert", certificate, "--tls-key", key, scheme="https")
        trusted = ssl.create_default_context(cafile=certificate)
        with httpx.Client(verify=trusted, base_url=server.url) as client:
            for _ in range(3):  # over one connection
                answer = client.post("/v1/completions", json={"prompt": "a", "max_tokens": 3}).json()
                self.assertEqual(answer["choices"][0]["text"], "bcd")
            with client.stream("POST", "/v1/completions", json={"prompt": "a", "stream": True}) as response:
                self.assertEqual(sse(list(response.iter_lines()))[-1], "[DONE]")
        self.assertEqual(statuses(server.raw(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")), [])
        self.assertEqual(httpx.get(server.url + "/health", verify=trusted).status_code, 200)
        self.expect_error(stamp("serve", "-m", self.counting, "--tls-cert", certificate), 2, "--tls-key")
        self.expect_error(stamp("serve", "-m", self.counting, "--tls-cert", key, "--tls-key", key), 2, str(key), "certificate")

    def test_config_file(self):
        file = self.dir / "serve.json"
        file.write_text(json.dumps({"served-name": "from-file", "api-key": ["k"], "parallel": 2, "log-format": "json"}))
        server = self.server("--config", file, "--served-name", "from-flag")
        models = server.get("/v1/models", headers={"authorization": "Bearer k"}).json()
        self.assertEqual(models["data"][0]["id"], "from-flag")
        json_lines = [json.loads(line) for line in server.lines]
        self.assertEqual(json_lines[0]["level"], "info")
        file.write_text('{"prot": 1}')
        self.expect_error(stamp("serve", "-m", self.counting, "--config", file), 2, str(file), "prot")
        file.write_text('{"port": "many"}')
        self.expect_error(stamp("serve", "-m", self.counting, "--config", file), 2, str(file), "port")

    def test_shipped_config(self):
        """configs/serve.json says what holds without it."""
        shipped = json.loads((Path(__file__).resolve().parents[2] / "configs" / "serve.json").read_text())
        self.server("--config", Path(__file__).resolve().parents[2] / "configs" / "serve.json")
        usage = stamp("serve", "--help").stdout
        for name, value in shipped.items():
            self.assertRegex(usage, rf"--{name} .*={value} \(Env")

    def test_environment(self):
        server = self.server(env={"STAMP_SERVED_NAME": "from-environment", "STAMP_LOG_FORMAT": "json"})
        self.assertEqual(server.get("/v1/models").json()["data"][0]["id"], "from-environment")

    def test_what_cannot_start_is_one_line(self):
        server = self.server()
        self.expect_error(stamp("serve", "-m", self.counting, "--port", server.port), 2, str(server.port), "in use")
        self.expect_error(stamp("serve"), 2, "--model")
        self.expect_error(stamp("serve", "-m", self.counting, "--host", "203.0.113.1", "--port", 0), 2, "203.0.113.1")
        self.expect_error(stamp("serve", "-m", self.counting, "--api-key-file", self.dir / "none"), 2, "no such file")
        bad = stamp("serve", "-m", self.dir / "no-model", "--port", 0)
        self.assertEqual(bad.returncode, 2)
        self.assertRegex(bad.stderr, r"\nstamp: [^\n]*no-model[^\n]*\n\Z")

    def test_prompts_are_never_logged(self):
        server = self.server("--log-format", "json")
        secret = "xylophone"
        server.post("/v1/completions", {"prompt": secret, "max_tokens": 1})
        server.post("/v1/completions", {"prompt": [secret, 1], "max_tokens": 1})
        server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": secret}], secret: 1})
        server.get("/" + secret)
        self.assertEqual(server.stop(), 0)
        self.assertFalse([line for line in server.lines if secret in line])
        requests = [json.loads(line) for line in server.lines if '"message":"request"' in line]
        self.assertEqual([r["status"] for r in requests if r["path"] not in ("/ready",)], [200, 400, 400, 404])


if __name__ == "__main__":
    unittest.main()
