"""Writes the tiny models of the golden tests: one Hugging Face directory for each variant of config.json.

    python3 tests/prepare_data.py OUT_DIR

The weights are random but the same bytes everywhere: splitmix64 streams seeded with the names of model and tensor,
scaled in float32. tests/golden/make.py runs transformers on these directories and records their SHA-256.
Needs numpy alone; the safetensors files are written here so that no package version can change a byte.
"""
import argparse
import hashlib
import json
import math
import struct
import sys
from pathlib import Path

import numpy as np

BASE = {
    "vocab_size": 288, "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "tie_word_embeddings": False,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 128}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 96}
WIDE_HEADS = {"head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1}  # more pairs for the ramps


def v5(rope, theta=10000.0):
    """As transformers 5 writes it: rope_scaling and rope_theta in one object."""
    return {"rope_theta": None, "rope_parameters": {**rope, "rope_theta": theta}}


# Differences from BASE; a None drops the field. "dtype" and "shards" say how the weights are stored.
MODELS = {
    "mha": {"num_key_value_heads": None},
    "gqa": {"hidden_size": 72, "num_attention_heads": 9, "num_key_value_heads": 3},
    "mqa": {"num_key_value_heads": 1},
    "attention_bias": {"attention_bias": True},
    "mlp_bias": {"mlp_bias": True},
    "both_biases": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "dtype": "F16"},
    "tied": {"tie_word_embeddings": True},
    "head_dim_wide": {"head_dim": 24},
    "head_dim_narrow": {"head_dim": 10},
    "head_dim_128": {"head_dim": 128, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2},
    "odd_sizes": {"hidden_size": 60, "num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 133,
                  "vocab_size": 1001},
    "odd_sizes_f16": {"hidden_size": 63, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 22,
                      "intermediate_size": 77, "vocab_size": 259, "dtype": "F16"},
    "odd_sizes_bf16": {"hidden_size": 65, "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 14,
                       "intermediate_size": 91, "vocab_size": 261, "dtype": "BF16"},
    "smallest": {"hidden_size": 6, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 2,
                 "intermediate_size": 5, "num_hidden_layers": 1, "vocab_size": 258},
    "theta_eps": {"rope_theta": 500000.0, "rms_norm_eps": 0.01},
    "deep": {"num_hidden_layers": 8},
    "f16": {"dtype": "F16"},
    "bf16": {"dtype": "BF16"},
    "mixed_dtypes": {"dtype": "mixed", "attention_bias": True},
    "sharded": {"dtype": "BF16", "shards": 3},
    "rope_default": v5({"rope_type": "default"}, 20000.0),
    "rope_linear": {"rope_scaling": {"type": "linear", "factor": 2.5}},
    "rope_linear_v5": v5({"rope_type": "linear", "factor": 4}),
    "rope_llama3": {**WIDE_HEADS, "rope_scaling": LLAMA3, "rope_theta": 500000.0},
    "rope_llama3_v5": {**WIDE_HEADS, **v5({**LLAMA3, "factor": 32.0}, 50000.0)},
    "rope_yarn": {**WIDE_HEADS, "rope_scaling": YARN},
    "rope_yarn_v5": {**WIDE_HEADS, **v5({**YARN, "original_max_position_embeddings": 256})},
    "rope_yarn_factor": {**WIDE_HEADS, "rope_scaling": {**YARN, "attention_factor": 0.75}},
    "rope_yarn_mscale": {**WIDE_HEADS, "rope_scaling": {**YARN, "mscale": 0.707, "mscale_all_dim": 1.3}},
    "rope_yarn_beta": {**WIDE_HEADS, "rope_scaling": {**YARN, "beta_fast": 8, "beta_slow": 0.25}},
    "rope_yarn_exact": {**WIDE_HEADS, "rope_scaling": {**YARN, "beta_fast": 8, "truncate": False}},
    "mistral": {"model_type": "mistral", "sliding_window": None, "attention_bias": None, "mlp_bias": None,
                "dtype": "BF16"},
}
KEPT_NULLS = {"sliding_window"}
BOS, EOS = 256, 257


def splitmix64(seed, count):
    """The first `count` numbers of the generator, as uint64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def stream_seed(name):
    """FNV-1a of the name, so that adding a model or a tensor changes no other."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def uniform(name, shape):
    """float32 in [-1, 1), multiples of 2^-23: every step is exact."""
    words = splitmix64(stream_seed(name), math.prod(shape)) >> np.uint64(40)
    return ((words.astype(np.int32) - 2**23).astype(np.float32) * np.float32(2.0**-23)).reshape(shape)


def tensor_shapes(config):
    hidden, mlp, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim", hidden // heads)
    q, kv = heads * head_dim, config.get("num_key_value_heads", heads) * head_dim
    linears = {"self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
               "self_attn.o_proj": (hidden, q), "mlp.gate_proj": (mlp, hidden), "mlp.up_proj": (mlp, hidden),
               "mlp.down_proj": (hidden, mlp)}
    shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in linears.items():
            shapes[f"{layer}{name}.weight"] = shape
            if config.get("attention_bias" if name.startswith("self_attn") else "mlp_bias"):
                shapes[f"{layer}{name}.bias"] = shape[:1]
        shapes[layer + "input_layernorm.weight"] = (hidden,)
        shapes[layer + "post_attention_layernorm.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    return shapes


def tensor_values(model, name, shape):
    """Scales that keep the network far from degenerate: attention scores of standard deviation about 2, so that
    positions matter; logits of about 3."""
    x = uniform(f"{model}/{name}", shape)
    if name.endswith("norm.weight"):
        return np.float32(1) + np.float32(0.4) * x
    if name.endswith(".bias"):
        return np.float32(0.5) * x
    if name == "model.embed_tokens.weight":
        return x
    gain = 3.0 if name == "lm_head.weight" else 1.4 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.0
    return np.float32(gain * math.sqrt(3.0 / shape[-1])) * x


def store(values, dtype):
    """Little-endian bytes of the storage type, rounded to nearest even."""
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    if dtype == "BF16":
        bits = values.view(np.uint32)
        return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype("<u2").tobytes()
    return values.astype("<f4").tobytes()


def tensor_dtype(dtype, name):
    if dtype != "mixed":
        return dtype
    return "F32" if "norm" in name or name.endswith(".bias") else "F16" if "mlp" in name else "BF16"


def safetensors_bytes(tensors):
    """tensors: name -> (dtype, shape, bytes). Wide types come first, as the safetensors package orders them."""
    header, data, end = {"__metadata__": {"format": "pt"}}, [], 0
    for name, (dtype, shape, values) in sorted(tensors.items(), key=lambda item: (item[1][0] != "F32", item[0])):
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + len(values)]}
        data.append(values)
        end += len(values)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data)


