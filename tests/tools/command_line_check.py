#!/usr/bin/env python3
"""The command line of `stamp`: help, usage errors, mirrors in the environment, what goes to which stream."""
import json
import os
import re
import signal
import subprocess
import unittest

from program import AFTER_A, STAMP, ProgramTest, environment, stamp, wait_until

COMMANDS = ["generate", "chat", "perplexity", "bench", "quantize", "inspect", "batch"]
PERPLEXITY_FIELDS = {
    "protocol", "tokens_scored", "context", "stride", "bos", "tokenizer_sha256", "text_sha256", "nll", "ppl", "ppl_stderr",
    "bits_per_byte", "tokens_per_second", "recipe", "mean_activation_bits", "mean_kv_bits", "kv_bytes_per_token", "weight_bits",
    "isa", "threads", "chunks"}
BENCH_FIELDS = {"tests", "load_s", "peak_rss_bytes", "weight_bytes", "kv_bytes_per_token", "recipe", "isa", "threads"}
GENERATE_FIELDS = {
    "text", "tokens", "finish_reason", "prompt_tokens", "load_s", "first_token_s", "prefill_tokens_per_second",
    "decode_tokens_per_second", "drafted_tokens", "accepted_tokens", "peak_rss_bytes", "recipe", "isa", "threads"}


