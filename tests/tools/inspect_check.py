#!/usr/bin/env python3
"""`stamp inspect`: damaged directories are noticed."""
import unittest

from program import ProgramTest, stamp


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


if __name__ == "__main__":
    unittest.main()