def weight_files(model, config, dtype, shards):
    """File name -> bytes."""
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        kind = tensor_dtype(dtype, name)
        tensors[name] = (kind, shape, store(tensor_values(model, name, shape), kind))
    if shards == 1:
        return {"model.safetensors": safetensors_bytes(tensors)}
    files, weight_map, names = {}, {}, sorted(tensors)
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[i * len(names) // shards:(i + 1) * len(names) // shards]
        files[file] = safetensors_bytes({name: tensors[name] for name in part})
        weight_map.update({name: file for name in part})
    index = {"metadata": {"total_size": sum(len(data) for _, _, data in tensors.values())}, "weight_map": weight_map}
    files["model.safetensors.index.json"] = json_bytes(index)
    return files


def json_bytes(value):
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def byte_characters():
    """The character by which a byte-level vocabulary writes each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def tokenizer_files(vocab_size):
    """Byte-level BPE: the bytes, <s>, </s>, and as many of a few merges as the vocabulary has room for."""
    vocab = {character: byte for byte, character in enumerate(byte_characters())}
    vocab.update({"<s>": BOS, "</s>": EOS})
    merges = [pair for pair in (["Ġ", "t"], ["h", "e"], ["Ġt", "he"], ["i", "n"], ["in", "g"])][:vocab_size - len(vocab)]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": BOS, "content": "<s>", **special}, {"id": EOS, "content": "</s>", **special}],
        "normalizer": None, "pre_tokenizer": byte_level,
        "post_processor": {"type": "TemplateProcessing", "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}}},
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": merges},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
              "clean_up_tokenization_spaces": False, "model_max_length": BASE["max_position_embeddings"]}
    return {"tokenizer.json": json_bytes(tokenizer), "tokenizer_config.json": json_bytes(config)}


def model_files(model):
    """The whole directory of a variant: file name -> bytes."""
    fields = {**BASE, **MODELS[model]}
    dtype, shards = fields.pop("dtype", "F32"), fields.pop("shards", 1)
    model_type = fields.pop("model_type", "llama")
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "mixed": "bfloat16"}
    config = {"architectures": [f"{model_type.capitalize()}ForCausalLM"], "model_type": model_type,
              **{name: value for name, value in fields.items() if value is not None or name in KEPT_NULLS},
              "bos_token_id": BOS, "eos_token_id": EOS,
              "dtype" if "rope_parameters" in fields else "torch_dtype": names[dtype]}
    generation = {"bos_token_id": BOS, "eos_token_id": [EOS], "do_sample": False}
    return {"config.json": json_bytes(config), "generation_config.json": json_bytes(generation),
            **tokenizer_files(config["vocab_size"]), **weight_files(model, config, dtype, shards)}


def fingerprint(directory):
    """SHA-256 over the names and contents of what the logits depend on, in order of the names."""
    digest = hashlib.sha256()
    for file in sorted([directory / "config.json", *directory.glob("*.safetensors")]):
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="STAMP_TEST_DATA_DIR of the build")
    out = parser.parse_args().out / "tiny"
    for model in MODELS:
        (out / model).mkdir(parents=True, exist_ok=True)
        for name, data in model_files(model).items():
            (out / model / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