class Help(ProgramTest):
    def test_program(self):
        result = stamp("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for word in COMMANDS + ["Examples:", "Exit codes: 0 ok, 1 failure, 2 bad usage", "STAMP_TOP_P"]:
            self.assertIn(word, result.stdout)

    def test_version(self):
        result = stamp("--version")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertRegex(result.stdout, r"\Astamp \d+\.\d+\.\d+\n\Z")

    def test_every_command_lists_its_flags_their_mirrors_and_examples(self):
        common = ["model", "recipe", "device", "threads"]
        sampling = ["temp", "top-k", "top-p", "min-p", "repeat-penalty", "presence-penalty", "frequency-penalty",
                    "logit-bias", "seed", "stop"]
        flags = {
            "generate": sampling + ["ctx", "prompt", "file", "max-tokens", "chat", "system", "ignore-eos", "stats", "json"],
            "chat": sampling + ["ctx", "system", "max-tokens", "stats"],
            "perplexity": ["file", "protocol", "context", "stride", "chunks", "resume", "json"],
            "bench": ["prefill", "decode", "depth", "streams", "repeat", "verbose", "json", "device-model", "shape"],
            "quantize": ["out", "calibrate"],
            "batch": ["ctx", "in", "out", "served-name", "parallel", "kv-memory"],
            "inspect": ["verify", "text", "tokens", "report", "perplexities", "tune", "bits", "transforms", "json"],
        }
        for command in COMMANDS:
            with self.subTest(command):
                result = stamp(command, "--help")
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assertRegex(result.stdout, r"\nExamples?:\n  stamp " + command)
                listed = set(re.findall(r"--([a-z-]+)", result.stdout.split("Example")[0])) - {"help"}
                self.assertLessEqual(set(flags[command] + common), listed)
                for name in flags[command] + common:
                    self.assertIn(f"(Env:STAMP_{name.upper().replace('-', '_')})", result.stdout)


class Usage(ProgramTest):
    def test_wrong_command_lines(self):
        missing, text = self.dir / "missing", self.dir / "short.txt"
        text.write_text("abc")
        model = ("--model", self.counting)
        generate = ("generate", *model, "-p", "a")
        perplexity = ("perplexity", *model, "--file", text)
        cases = [
            ((), "subcommand"),
            (("frobnicate",), "frobnicate"),
            (("--frobnicate",), "frobnicate"),
            (("generate",), "--model"),
            (("generate", "-p", "a"), "--model"),
            (("generate", "--model"), "--model"),
            (("generate", "--model", missing, "-p", "a"), f"{missing}: no such directory"),
            (("chat", "--model", missing), f"{missing}: no such directory"),
            (("bench", "--model", missing), f"{missing}: no such directory"),
            ((*generate, "--frobnicate"), "frobnicate"),
            ((*generate, "stray"), "stray"),
            ((*generate, "--model", self.random), "--model"),
            ((*generate, "--threads", "-1"), "--threads"),
            ((*generate, "--threads", "two"), "--threads"),
            ((*generate, "-n", "-5"), "--max-tokens"),
            ((*generate, "-n", "1.5"), "--max-tokens"),
            ((*generate, "--ctx", "-1"), "--ctx"),
            ((*generate, "--ctx", "1"), "do not fit the context of 1"),
            ((*generate, "--temp", "hot"), "--temp"),
            ((*generate, "--temp", "-1"), "temperature"),
            ((*generate, "--temp", "nan"), "temperature"),
            ((*generate, "--top-k", "-1"), "top_k"),
            ((*generate, "--top-p", "1.5"), "top_p"),
            ((*generate, "--min-p", "-1"), "min_p"),
            ((*generate, "--repeat-penalty", "0"), "repetition penalty"),
            ((*generate, "--presence-penalty", "3"), "presence penalty"),
            ((*generate, "--frequency-penalty", "-3"), "frequency penalty"),
            ((*generate, "--logit-bias", "97"), "--logit-bias 97: expected ID=VALUE"),
            ((*generate, "--logit-bias", "97=much"), "--logit-bias 97=much"),
            ((*generate, "--logit-bias", "999=1"), "token 999"),
            ((*generate, "--seed", "-1"), "--seed"),
            ((*generate, "--stop", ""), "stop string"),
            ((*generate, "--system", "x"), "--system needs --chat"),
            ((*generate, "--recipe", "w9"), "recipe w9"),
            ((*generate, "--device", "tpu"), "device tpu"),
            ((*generate, "-f", missing), f"{missing}: cannot be read"),
            ((*generate, "-f", self.dir), f"{self.dir}: is a directory"),
            (("generate", *model), "no prompt"),
            (("perplexity", *model), "--file"),
            (("perplexity", *model, "--file", missing), f"{missing}: cannot be read"),
            (perplexity, "the text has 3 tokens"),
            ((*perplexity, "--protocol", "gguf"), "protocol gguf"),
            ((*perplexity, "--context", "1"), "--context"),
            ((*perplexity, "--context", "2", "--stride", "1"), "--stride belongs to --protocol strided"),
            ((*perplexity, "--context", "2", "--stride", "3", "--protocol", "strided"), "stride 3"),
            ((*perplexity, "--context", "2", "--chunks", "-2"), "--chunks"),
            ((*perplexity, "--context", "2", "--chunks", "0"), "no window was scored"),
            (("bench", *model, "--prefill", "0"), "--prefill"),
            (("bench", *model, "--prefill", "8,x"), "--prefill"),
            (("bench", *model, "--decode", "-1"), "--decode"),
            (("bench", *model, "--repeat", "0"), "--repeat"),
            (("bench",), "--model"),
            (("bench", *model, "--shape", "8b"), "--device-model"),
            (("bench", "--device-model", "z80"), 'device model "z80" is unknown; choose one of a100, h100, rtx4090, b200'),
            (("bench", "--device-model", "a100", "--shape", "9b"), 'shape "9b" is unknown; choose one of 1b, 8b, 70b'),
            (("bench", "--device-model", "a100", "--recipe", "f32"), "recipe f32: a prediction needs"),
        ]
        for arguments, word in cases:
            with self.subTest(" ".join(map(str, arguments))):
                self.expect_error(stamp(*arguments), 2, word)

    def test_a_text_with_line_breaks_in_an_argument_stays_one_line(self):
        self.expect_error(stamp("generate", "--model", "no\nsuch\rdirectory", "-p", "a"), 2, "no such directory")

    def test_cuda_without_a_device(self):
        result = stamp("generate", "--model", self.counting, "-p", "a", "--device", "cuda", env={"CUDA_VISIBLE_DEVICES": ""})
        self.expect_error(result, 2, "device cuda")

    def test_chat_needs_a_template(self):
        config = self.counting / "tokenizer_config.json"
        original = config.read_text()
        self.addCleanup(config.write_text, original)
        config.write_text(json.dumps({k: v for k, v in json.loads(original).items() if k != "chat_template"}))
        for arguments in [("generate", "--chat", "-p", "a"), ("chat",)]:
            self.expect_error(stamp(*arguments, "--model", self.counting), 2, f"{self.counting}: has no chat template")
        self.assertEqual(stamp("generate", "--model", self.counting, "-p", "a").stdout, AFTER_A + "\n")


class Generate(ProgramTest):
    def generate(self, *arguments, **options):
        """The statistics of a successful run; checks the streams."""
        file = self.dir / "out.json"
        result = stamp("generate", "--model", self.counting, "--json", file, *arguments, **options)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result)
        statistics = json.loads(file.read_text())
        self.assertEqual(result.stdout, statistics["text"] + "\n")
        return statistics

    def test_text_alone_on_stdout(self):
        result = stamp("generate", "--model", self.counting, "-p", "a")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, AFTER_A + "\n", ""))

    def test_statistics_on_stderr(self):
        result = stamp("generate", "--model", self.counting, "-p", "a", "--stats", "--threads", "1")
        self.assertEqual((result.returncode, result.stdout), (0, AFTER_A + "\n"))
        self.assertRegex(result.stderr, r"\Aload [\d.]+ s \| prompt 2 tokens, first token after [\d.]+ s \([\d.]+ tok/s\) \| "
                                        r"decode 26 tokens, [\d.]+ tok/s \| peak memory \d+ MiB \| \w+ x1\n\Z")

    def test_json(self):
        statistics = self.generate("-p", "x", "--threads", "1")
        self.assertEqual(set(statistics), GENERATE_FIELDS)
        self.assertEqual(statistics["text"], "yz")
        self.assertEqual(statistics["tokens"], [ord("y"), ord("z"), 257])
        self.assertEqual(statistics["finish_reason"], "stop")
        self.assertEqual(statistics["prompt_tokens"], 2)
        self.assertEqual(statistics["recipe"], "f32")
        self.assertEqual(statistics["threads"], 1)
        for field in ("load_s", "first_token_s", "prefill_tokens_per_second", "decode_tokens_per_second", "peak_rss_bytes"):
            self.assertGreater(statistics[field], 0, field)
        self.assertEqual(self.generate("-p", "x", "-n", "1")["finish_reason"], "length")

    def test_json_that_cannot_be_written_is_a_failure(self):
        result = stamp("generate", "--model", self.counting, "-p", "x", "--json", self.dir / "absent/out.json")
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"\Astamp: .*absent/out.json: cannot be written\n\Z")

    def test_prompt_is_the_flag_then_the_file_then_stdin(self):
        file = self.dir / "prompt.txt"
        file.write_text("m")
        self.assertEqual(self.generate("-p", "a", "-f", file)["text"], "nopqrstuvwxyz")
        self.assertEqual(self.generate("-p", "a", "-f", file, stdin="x")["text"], "yz")
        self.assertEqual(self.generate("-f", file)["prompt_tokens"], 2)
        self.assertEqual(self.generate(stdin="x")["text"], "yz")
        self.assertEqual(self.generate("-p", "ab", stdin="x")["prompt_tokens"], 5)  # BOS, ab, a line break, x
        self.assertEqual(self.generate("-p", "ab\n", stdin="x")["prompt_tokens"], 5)  # which is there already
        self.assertEqual(self.generate("-p", "ab")["prompt_tokens"], 3)

    def test_chat_template(self):
        statistics = self.generate("--chat", "--system", "s", "-p", "x")
        self.assertEqual(statistics["text"], "yz")
        self.assertEqual(statistics["prompt_tokens"], 5)  # BOS, <|system|>, s, <|user|>, x

    def test_sampling_flags(self):
        self.assertEqual(self.generate("-p", "a", "-n", "3")["text"], "bcd")
        self.assertEqual(self.generate("-p", "a", "--stop", "zzz", "--stop", "efg")["text"], "bcd")
        self.assertEqual(self.generate("-p", "y", "--ignore-eos", "-n", "4")["text"], "zab")
        self.assertEqual(self.generate("-p", "a", "--logit-bias", "113=100", "-n", "3")["text"], "qqq")
        self.assertEqual(self.generate("-p", "a", "--logit-bias", "98=-100", "--logit-bias", "33=50", "-n", "1")["text"], "!")
        self.assertEqual(self.generate("-p", "a", "-n", "0")["text"], "")

    def random_text(self, *arguments):
        result = stamp("generate", "--model", self.random, "-p", "a", "-n", "40", "--ignore-eos", *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout

    def test_the_seed_decides(self):
        text = self.random_text("--temp", "1", "--seed", "3")
        self.assertEqual(self.random_text("--temp", "1", "--seed", "3", "--threads", "3"), text)
        self.assertNotEqual(self.random_text("--temp", "1", "--seed", "4"), text)
        greedy = self.random_text()
        self.assertEqual(self.random_text("--temp", "1", "--top-k", "1", "--seed", "9"), greedy)
        self.assertEqual(self.random_text("--temp", "1", "--top-p", "0.000001"), greedy)
        self.assertEqual(self.random_text("--temp", "1", "--min-p", "1"), greedy)
        self.assertNotEqual(self.random_text("--repeat-penalty", "1.8"), greedy)

    def test_generation_config_decides_where_no_flag_does(self):
        file = self.random / "generation_config.json"
        self.addCleanup(file.unlink)
        greedy = self.random_text()
        file.write_text(json.dumps({"do_sample": True, "temperature": 1.0}))
        sampled = self.random_text()
        self.assertNotEqual(sampled, greedy)
        self.assertEqual(self.random_text("--temp", "0"), greedy)
        file.write_text(json.dumps({"do_sample": True, "temperature": 1.0, "top_k": 1}))
        self.assertEqual(self.random_text(), greedy)
        self.assertEqual(self.random_text("--top-k", "0"), sampled)

    def test_interrupt_ends_the_text(self):
        command = [STAMP, "generate", "--model", self.counting, "-p", "0", "--ctx", "2000000", "-n", "1000000"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=environment()) as process:
            self.assertEqual(process.stdout.read(10), "1234567890")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, err), (130, ""))
        self.assertRegex(out, r"\A[0-9]*\n\Z")


