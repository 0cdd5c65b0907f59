#!/usr/bin/env python3
"""`stamp inspect`: damaged directories are noticed, the report is a page by itself, a tuned recipe can be used."""
import json
import re
import shutil
import subprocess
import unittest
from html.parser import HTMLParser

from program import ProgramTest, stamp

SECTIONS = ["summary", "energy", "layers", "error", "plan", "weights", "autocorrelation"]
SOURCES = ["attention", "attended", "feed_forward", "gated", "keys", "values"]
LAYERS = 2  # of the tiny models
RECIPE = {"name": "tiny-stamp", "weights": {"bits": 4, "group": 32}, "rotation": {"residual": True, "head": True, "down": True},
          "activations": {"low_bits": 4, "high_rows": 2, "transform": "haar", "levels": 5},
          "kv": {"low_bits": 4, "high_rows": 2, "transform": "haar", "levels": 5}}


class Verify(ProgramTest):
    def setUp(self):
        self.out = self.dir / f"quantised-{self.id().split('.')[-1]}"
        result = stamp("quantize", "--model", self.random, "--out", self.out, "--recipe", "w8a8")
        self.assertEqual(result.returncode, 0, result)

    def verify(self):
        return stamp("inspect", "--model", self.out, "--verify")

    def test_an_untouched_directory(self):
        result = self.verify()
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout, f"{self.out}: every file is as it was written\n")

    def test_one_changed_bit_in_any_file(self):
        files = sorted(self.out.iterdir())
        self.assertLessEqual({"config.json", "manifest.json", "model.safetensors", "tokenizer.json"},
                             {file.name for file in files})
        for number, file in enumerate(files):
            original = file.read_bytes()
            for at in (0, len(original) // 2, len(original) - 1):
                with self.subTest(file=file.name, at=at):
                    damaged = bytearray(original)
                    damaged[at] ^= 1 << number % 8
                    file.write_bytes(damaged)
                    self.expect_error(self.verify(), 2, str(self.out), file.name if file.name != "manifest.json" else "")
            file.write_bytes(original)
        self.assertEqual(self.verify().returncode, 0)

    def test_a_line_for_each_file(self):
        (self.out / "tokenizer.json").unlink()
        (self.out / "stray").write_text("")
        with open(self.out / "model.safetensors", "ab") as file:
            file.write(b"\0")
        result = self.verify()
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 3, lines)
        for name, what in (("tokenizer.json", "missing"), ("stray", "not in the manifest"), ("model.safetensors", "size")):
            self.assertTrue(any(name in line and what in line for line in lines), lines)

    def test_a_directory_without_a_manifest(self):
        self.expect_error(stamp("inspect", "--model", self.random, "--verify"), 2, "manifest.json")


class Page(HTMLParser):
    """What a page holds; fails on tags that do not match."""
    VOID = {"meta", "link", "img", "br", "hr", "input", "base"}

    def __init__(self, text):
        super().__init__()
        self.counts, self.ids, self.references, self.headings, self.open, self.scripts = {}, [], [], [], [], 0
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.references.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "caption"):
            self.headings.append(data)


class Runs(ProgramTest):
    """Over a text of the random model, with a recipe that quantises everything."""

    def setUp(self):
        self.text, self.recipe = self.dir / "text.txt", self.dir / "recipe.json"
        self.text.write_text("".join(f"The {n}th sentence says what the others say. " for n in range(20)))
        self.recipe.write_text(json.dumps(RECIPE))

    def inspect(self, *arguments, recipe=None):
        return stamp("inspect", "--model", self.random, "--recipe", recipe or self.recipe, "--text", self.text, *arguments)


