#!/usr/bin/env python3
"""tools/gguf_to_hf.py: weights and metadata come through, what it cannot convert is refused by name."""
import contextlib
import filecmp
import io
import json
import os
import random
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import tokenizers
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import gguf_to_hf  # noqa: E402

HIDDEN, MLP, HEADS, KV_HEADS, HEAD_DIM, LAYERS = 64, 96, 4, 2, 16, 2
TEMPLATE = "{% for m in messages %}{{ m.content }} é\n{% endfor %}"


def byte_alphabet():
    """GPT-2's characters for the 256 bytes."""
    return sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())


CONTROL = ["<|end|>", "<|start|>"]
TOKENS = CONTROL + byte_alphabet() + ["he", "ll", "hell", "hello", "11", "<tool>"]
MERGES = ["h e", "l l", "he ll", "hell o", "1 1"]
TYPES = [TokenType.CONTROL] * 2 + [TokenType.NORMAL] * 261 + [TokenType.USER_DEFINED]


def metadata():
    """key -> (type, value) of a small model."""
    return {
        "llama.block_count": ("uint32", LAYERS), "llama.context_length": ("uint32", 256),
        "llama.embedding_length": ("uint32", HIDDEN), "llama.feed_forward_length": ("uint32", MLP),
        "llama.attention.head_count": ("uint32", HEADS), "llama.attention.head_count_kv": ("uint32", KV_HEADS),
        "llama.attention.layer_norm_rms_epsilon": ("float32", 1e-5), "llama.rope.freq_base": ("float32", 12345.5),
        "llama.rope.dimension_count": ("uint32", HEAD_DIM), "llama.vocab_size": ("uint32", len(TOKENS)),
        "tokenizer.ggml.model": ("string", "gpt2"), "tokenizer.ggml.pre": ("string", "smollm"),
        "tokenizer.ggml.tokens": ("array", TOKENS), "tokenizer.ggml.token_type": ("array", [int(t) for t in TYPES]),
        "tokenizer.ggml.merges": ("array", MERGES), "tokenizer.ggml.bos_token_id": ("uint32", 1),
        "tokenizer.ggml.eos_token_id": ("uint32", 0), "tokenizer.ggml.add_bos_token": ("bool", False),
        "tokenizer.chat_template": ("string", TEMPLATE),
    }


def hf_weights(seed=7):
    """transformers' name -> F16 values, all different."""
    rng = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (len(TOKENS), HIDDEN), "model.norm.weight": (HIDDEN,)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        shapes |= {p + "input_layernorm.weight": (HIDDEN,), p + "post_attention_layernorm.weight": (HIDDEN,),
                   p + "self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
                   p + "self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
                   p + "self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
                   p + "self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
                   p + "mlp.gate_proj.weight": (MLP, HIDDEN), p + "mlp.up_proj.weight": (MLP, HIDDEN),
                   p + "mlp.down_proj.weight": (HIDDEN, MLP)}
    return {name: rng.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}