class Streams(ProgramTest):
    def test_a_reader_that_leaves_is_a_failure(self):
        for arguments in [("generate", "-p", "0", "-n", "400"), ("bench", "--prefill", "8", "--decode", "1", "--depth", "0")]:
            with self.subTest(arguments[0]):
                reader, writer = os.pipe()
                os.close(reader)
                process = subprocess.run([STAMP, *arguments, "--model", self.counting], stdin=subprocess.DEVNULL, stdout=writer,
                                         stderr=subprocess.PIPE, text=True, env=environment(), timeout=60)
                os.close(writer)
                self.assertEqual(process.returncode, 1)
                self.assertEqual(process.stderr, "stamp: cannot write to stdout: Broken pipe\n")

    def test_a_full_disk_is_a_failure(self):
        with open("/dev/full", "w") as full:
            process = subprocess.run([STAMP, "generate", "-p", "a", "--model", self.counting], stdin=subprocess.DEVNULL,
                                     stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), timeout=60)
        self.assertEqual(process.returncode, 1)
        self.assertEqual(process.stderr, "stamp: cannot write to stdout: No space left on device\n")

    def test_json_on_stdout_comes_after_the_text(self):
        file = self.dir / "both.txt"
        for target in (subprocess.PIPE, file.open("w")):
            process = subprocess.run([STAMP, "generate", "-p", "a", "--model", self.counting, "--json", "/dev/stdout"],
                                     stdin=subprocess.DEVNULL, stdout=target, text=True, env=environment(), timeout=60)
            out = process.stdout if target == subprocess.PIPE else file.read_text()
            self.assertEqual(process.returncode, 0)
            self.assertTrue(out.startswith(AFTER_A + "\n{\n"), out)
            json.loads(out[len(AFTER_A):])
        target.close()

    def test_no_stdout_at_all(self):
        process = subprocess.run([STAMP, "generate", "-p", "a", "--model", self.counting], stdin=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True, env=environment(), timeout=60,
                                 preexec_fn=lambda: os.close(1))
        self.assertEqual(process.returncode, 1)
        self.assertIn("cannot write to stdout", process.stderr)

    def test_no_stdin_at_all(self):
        process = subprocess.run([STAMP, "generate", "-p", "a", "--model", self.counting], capture_output=True, text=True,
                                 env=environment(), timeout=60, preexec_fn=lambda: os.close(0))
        self.assertEqual((process.returncode, process.stdout, process.stderr), (0, AFTER_A + "\n", ""))


