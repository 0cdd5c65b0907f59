#!/usr/bin/env python3
"""What of the comparisons with llama.cpp needs no measurement: which settings count, ratios, tables, the plot, recipes and
the order of rows in GGUF files."""
import json
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from gguf_to_hf import undo_rope_permutation  # noqa: E402
from peer_models import nearest_recipe, rope_permutation  # noqa: E402
from peer_programs import Columns, PeerSetting, call, stamp_environment  # noqa: E402
from peer_report import against, best_settings, ratio_svg, screening_table, speed_table, tests_of_settings  # noqa: E402
from peers import columns_of, screen  # noqa: E402
from scaling import table as scaling_table  # noqa: E402
from shape_peers import long_table, memory_table  # noqa: E402
from serve_peers import STREAMS, fastest, table as serve_table  # noqa: E402

COLUMNS = Columns(prefill=(512, 2048), decode=128, depths=(0, 2048))
A, B = PeerSetting("F16", False), PeerSetting("Q4_0", True)


class Settings(unittest.TestCase):
    def test_names_of_tests_are_those_of_stamp_bench(self):
        self.assertEqual(COLUMNS.names(), ["pp512", "pp2048", "tg128", "tg128@2048"])
        self.assertEqual(COLUMNS.only(["pp2048", "tg128@2048"]).names(), ["pp2048", "tg128@2048"])
        self.assertEqual(columns_of("w4a4kv4-stamp", COLUMNS).names(), ["pp512", "pp2048"])
        self.assertEqual(columns_of("f32", COLUMNS), COLUMNS)

    def test_flags_say_what_the_name_says(self):
        self.assertEqual(str(B), "Q4_0, flash attention")
        self.assertEqual(str(PeerSetting("Q8_0", True, "q4_0")), "Q8_0, flash attention, cache q4_0")
        self.assertEqual((stamp_environment(""), stamp_environment("avx2")), ({}, {"STAMP_FORCE_OPS": "avx2"}))
        self.assertEqual(A.flags(), ["-fa", "off", "-ctk", "f16", "-ctv", "f16"])

    def test_each_test_has_its_own_best_setting(self):
        screened = {A: {"pp512": 5, "tg128": 1}, B: {"pp512": 4, "tg128": 2, "pp2048": 9}}
        self.assertEqual(best_settings(screened, ["pp512", "tg128", "pp2048"]), {"pp512": A, "tg128": B, "pp2048": B})
        self.assertEqual(tests_of_settings({"pp512": A, "tg128": B}, {"pp512": A, "tg128": A}),
                         {A: ["pp512", "tg128"], B: ["tg128"]})

    def screen(self, rate):
        asked = []

        def measure(setting, tests):
            asked.append((str(setting), tuple(tests)))
            return {test: rate(setting, test) for test in tests}
        return screen(measure, COLUMNS), asked

    def test_screening_runs_all_settings_and_quantised_caches_with_the_weights_that_are_best_deep_down(self):
        speed = {"F16": 1, "Q8_0": 3, "Q4_0": 2}
        screened, asked = self.screen(lambda s, test: speed[s.weights] - (s.cache != "f16"))
        names = [str(s) for s in screened]
        self.assertEqual(names[:6], [w + fa for w in speed for fa in ("", ", flash attention")])
        self.assertEqual(names[6:], ["Q8_0, flash attention, cache q8_0", "Q8_0, flash attention, cache q4_0"])
        for name, tests in asked[6:]:  # slower at 512 already: not tried at 2048
            self.assertEqual(tests, ("pp512", "tg128", "tg128@2048"))

    def test_screening_tries_the_long_prompt_where_a_quantised_cache_wins_the_short_one(self):
        screened, asked = self.screen(lambda s, test: 1 + (s.cache == "q8_0"))
        self.assertEqual([tests for name, tests in asked if "q8_0" in name], [("pp512", "tg128", "tg128@2048"), ("pp2048",)])
        q8 = next(s for s in screened if s.cache == "q8_0")
        self.assertEqual(set(screened[q8]), set(COLUMNS.names()))