class Report(Runs):
    def make(self, *arguments, recipe=None):
        out = self.dir / f"report-{self.id().split('.')[-1]}.html"
        result = self.inspect("--report", out, *arguments, recipe=recipe)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertRegex(result.stdout, rf"\A{re.escape(str(out))}: \d+ tokens, \d+ blocks measured, recipe \S+\n\Z")
        return out

    def test_a_page_that_needs_nothing_else(self):
        out = self.make("--json", self.dir / "report.json")
        text = out.read_text()
        page = Page(text)
        self.assertEqual(page.ids, SECTIONS)
        self.assertEqual(page.references, [])
        for forbidden in ("http:", "https:", "url(", "@import", "<script", "nan", "inf,", "-inf"):
            self.assertNotIn(forbidden, text)
        self.assertEqual(page.headings[0], f"stamp inspect: {self.random}")
        # Six line charts of energy, six of errors, one of correlation; a chart for each layer and source; two maps;
        # two bit plans.
        self.assertEqual(page.counts["svg"], 13 + 6 * LAYERS + 2 + 2)
        self.assertEqual(page.counts["table"], 1 + 1 + 6 + 1)
        self.assertEqual(page.counts["caption"], page.counts["table"])
        self.assertIn("prefers-color-scheme: dark", text)
        numbers = json.loads((self.dir / "report.json").read_text())
        self.assertEqual(len(numbers["layers"]), LAYERS)
        self.assertEqual(len(numbers["weights_sqnr_db"]), LAYERS)
        for layer in numbers["layers"]:
            self.assertEqual(list(layer), SOURCES)
            for source in layer.values():
                self.assertEqual(list(source["sqnr_db"]), ["identity", "haar 5", "dct", "walsh-hadamard"])
                self.assertTrue(all(5 < value < 60 for value in source["sqnr_db"].values()), source)

    def test_a_browser_shows_it(self):
        browser = shutil.which("chromium")
        self.assertIsNotNone(browser, "chromium is missing: tests/run.sh installs it, or apt-get install chromium")
        out = self.make()
        result = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             f"--user-data-dir={self.dir}/browser", "--dump-dom", out.as_uri()], capture_output=True, text=True, timeout=120)
        self.assertEqual(result.returncode, 0, result.stderr)
        page = Page(result.stdout)
        self.assertEqual(page.headings[0], f"stamp inspect: {self.random}")
        self.assertEqual(page.counts, Page(out.read_text()).counts)

    def test_names_are_text_and_not_markup(self):
        self.recipe.write_text(json.dumps(RECIPE | {"name": "<b>&\"bold\"</b>"}))
        out = self.dir / "report-markup.html"
        self.assertEqual(self.inspect("--report", out).returncode, 0)
        text = out.read_text()
        self.assertIn("&lt;b&gt;&amp;&quot;bold&quot;&lt;/b&gt;", text)
        self.assertNotIn("b", Page(text).counts)

    def test_perplexities(self):
        files = []
        for recipe in ("f32", "w8a8"):
            files.append(self.dir / f"{recipe}.json")
            result = stamp("perplexity", "--model", self.random, "--recipe", recipe, "--file", self.text, "--context", "128",
                           "--json", files[-1])
            self.assertEqual(result.returncode, 0, result)
        text = self.make("--perplexities", *files).read_text()
        self.assertEqual(Page(text).ids, SECTIONS + ["perplexity"])
        for file in files:
            self.assertIn(f"{json.loads(file.read_text())['ppl']:.3f}", text)
        files[1].write_text('{"recipe": "w8a8"}')
        result = self.inspect("--report", self.dir / "none.html", "--perplexities", *files)
        self.expect_error(result, 2, str(files[1]), "protocol")

    def test_recipes_without_a_plan_and_quantised_directories(self):
        for recipe in ("f32", "w8a8", "w4a8"):
            with self.subTest(recipe):
                Page(self.make(recipe=recipe).read_text())
        out = self.dir / "report-stored.html"
        stored = self.dir / "stored"
        self.assertEqual(stamp("quantize", "--model", self.random, "--out", stored, "--recipe", self.recipe).returncode, 0)
        result = stamp("inspect", "--model", stored, "--verify", "--text", self.text, "--report", out)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("quantised already", out.read_text())