class Environment(ProgramTest):
    def test_every_flag_has_a_mirror(self):
        result = stamp("generate", env={"STAMP_MODEL": str(self.counting), "STAMP_PROMPT": "a", "STAMP_MAX_TOKENS": "3"})
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "bcd\n", ""))
        cases = [({"STAMP_STOP": "efg"}, "bcd"), ({"STAMP_LOGIT_BIAS": "113=100", "STAMP_MAX_TOKENS": "2"}, "qq"),
                 ({"STAMP_IGNORE_EOS": "1", "STAMP_MAX_TOKENS": "28"}, AFTER_A + "ab"),
                 ({"STAMP_IGNORE_EOS": "true", "STAMP_MAX_TOKENS": "28"}, AFTER_A + "ab"),
                 ({"STAMP_IGNORE_EOS": "0", "STAMP_MAX_TOKENS": "28"}, AFTER_A), ({"STAMP_CHAT": "1"}, AFTER_A),
                 ({"STAMP_TEMP": ""}, AFTER_A)]
        for env, text in cases:
            with self.subTest(env):
                result = stamp("generate", "--model", self.counting, "-p", "a", env=env)
                self.assertEqual((result.returncode, result.stdout, result.stderr), (0, text + "\n", ""))

    def test_a_flag_wins(self):
        result = stamp("generate", "--model", self.counting, "-p", "a", "-n", "2",
                       env={"STAMP_MAX_TOKENS": "5", "STAMP_MODEL": "/nowhere"})
        self.assertEqual(result.stdout, "bc\n")

    def test_wrong_values_are_usage_errors(self):
        for env, word in [({"STAMP_TEMP": "hot"}, "temp"), ({"STAMP_CTX": "1"}, "context of 1"), ({"STAMP_TOP_P": "3"}, "top_p"),
                          ({"STAMP_THREADS": "-2"}, "threads"), ({"STAMP_CHAT": "maybe"}, "chat"),
                          ({"STAMP_DEVICE": "tpu"}, "device tpu"), ({"STAMP_RECIPE": "w9"}, "recipe w9"),
                          ({"STAMP_FORCE_OPS": "sse9"}, "STAMP_FORCE_OPS=sse9: not available")]:
            with self.subTest(env):
                self.expect_error(stamp("generate", "--model", self.counting, "-p", "a", env=env), 2, word)

    def test_forced_operations_are_taken(self):
        file = self.dir / "ops.json"
        available = re.search("choose one of (.*)\n", stamp("generate", "--model", self.counting, "-p", "a",
                                                            env={"STAMP_FORCE_OPS": "?"}).stderr)[1].split(", ")
        self.assertLessEqual({"reference", "scalar"}, set(available))
        for ops in available:
            result = stamp("generate", "--model", self.counting, "-p", "a", "--json", file, env={"STAMP_FORCE_OPS": ops})
            self.assertEqual(result.stdout, AFTER_A + "\n")
            self.assertEqual(json.loads(file.read_text())["isa"], ops)
        stamp("generate", "--model", self.counting, "-p", "a", "--json", file)
        self.assertEqual(json.loads(file.read_text())["isa"], available[0])