class Report(unittest.TestCase):
    ROUNDS = [{"stamp": {"r": {"pp512": s}}, "llama": {str(B): {"pp512": l}}} for s, l in ((10, 5), (30, 10), (8, 8))]

    def test_the_ratio_is_the_median_of_the_rounds_ratios(self):
        row = against(self.ROUNDS, "r", "pp512", B)
        self.assertEqual((row["stamp"], row["llama"]), (10, 8))
        self.assertEqual((row["ratio"], row["ratio_min"], row["ratio_max"]), (2, 1, 3))
        self.assertEqual(row["peer"], "Q4_0, flash attention")

    def test_tables(self):
        lines = speed_table([against(self.ROUNDS, "r", "pp512", B)]).splitlines()
        self.assertEqual(lines[2], "| pp512 | r | Q4_0, flash attention | 10.0 | 8.0 | 2.00 | 1.00 | 3.00 |")
        self.assertEqual(len({line.count("|") for line in lines}), 1)
        lines = screening_table({A: {"pp512": 3.25}, B: {"tg128": 1}}, ["pp512", "tg128"]).splitlines()
        self.assertEqual(lines[2:], ["| F16 | 3.2 |  |", "| Q4_0, flash attention |  | 1.0 |"])

    def test_the_plot_has_a_bar_for_each_row_as_long_as_its_ratio(self):
        rows = [against(self.ROUNDS, "r", "pp512", B), {**against(self.ROUNDS, "r", "pp512", B), "recipe": "<s>", "ratio": 1}]
        svg = xml.etree.ElementTree.fromstring(ratio_svg("a & b", rows))
        space = "{http://www.w3.org/2000/svg}"
        bars = [bar for bar in svg.iter(space + "rect") if bar.find(space + "title") is not None]
        self.assertEqual(len(bars), 2)
        first, second = (float(bar.get("width")) for bar in bars)
        self.assertAlmostEqual(first / second, 2, places=2)
        one = next(path for path in svg.iter(space + "path") if path.get("class") == "one")
        self.assertAlmostEqual(float(one.get("d").split()[0][1:]) - float(bars[1].get("x")), second, places=1)
        self.assertIn("<s>", "".join(svg.itertext()))


    def test_scaling_compares_ways_within_a_round(self):
        rounds = [{test: {"half": 10, "one": one, "two": two} for test in ("pp512", "tg128")} for one, two in ((20, 18), (10, 10))]
        row = scaling_table(rounds).splitlines()[2]
        self.assertEqual(row, "| pp512 | 10.0 | 15.0 | 14.0 | 1.50 | 1.00 | 2.00 | 0.95 | 0.90 | 1.00 |")

    def test_servers_are_compared_with_their_own_peer(self):
        def speeds(rate, first):
            return {count: {"tokens_per_second": rate * count, "first_token": first} for count in STREAMS}
        rounds = [{"a": speeds(6, 1), "A": speeds(2, 3), "b": speeds(1, 1), "B": speeds(4, 2)}]
        lines = serve_table(rounds, {"a": "A", "b": "B"}).splitlines()[2:]
        self.assertEqual(len(lines), 4 * len(STREAMS))
        self.assertEqual(lines[2], "| a | 8 | 48.0 | 8.00 | 1.000 | 3.00 | 0.33 |")
        self.assertEqual(lines[5], "| A | 8 | 16.0 | 8.00 | 3.000 |  |  |")
        self.assertEqual(lines[6], "| b | 1 | 1.0 | 1.00 | 1.000 | 0.25 | 0.50 |")

    def test_growth_is_the_time_that_a_token_takes_more(self):
        def side(shallow, deep, kv):
            return {"rates": {"tg16": shallow, "tg16@100": deep}, "kv_bytes_per_token": kv}
        lines = long_table({"decode": 16, "depth": 100, "layers": 2, "setting": A, "stamp": side(100, 50, 28),
                            "llama": side(50, 12.5, 100)}).splitlines()[2:]
        self.assertEqual(lines, ["| stamp | 10.00 | 20.00 | 10.00 | 14 |", "| llama.cpp, F16 | 20.00 | 80.00 | 60.00 | 50 |",
                                 "| stamp : llama.cpp |  |  | 0.167 | 0.280 |"])

    def test_memory_is_compared_with_the_peers_least(self):
        lines = memory_table({"stamp": {"a": 90 << 20, "b": 150 << 20}, "llama": {"read": 200 << 20, "mapped": 100 << 20}}).splitlines()
        self.assertEqual(lines[2:], ["| stamp, a | 90 | 0.90 |", "| stamp, b | 150 | 1.50 |", "| llama.cpp Q4_0, weights read | 200 |  |",
                                     "| llama.cpp Q4_0, weights mapped | 100 |  |"])

    def test_only_the_fastest_server_stays(self):
        stopped = []
        best, peer = fastest([3, 1, 4, 2], lambda setting: 10 * setting, lambda peer: peer, stopped.append)
        self.assertEqual((best, peer), (4, 40))
        self.assertEqual(sorted(stopped), [10, 20, 30])


class Models(unittest.TestCase):
    def test_the_order_of_rows_is_that_which_the_conversion_undoes(self):
        rows = np.arange(4 * 6 * 2, dtype=np.float32).reshape(4 * 6, 2)
        self.assertFalse(np.array_equal(rope_permutation(rows, 4), rows))
        np.testing.assert_array_equal(undo_rope_permutation(rope_permutation(rows, 4), 4), rows)

    def test_the_recipe_differs_in_the_method_and_the_heads_bits_alone(self):
        builtin = json.loads((Path(__file__).resolve().parents[2] / "configs/w4a8kv4-stamp.json").read_text())
        changed = {**builtin, "weights": {**builtin["weights"], "method": "rtn"}}
        with tempfile.TemporaryDirectory() as out:
            files = [nearest_recipe("w4a8kv4-stamp", Path(out), bits) for bits in (None, 4)]
            recipe, small = (json.loads(file.read_text()) for file in files)
        self.assertEqual(recipe, changed)
        self.assertEqual(small, {**changed, "weights": {**changed["weights"], "head_bits": 4}})
        self.assertEqual([file.stem for file in files], ["w4a8kv4-stamp-nearest", "w4a8kv4-stamp-head4-nearest"])

    def test_a_child_tells_its_own_peak_memory(self):
        mine = bytearray(b"x" * (200 << 20))
        out, peak = call([sys.executable, "-c", "import time; x = b'x' * (100 << 20); time.sleep(0.3); print(len(x))"])
        self.assertEqual(int(out), 100 << 20)
        self.assertTrue(100 << 20 < peak < len(mine), peak)


if __name__ == "__main__":
    unittest.main()