class Tune(Runs):
    def tune(self, *arguments):
        out, numbers = self.dir / "tuned.json", self.dir / "numbers.json"
        result = self.inspect("--tune", out, "--json", numbers, *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return out, json.loads(out.read_text()), json.loads(numbers.read_text())["tune"]

    def test_a_recipe_that_beats_the_fixed_plan_at_its_bits(self):
        out, recipe, numbers = self.tune()
        self.assertLessEqual(numbers["bits"], 4.125 + 1e-9)
        self.assertEqual(numbers["fixed_bits"], 4.125)
        self.assertLess(numbers["loss"], numbers["fixed_loss"])
        self.assertEqual(set(recipe["site_plans"]),
                         {f"layers.{layer}.{site}" for layer in range(LAYERS) for site in SOURCES[:4]})
        scored = stamp("perplexity", "--model", self.random, "--recipe", out, "--file", self.text, "--context", "256")
        self.assertEqual(scored.returncode, 0, scored)
        self.assertIn("recipe tiny-stamp-tuned", scored.stdout)
        report = self.inspect("--report", self.dir / "tuned.html", recipe=out)
        self.assertEqual(report.returncode, 0, report)
        self.assertIn("the recipe's plan", (self.dir / "tuned.html").read_text())

    def test_more_bits_less_error(self):
        self.assertLess(self.tune("--bits", "4.6")[2]["loss"], self.tune("--bits", "4.2")[2]["loss"])

    def test_over_text_that_the_model_writes_itself(self):
        recipes = []
        for name in ("one.json", "two.json"):
            result = stamp("inspect", "--model", self.random, "--recipe", self.recipe, "--tokens", "512", "--tune",
                           self.dir / name)
            self.assertEqual(result.returncode, 0, result)
            recipes.append((self.dir / name).read_text())
        self.assertEqual(*recipes)

    def test_costs_are_measured_once(self):
        file = self.dir / "costs.json"
        recipe = self.tune("--sensitivities", file)[1]
        costs = json.loads(file.read_text())
        self.assertEqual([len(layer) for layer in costs["sensitivities"]], [4] * LAYERS)
        self.assertEqual(self.tune("--sensitivities", file)[1], recipe)
        plain = RECIPE["activations"] | {"transform": "identity"}
        plain.pop("levels", None)
        self.recipe.write_text(json.dumps(RECIPE | {"activations": plain}))  # errors cost the same
        self.tune("--sensitivities", file, "--transforms", "identity")
        self.recipe.write_text(json.dumps(RECIPE))
        costs["sensitivities"][0][0] *= 1000  # what the file says is what counts
        file.write_text(json.dumps(costs))
        self.assertNotEqual(self.tune("--sensitivities", file)[1], recipe)
        out = self.dir / "never.json"
        self.expect_error(self.inspect("--tune", out, "--sensitivities", file, "--tokens", "192"), 2, "another model, recipe or text")
        costs["sensitivities"] = "none"
        file.write_text(json.dumps(costs))
        self.expect_error(self.inspect("--tune", out, "--sensitivities", file), 2, "sensitivities", "damaged")
        self.assertFalse(out.exists())

    def test_only_the_transforms_asked_for(self):
        plans = self.tune("--transforms", "identity,dct")[1]["site_plans"].values()
        self.assertLessEqual({plan["transform"] for plan in plans}, {"identity", "dct"})


class Usage(Runs):
    def test_errors(self):
        model = ("inspect", "--model", self.random)
        out = self.dir / "never"
        for arguments, word in [
            (model, "give --verify, --report or --tune"),
            ((*model, "--report", out, "--text", self.dir / "missing"), "missing: cannot be read"),
            ((*model, "--report", out, "--text", self.text, "--bits", "4.5"), "--bits belongs to --tune"),
            ((*model, "--report", out, "--text", self.text, "--transforms", "dct"), "--transforms belongs to --tune"),
            ((*model, "--tune", out, "--text", self.text, "--transforms", "fourier"), "--transforms"),
            ((*model, "--report", out, "--text", self.text, "--sensitivities", out), "--sensitivities belongs to --tune"),
            ((*model, "--tune", out, "--text", self.text, "--perplexities", out), "--perplexities belongs to --report"),
            ((*model, "--verify", "--json", out), "--json needs"),
            ((*model, "--tune", out, "--text", self.text), "one precision"),
            ((*model, "--tune", out, "--text", self.text, "--recipe", self.recipe, "--bits", "2.5"), "fewest possible"),
            ((*model, "--report", out, "--text", self.text, "--tokens", "127"), "--tokens"),
        ]:
            with self.subTest(arguments):
                self.expect_error(stamp(*arguments), 2, word)
        short = self.dir / "short.txt"
        short.write_text("x" * 127)
        self.expect_error(stamp(*model, "--report", out, "--text", short), 2, "127 tokens")
        self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