class Perplexity(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text = cls.dir / "text.txt"
        cls.text.write_text("".join(f"line {i * i} of a text with ümlauts\n" for i in range(40)))

    def perplexity(self, *arguments):
        file = self.dir / "ppl.json"
        result = stamp("perplexity", "--model", self.random, "--file", self.text, "--context", "64", "--json", file, *arguments)
        self.assertEqual(result.returncode, 0, result)
        self.assertRegex(result.stdout, r"\Aperplexity \d+\.\d{4} \+/- \d+\.\d{4}  \(\d+ tokens in \d+ windows, [\w.]+, "
                                        r"context 64, recipe f32\)\n\Z")
        self.assertRegex(result.stderr, r"\A[\d.]+ tok/s, \w+ x\d+\n\Z")
        values = json.loads(file.read_text())
        self.assertEqual(set(values), PERPLEXITY_FIELDS)
        return values

    def test_json(self):
        tokens = len(self.text.read_bytes())
        for protocol, bos in [("gptq", False), ("strided", False), ("llama.cpp", True), ("document", True)]:
            with self.subTest(protocol):
                values = self.perplexity("--protocol", protocol)
                self.assertEqual(values["protocol"], protocol)
                self.assertEqual(values["context"], 64)
                self.assertEqual(values["stride"], 32 if protocol == "strided" else 0)
                self.assertEqual(values["bos"], bos)
                self.assertEqual(sum(chunk["tokens"] for chunk in values["chunks"]), values["tokens_scored"])
                nll = sum(chunk["nll"] for chunk in values["chunks"]) / values["tokens_scored"]
                self.assertAlmostEqual(values["nll"], nll, delta=1e-9 * nll)
                self.assertGreater(values["ppl"], 2)
                for field in ("tokenizer_sha256", "text_sha256"):
                    self.assertRegex(values[field], r"\A[0-9a-f]{64}\Z")
                for field in ("mean_activation_bits", "mean_kv_bits", "weight_bits"):
                    self.assertEqual(values[field], 32)
        self.assertEqual(self.perplexity("--protocol", "gptq")["tokens_scored"], tokens // 64 * 63)
        self.assertEqual(self.perplexity("--protocol", "document")["tokens_scored"], tokens)
        self.assertEqual(self.perplexity("--protocol", "strided")["tokens_scored"], tokens - 1)

    def test_resume(self):
        state = self.dir / "state.json"
        whole = self.perplexity()
        part = self.perplexity("--resume", state, "--chunks", "3")
        self.assertEqual(part["chunks"], whole["chunks"][:3])
        resumed = self.perplexity("--resume", state)
        for values in (whole, resumed):
            values.pop("tokens_per_second")
        self.assertEqual(resumed, whole)
        result = stamp("perplexity", "--model", self.random, "--file", self.text, "--context", "65", "--resume", state)
        self.expect_error(result, 2, f"{state}: belongs to another run")
        state.write_text("{")
        result = stamp("perplexity", "--model", self.random, "--file", self.text, "--context", "64", "--resume", state)
        self.expect_error(result, 2, f"{state}: not valid JSON")

    def test_a_killed_run_is_resumed(self):
        state, text = self.dir / "killed.json", self.dir / "long.txt"
        text.write_text(self.text.read_text() * 4000)  # many seconds
        command = ["perplexity", "--model", self.random, "--file", text, "--context", "64", "--chunks", "80000"]
        with subprocess.Popen([STAMP, *command, "--resume", state], env=environment(), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            wait_until(lambda: state.exists() or process.poll() is not None, "there is something to resume")
            process.kill()
        done = len(json.loads(state.read_text())["chunks"])
        self.assertGreater(done, 0)
        self.assertLess(done, 80000)
        file, truth = self.dir / "a.json", self.dir / "b.json"
        command[-1] = str(done + 2)
        self.assertEqual(stamp(*command, "--resume", state, "--json", file).returncode, 0)
        self.assertEqual(stamp(*command, "--json", truth).returncode, 0)
        self.assertEqual(json.loads(file.read_text())["chunks"], json.loads(truth.read_text())["chunks"])


class Bench(ProgramTest):
    def test_json(self):
        file = self.dir / "bench.json"
        result = stamp("bench", "--model", self.random, "--prefill", "8,70", "--decode", "4", "--depth", "0,9", "--repeat", "3",
                       "--threads", "1", "--json", file)
        self.assertEqual(result.returncode, 0, result)
        values = json.loads(file.read_text())
        self.assertEqual(set(values), BENCH_FIELDS)
        self.assertEqual([test["name"] for test in values["tests"]], ["pp8", "pp70", "tg4", "tg4@9"])
        for test in values["tests"]:
            self.assertEqual(set(test), {"name", "samples", "median"})
            self.assertEqual(len(test["samples"]), 3)
            self.assertGreater(min(test["samples"]), 0)
            self.assertEqual(test["median"], sorted(test["samples"])[1])
        self.assertEqual(values["kv_bytes_per_token"], 2 * 2 * 2 * 8 * 4)  # layers, K and V, heads, head_dim, float
        # The matrices: all of the file but its header and the norms.
        size = (self.random / "model.safetensors").stat().st_size
        self.assertTrue(size - 4096 < values["weight_bytes"] < size)
        self.assertEqual(values["threads"], 1)
        self.assertGreater(values["load_s"], 0)
        self.assertGreater(values["peak_rss_bytes"], 0)
        lines = result.stdout.splitlines()
        self.assertEqual(lines[:2], ["| test | tok/s, median | min | max |", "|---|---:|---:|---:|"])
        self.assertEqual([line.split(" | ")[0] for line in lines[2:]], ["| pp8", "| pp70", "| tg4", "| tg4@9"])
        self.assertRegex(result.stderr, r"\Aload [\d.]+ s \| weights [\d.]+ MiB \| cache 256 bytes a token \| peak memory \d+ MiB")

    def test_verbose_tells_operation_by_operation_where_the_time_went(self):
        file = self.dir / "roofline.json"
        config = json.loads((self.random / "config.json").read_text())
        layers, inner, hidden = (config[key] for key in ("num_hidden_layers", "intermediate_size", "hidden_size"))
        for _ in range(3):  # another process may take the time between operations, but not always
            result = stamp("bench", "--model", self.random, "--prefill", "100", "--decode", "3", "--depth", "70", "--repeat", "2",
                           "--threads", "1", "--verbose", "--json", file)
            self.assertEqual(result.returncode, 0, result)
            values = json.loads(file.read_text())
            tests = values["roofline"]["tests"]
            if all(sum(row["seconds"] for row in test["operations"]) > 0.5 * test["seconds"] for test in tests):
                break
        self.assertEqual(set(values), BENCH_FIELDS | {"roofline"})
        roofline = values["roofline"]
        self.assertEqual([test["name"] for test in roofline["tests"]], ["pp100", "tg3@70"])
        for peak in ("read_bytes", "int8_ops", "int4_ops", "float_ops"):
            self.assertGreater(roofline[peak + "_per_second"], 0)
        for test, passes in zip(roofline["tests"], (1, 3)):
            rows = {row["operation"]: row for row in test["operations"]}
            total = sum(row["seconds"] for row in rows.values())
            self.assertTrue(0.5 * test["seconds"] < total <= test["seconds"], test)
            calls = {name: row["calls"] / test["runs"] / passes for name, row in rows.items()}
            self.assertEqual(calls["norm"], 2 * layers + 1)
            self.assertEqual(calls[f"linear gate, up: {hidden} to {2 * inner}"], layers)
            self.assertEqual(calls[f"linear down: {inner} to {hidden}"], layers)
            self.assertEqual(calls["attention"], layers)
            for row in rows.values():
                self.assertAlmostEqual(row["bound_seconds"], max(
                    row["bytes"] / roofline["read_bytes_per_second"],
                    sum(row[kind] / roofline[kind + "_per_second"] for kind in ("int8_ops", "int4_ops", "float_ops"))))
        self.assertIn("\n| operation | calls | ms | share | GB/s | GOP/s | of the bound | which is |\n", result.stdout)
        self.assertEqual(result.stdout.count("\n| kv append, seal |"), 2)

    def test_a_run_that_seals_the_page_it_began_in_can_be_run_again(self):
        recipe = self.dir / "coded.json"
        recipe.write_text('{"name": "coded", "kv": {"low_bits": 4, "high_bits": 8, "high_rows": 2, "transform": "haar", "levels": 5}}')
        result = stamp("bench", "--model", self.random, "--recipe", recipe, "--prefill", "1", "--decode", "16", "--depth", "120",
                       "--repeat", "2")
        self.assertEqual(result.returncode, 0, result)
        self.assertIn("| tg16@120 |", result.stdout)

    def test_parts_can_be_left_out(self):
        for arguments, names in [(("--prefill", "8", "--decode", "2"), ["pp8", "tg2"]),
                                 (("--prefill", "8", "--decode", "70", "--streams", "1,3"), ["pp8", "tg70", "tg70x1", "tg70x3"])]:
            file = self.dir / "parts.json"
            result = stamp("bench", "--model", self.random, *arguments, "--depth", "0", "--repeat", "2", "--json", file)
            self.assertEqual(result.returncode, 0, result)
            tests = json.loads(file.read_text())["tests"]
            self.assertEqual([test["name"] for test in tests], names)
            for test in tests:  # an even number: between the two in the middle
                self.assertAlmostEqual(test["median"], sum(test["samples"]) / 2)

    def test_prediction_needs_no_model_and_says_that_it_is_one(self):
        file = self.dir / "predicted.json"
        result = stamp("bench", "--device-model", "a100", "--shape", "1b,8b", "--depth", "100,8192", "--json", file)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertTrue(result.stdout.startswith("Predicted by a roofline model, not measured: A100"))
        self.assertIn("- a prediction, not a measurement", result.stdout)
        self.assertIn("- limits: NVIDIA A100 datasheet", result.stdout)
        values = json.loads(file.read_text())
        self.assertIs(values["prediction"], True)
        self.assertEqual([(step["shape"], step["rows"], step["position"]) for step in values["steps"]],
                         [(shape, *step) for shape in ("1b", "8b") for step in ((2048, 0), (1, 100), (1, 8192))])
        for step in values["steps"]:
            self.assertEqual([(row["scheme"], row["recipe"]) for row in step["schemes"]],
                             [("fp16", None), ("w4a16", None), ("w8a8", None)] +
                             [(scheme, recipe) for recipe in ("w4a8kv4-stamp", "w4a4kv4-stamp")
                              for scheme in ("stamp", "stamp-bound")])
            for row in step["schemes"]:
                self.assertAlmostEqual(row["seconds"], sum(role["seconds"] for role in row["roles"]))
                self.assertAlmostEqual(row["speedup_over_fp16"], step["schemes"][0]["seconds"] / row["seconds"])
                self.assertIn(f"| {1e3 * row['seconds']:.3g} |", result.stdout)


if __name__ == "__main__":
    unittest.main()
