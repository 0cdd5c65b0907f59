#!/usr/bin/env python3
"""Writes a Llama of a given shape with random weights: as slow and as large as a real one, and as good as none.

    python3 tests/bench/random_model.py 1b OUT_DIR --tokenizer MODEL_DIR
    python3 tests/bench/random_model.py 8b OUT_DIR --tokenizer MODEL_DIR --layers 4     a part of the model

The vocabulary is that of MODEL_DIR, whose tokenizer files are copied, so embedding and head have its size.
"""
import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

# As in the published config.json of TinyLlama-1.1B and of Meta-Llama-3-8B; contexts are ours.
SHAPES = {
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
           "num_key_value_heads": 4, "rope_theta": 10000.0, "max_position_embeddings": 32768},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "rope_theta": 500000.0, "max_position_embeddings": 32768},
}
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]


def tensors_of(config):
    """(name, shape) of every tensor in the order of the file."""
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    head_dim = hidden // config["num_attention_heads"]
    kv = config["num_key_value_heads"] * head_dim
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in [("input_layernorm", (hidden,)), ("post_attention_layernorm", (hidden,)),
                            ("self_attn.q_proj", (hidden, hidden)), ("self_attn.k_proj", (kv, hidden)),
                            ("self_attn.v_proj", (kv, hidden)), ("self_attn.o_proj", (hidden, hidden)),
                            ("mlp.gate_proj", (inner, hidden)), ("mlp.up_proj", (inner, hidden)),
                            ("mlp.down_proj", (hidden, inner))]:
            yield layer + name + ".weight", shape
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocab, hidden)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, metavar="MODEL_DIR")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    source = json.loads((args.tokenizer / "config.json").read_text())
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "mlp_bias": False,
              "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "torch_dtype": "float16",
              **{key: source[key] for key in ("vocab_size", "bos_token_id", "eos_token_id")}, **SHAPES[args.shape]}
    if args.layers is not None:
        if not 1 <= args.layers <= config["num_hidden_layers"]:
            sys.exit(f"random_model.py: --layers must be in 1 .. {config['num_hidden_layers']}")
        config["num_hidden_layers"] = args.layers
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in TOKENIZER_FILES:
        if (args.tokenizer / name).exists():
            shutil.copyfile(args.tokenizer / name, args.out / name)

    header, at = {}, 0
    for name, shape in tensors_of(config):
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(args.seed)
    with open(args.out / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors_of(config):
            if len(shape) == 1:
                values = np.ones(shape, np.float16)
            else:
                values = (random.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[1]))).astype(np.float16)
            file.write(values.tobytes())
    print(f"wrote {args.out}: {at / 2**30:.2f} GiB of random weights, {config['num_hidden_layers']} layers")


if __name__ == "__main__":
    main()