def to_llama_rows(rows, heads):
    """llama.cpp's order for its RoPE, written row by row: the first and the second half of a head alternate."""
    size = len(rows) // heads
    order = [h * size + j * size // 2 + i for h in range(heads) for i in range(size // 2) for j in range(2)]
    return rows[order]


GGUF_NAMES = (("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"),
              ("model.layers.", "blk."), ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
              ("self_attn.o_proj", "attn_output"), ("self_attn.", "attn_"), ("mlp.", "ffn_"), ("_proj", ""))


def gguf_tensors(weights):
    """The same as a GGUF file has them: name -> (values, type)."""
    result = {}
    for name, values in weights.items():
        if "q_proj" in name or "k_proj" in name:
            values = to_llama_rows(values, HEADS if "q_proj" in name else KV_HEADS)
        for old, new in GGUF_NAMES:
            name = name.replace(old, new)
        kind = GGMLQuantizationType.F32 if values.ndim == 1 else GGMLQuantizationType.F16
        result[name] = (values.astype(np.float32) if values.ndim == 1 else values, kind)
    return result


def write_gguf(path, keys, tensors, architecture="llama"):
    writer = GGUFWriter(path, architecture)
    for key, (kind, value) in keys.items():
        getattr(writer, "add_" + kind)(key, value)
    for name, (values, kind) in tensors.items():
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class GgufToHf(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.dir = Path(self.scratch.name)
        self.gguf, self.out = self.dir / "model.gguf", self.dir / "out"

    def convert(self, *arguments):
        """-> (exit code, what it printed on stderr)"""
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr):
            code = gguf_to_hf.main([str(a) for a in arguments or ("--gguf", self.gguf, self.out)])
        return code, stderr.getvalue()

    def converted(self, keys=None, tensors=None):
        write_gguf(self.gguf, keys or metadata(), tensors or gguf_tensors(hf_weights()))
        self.assertEqual(self.convert(), (0, ""))
        return load_file(self.out / "model.safetensors")

    def json(self, name):
        return json.loads((self.out / name).read_text(encoding="utf-8"))

    def refused(self, text, keys=None, tensors=None, architecture="llama"):
        write_gguf(self.gguf, keys or metadata(), tensors or gguf_tensors(hf_weights()), architecture)
        code, stderr = self.convert()
        self.assertEqual(code, 2, stderr)
        self.assertIn(text, stderr)
        self.assertIn("model.gguf", stderr)
        self.assertEqual(stderr.count("\n"), 1, stderr)
        self.assertEqual(list(self.dir.iterdir()), [self.gguf], "it left something behind")

    def test_weights_come_through_bit_for_bit(self):
        expected = hf_weights()
        found = self.converted()
        self.assertEqual(set(found), set(expected))
        for name, values in expected.items():
            self.assertEqual(found[name].dtype, np.float16, name)
            np.testing.assert_array_equal(found[name], values, name)

    def test_untied_head(self):
        head = np.random.default_rng(1).standard_normal((len(TOKENS), HIDDEN)).astype(np.float16)
        found = self.converted(tensors=gguf_tensors(hf_weights() | {"lm_head.weight": head}))
        np.testing.assert_array_equal(found["lm_head.weight"], head)
        self.assertFalse(self.json("config.json")["tie_word_embeddings"])

    def test_biases(self):
        biases = {}
        for i in range(LAYERS):
            for part, size in (("q", 64), ("k", 32), ("v", 32), ("o", 64)):
                biases[f"model.layers.{i}.self_attn.{part}_proj.bias"] = \
                    np.random.default_rng(size).standard_normal(size).astype(np.float16)
        found = self.converted(tensors=gguf_tensors(hf_weights() | biases))
        for name, values in biases.items():
            np.testing.assert_array_equal(found[name], values, name)
        self.assertTrue(self.json("config.json")["attention_bias"])
        self.assertFalse(self.json("config.json")["mlp_bias"])

    def test_quantised_weights_are_the_rounded_f32_values(self):
        for kind in (GGMLQuantizationType.Q4_1, GGMLQuantizationType.Q8_0):
            tensors = gguf_tensors(hf_weights())
            stored = quantize(tensors["blk.1.ffn_up.weight"][0].astype(np.float32), kind)
            tensors["blk.1.ffn_up.weight"] = (stored, kind)
            found = self.converted(tensors=tensors)["model.layers.1.mlp.up_proj.weight"]
            np.testing.assert_array_equal(found, dequantize(stored, kind).astype(np.float16))
            for file in self.out.iterdir():
                file.unlink()
            self.out.rmdir()

    def test_floats_that_f16_does_not_hold_stay_f32(self):
        tensors = gguf_tensors(hf_weights())
        exact = np.full(HIDDEN, 1 / 3, np.float32)
        tensors["blk.0.attn_norm.weight"] = (exact, GGMLQuantizationType.F32)
        found = self.converted(tensors=tensors)["model.layers.0.input_layernorm.weight"]
        self.assertEqual(found.dtype, np.float32)
        np.testing.assert_array_equal(found, exact)

    def test_config(self):
        self.converted()
        config = self.json("config.json")
        expected = {"model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": MLP, "head_dim": HEAD_DIM,
                    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
                    "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 12345.5,
                    "tie_word_embeddings": True, "vocab_size": len(TOKENS), "bos_token_id": 1, "eos_token_id": 0}
        self.assertEqual({k: config[k] for k in expected}, expected)
        self.assertNotIn("pad_token_id", config)
        self.assertEqual(self.json("generation_config.json"), {"bos_token_id": 1, "eos_token_id": 0})
        tokenizer_config = self.json("tokenizer_config.json")
        self.assertEqual(tokenizer_config["chat_template"], TEMPLATE)
        self.assertEqual(tokenizer_config["model_max_length"], 256)
        self.assertEqual((tokenizer_config["bos_token"], tokenizer_config["eos_token"]), ("<|start|>", "<|end|>"))

    def test_tokenizer(self):
        self.converted()
        tokenizer = tokenizers.Tokenizer.from_file(str(self.out / "tokenizer.json"))
        text = "<|start|>hello 11<tool> é🙂<|end|>"
        encoding = tokenizer.encode(text)
        self.assertEqual(encoding.tokens[:6], ["<|start|>", "hello", "Ġ", "1", "1", "<tool>"])
        self.assertEqual(tokenizer.decode(encoding.ids, skip_special_tokens=False), text)
        self.assertEqual(tokenizer.decode(encoding.ids), "hello 11<tool> é🙂")

    def test_bos_is_added_where_the_metadata_says_so(self):
        self.converted(keys=metadata() | {"tokenizer.ggml.add_bos_token": ("bool", True)})
        tokenizer = tokenizers.Tokenizer.from_file(str(self.out / "tokenizer.json"))
        self.assertEqual(tokenizer.encode("hello").tokens, ["<|start|>", "hello"])
        self.assertEqual(tokenizer.encode("hello", add_special_tokens=False).tokens, ["hello"])

    def test_refuses_metadata(self):
        cases = [
            ("llama.expert_count is not supported", {"llama.expert_count": ("uint32", 8)}),
            ("llama.rope.scaling.type is not supported", {"llama.rope.scaling.type": ("string", "yarn")}),
            ("llama.rope.dimension_count is 8", {"llama.rope.dimension_count": ("uint32", 8)}),
            ("llama.attention.value_length is 8", {"llama.attention.value_length": ("uint32", 8)}),
            ("head_count is 0, must be positive", {"llama.attention.head_count": ("uint32", 0)}),
            ("is not a multiple of llama.attention.head_count_kv", {"llama.attention.head_count_kv": ("uint32", 3)}),
            ("embedding_length 65 is not a multiple", {"llama.embedding_length": ("uint32", 65)}),
            ("block_count is a str, expected int", {"llama.block_count": ("string", "2")}),
            ("tensor blk.2.attn_norm.weight is missing", {"llama.block_count": ("uint32", 3)}),
            ("tensor blk.1.", {"llama.block_count": ("uint32", 1)}),
            ("epsilon is nan", {"llama.attention.layer_norm_rms_epsilon": ("float32", float("nan"))}),
            ("llama.vocab_size is 7", {"llama.vocab_size": ("uint32", 7)}),
            ("tokenizer.ggml.model is llama", {"tokenizer.ggml.model": ("string", "llama")}),
            ("tokenizer.ggml.pre is llama-bpe", {"tokenizer.ggml.pre": ("string", "llama-bpe")}),
            ("add_space_prefix is not supported", {"tokenizer.ggml.add_space_prefix": ("bool", True)}),
            ("eos_token_id is 9999", {"tokenizer.ggml.eos_token_id": ("uint32", 9999)}),
            ("'he' twice", {"tokenizer.ggml.tokens": ("array", TOKENS[:-1] + ["he"])}),
            ("merges has 'h x'", {"tokenizer.ggml.merges": ("array", ["h x"])}),
            ("token_type has 1 entries", {"tokenizer.ggml.token_type": ("array", [1])}),
            ("is of type 6", {"tokenizer.ggml.token_type": ("array", [6] + [1] * (len(TOKENS) - 1))}),
        ]
        for text, change in cases:
            with self.subTest(text):
                self.refused(text, metadata() | change)
        for key in ("llama.block_count", "llama.feed_forward_length", "llama.attention.layer_norm_rms_epsilon",
                    "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.pre"):
            with self.subTest(key):
                self.refused(f"metadata key {key} is missing", {k: v for k, v in metadata().items() if k != key})
        with self.subTest("architecture"):
            self.refused("general.architecture is gemma", architecture="gemma")
        with self.subTest("bos"):
            keys = metadata() | {"tokenizer.ggml.add_bos_token": ("bool", True)}
            del keys["tokenizer.ggml.bos_token_id"]
            self.refused("tokenizer.ggml.bos_token_id is missing", keys)

    def test_refuses_tensors(self):
        good = gguf_tensors(hf_weights())
        f32 = GGMLQuantizationType.F32
        cases = [
            ("tensor rope_freqs.weight has no place", good | {"rope_freqs.weight": (np.ones(8, np.float32), f32)}),
            ("has shape [32], the metadata asks for [64]", good | {"output_norm.weight": (np.ones(32, np.float32), f32)}),
            ("values that are not finite",
             good | {"output_norm.weight": (np.full(HIDDEN, np.inf, np.float32), f32)}),
            ("tensor blk.0.attn_q.weight is missing", {k: v for k, v in good.items() if k != "blk.0.attn_q.weight"}),
        ]
        for text, tensors in cases:
            with self.subTest(text):
                self.refused(text, tensors=tensors)

    def test_damaged_files(self):
        write_gguf(self.gguf, metadata(), gguf_tensors(hf_weights()))
        whole = self.gguf.read_bytes()
        rng = random.Random(20260101)
        damaged = [b"", b"GGUF", b"PK\3\4" * 100] + [whole[:rng.randrange(len(whole))] for _ in range(20)]
        head = 1200  # the keys before the long arrays
        for _ in range(60):
            copy = bytearray(whole)
            for at in rng.sample(range(head), 3):
                copy[at] = rng.choice((0, 255, rng.randrange(256)))
            damaged.append(bytes(copy))
        refusals = 0
        for i, data in enumerate(damaged):
            with self.subTest(i):
                self.gguf.write_bytes(data)
                code, stderr = self.convert()
                if code == 0:  # the change did no harm, say in a number that may have any value
                    for file in self.out.iterdir():
                        file.unlink()
                    self.out.rmdir()
                else:
                    refusals += 1
                    self.assertEqual((code, stderr.count("\n")), (2, 1), stderr)
                self.assertEqual(list(self.dir.iterdir()), [self.gguf])
        self.assertGreater(refusals, 60)

    def test_bad_arguments(self):
        code, stderr = self.convert("--gguf", self.dir / "none.gguf", self.out)
        self.assertEqual(code, 2)
        self.assertIn("none.gguf: No such file", stderr)
        self.out.mkdir()
        code, stderr = self.convert("--gguf", self.gguf, self.out)
        self.assertEqual(code, 2)
        self.assertIn("exists already", stderr)

    def test_the_directory_that_other_tests_use_is_current(self):
        kept = os.environ.get("STAMP_SMOLLM2_DIR")
        self.assertTrue(kept, "STAMP_SMOLLM2_DIR is not set; tests/run.sh makes the directory")
        self.assertEqual(self.convert(self.out), (0, ""))
        names = sorted(p.name for p in self.out.iterdir())
        self.assertEqual(sorted(p.name for p in Path(kept).iterdir()), names)
        _, different, unreadable = filecmp.cmpfiles(self.out, kept, names, shallow=False)
        self.assertEqual((different, unreadable), ([], []), f"remove {kept} and run tests/run.sh again")


if __name__ == "__main__":
    unittest.main()
