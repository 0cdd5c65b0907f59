"""Makes the golden values of the tests with Hugging Face transformers, in float32 on the CPU with eager attention.

    pip install torch==2.9.1 transformers==5.24.0 numpy==2.4.6 accelerate==1.15.0 peft==0.21.2 lm-eval==0.4.13
    python3 tests/prepare_data.py DATA_DIR
    python3 tests/golden/make.py --data DATA_DIR --smollm2 SMOLLM2_DIR --text wiki.test.raw [--only tiny rope ...]

Writes beside this file:
    tiny.json, tiny/*.f32   logits of some rows of every tiny model, [rows, vocab] little-endian float32
    rope.json               inverse frequencies and attention factors of many configurations
    smollm2.json            logits and greedy continuations of SmolLM2-135M-Instruct for prompts.json
    perplexity.json         negative log-likelihoods of windows of two texts, SmolLM2 again
    harness.json            what lm-eval's own backend for transformers says to the tasks of harness/

Every file names the versions and the SHA-256 of its inputs, so that a test notices when they no longer belong
together. SMOLLM2_DIR comes from tools/gguf_to_hf.py; its weights are F16 and computed with in float32. Ten minutes.
"""
import argparse
import hashlib
import json
import platform
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))
import prepare_data  # noqa: E402

TINY_TOKENS = 400
# Both sides of page (64) and chunk (256) boundaries, and of original_max_position_embeddings of the scaled ropes.
TINY_ROWS = [0, 1, 63, 64, 97, 128, 255, 256, 300, 320, 383, 399]
GREEDY_TOKENS = 64
SAMPLE_IDS = 200

# For rope.json: those of released models, and the corners of the formulas.
ROPES = {
    "smollm2": {"head_dim": 64, "rope_theta": 100000.0},
    "llama2": {"head_dim": 128, "rope_theta": 10000.0},
    "llama3": {"head_dim": 128, "rope_theta": 500000.0},
    "llama31": {"head_dim": 128, "rope_theta": 500000.0, "max_position_embeddings": 131072, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}},
    "llama32_1b": {"head_dim": 64, "rope_theta": 500000.0, "max_position_embeddings": 131072, "rope_scaling": {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}},
    "mistral": {"head_dim": 128, "rope_theta": 1000000.0},
    "linear_16k": {"head_dim": 128, "rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "linear_fraction": {"head_dim": 80, "rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 1.3}},
    "yarn_64k": {"head_dim": 128, "rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}},
    "yarn_32k": {"head_dim": 128, "rope_theta": 1000000.0, "max_position_embeddings": 131072, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
    "yarn_no_original": {"head_dim": 64, "rope_theta": 10000.0, "max_position_embeddings": 2048, "rope_scaling": {
        "rope_type": "yarn", "factor": 2.0}},
    "yarn_factor_one": {"head_dim": 64, "rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 2048}},
    "yarn_mscale_one_of_two": {"head_dim": 64, "rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707}},
    "yarn_mscale_both": {"head_dim": 64, "rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707,
        "mscale_all_dim": 1.0}},
    "yarn_attention_factor": {"head_dim": 64, "rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096, "attention_factor": 1.5,
        "mscale": 0.5, "mscale_all_dim": 1.0}},
    "yarn_other_betas": {"head_dim": 64, "rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096, "beta_fast": 16, "beta_slow": 0.5}},
    "yarn_exact_ramp": {"head_dim": 64, "rope_theta": 150000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 32.0,
        "beta_slow": 1.0, "truncate": False}},
    "yarn_short_original": {"head_dim": 64, "rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
    "yarn_equal_betas": {"head_dim": 64, "rope_theta": 10000.0, "rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "beta_fast": 1, "beta_slow": 1,
        "truncate": False}},
}


def versions():
    return {"transformers": transformers.__version__, "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version()}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(name, value):
    """One line for each entry of the outermost lists and objects: diffs stay readable, files small."""
    def line(item):
        return json.dumps(item, ensure_ascii=False)

    def block(item):
        if isinstance(item, dict) and any(isinstance(v, (dict, list)) for v in item.values()):
            return "{\n" + ",\n".join(f"  {line(k)}: {line(v)}" for k, v in item.items()) + "\n }"
        if isinstance(item, list) and item and isinstance(item[0], dict):
            return "[\n" + ",\n".join(f"  {line(v)}" for v in item) + "\n ]"
        return line(item)
    text = "{\n" + ",\n".join(f" {line(k)}: {block(v)}" for k, v in value.items()) + "\n}\n"
    assert json.loads(text) == value
    (HERE / name).write_text(text, encoding="utf-8")


def floats(values):
    """float32 values by their shortest decimals."""
    values = np.asarray(values, dtype=np.float32)
    decimals = [float(str(x)) for x in values]
    assert np.array_equal(np.array(decimals, dtype=np.float64).astype(np.float32), values)
    return decimals


def load(directory):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    assert model.config._attn_implementation == "eager" and {p.dtype for p in model.parameters()} == {torch.float32}
    return model.eval()


def logits_of(model, ids, keep=0):
    """float32 [rows, vocab]; keep: only the last rows."""
    return model(torch.tensor([ids]), use_cache=False, logits_to_keep=keep).logits[0]


def make_tiny(arguments):
    numbers = (prepare_data.splitmix64(prepare_data.stream_seed("tokens"), TINY_TOKENS) >> np.uint64(48)).tolist()
    models = {}
    (HERE / "tiny").mkdir(exist_ok=True)
    for name in prepare_data.MODELS:
        directory = arguments.data / "tiny" / name
        model = load(directory)
        vocab = model.config.vocab_size
        logits = logits_of(model, [number % vocab for number in numbers])
        assert logits[1:].std(dim=1).min() > 0.5 and len(set(logits.argmax(dim=1).tolist())) > 20, name
        (HERE / "tiny" / f"{name}.f32").write_bytes(logits[TINY_ROWS].numpy().astype("<f4").tobytes())
        models[name] = {"fingerprint": prepare_data.fingerprint(directory), "vocab_size": vocab,
                        "argmax": logits[TINY_ROWS].argmax(dim=1).tolist()}
        print(f"tiny {name}: std {logits.std():.2f}", file=sys.stderr)
    write("tiny.json", {"versions": versions(),
                        "about": "token i of a model is numbers[i] % vocab_size; tiny/NAME.f32 has the logits of rows",
                        "numbers": numbers, "rows": TINY_ROWS, "models": models})


def make_rope(_):
    cases = []
    for name, fields in ROPES.items():
        config = {"model_type": "llama", "vocab_size": 8, "hidden_size": 2 * fields["head_dim"], "intermediate_size": 8,
                  "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8192, **fields}
        rope = LlamaRotaryEmbedding(AutoConfig.for_model(**json.loads(json.dumps(config))))
        assert rope.rope_type == "default" or rope.rope_type in ROPE_INIT_FUNCTIONS
        cases.append({"name": name, "config": config, "attention_factor": rope.attention_scaling,
                      "inverse_frequencies": floats(rope.inv_freq.numpy())})
    write("rope.json", {"versions": versions(), "cases": cases})


def greedy(model, ids):
    """The continuation, and how far the runner-up was behind at the closest step."""
    cache, feed, tokens, gap = DynamicCache(config=model.config), ids, [], float("inf")
    for _ in range(GREEDY_TOKENS):
        logits = model(torch.tensor([feed]), cache=cache, use_cache=True, logits_to_keep=1).logits[0, -1]
        best = logits.topk(2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        tokens.append(best.indices[0].item())
        feed = tokens[-1:]
    # A second opinion without the cache: the same tokens from one pass.
    again = logits_of(model, ids + tokens)[len(ids) - 1:-1].argmax(dim=1).tolist()
    assert again == tokens, "transformers contradicts itself: a tie"
    return tokens, gap


def make_smollm2(arguments):
    model, tokenizer = load(arguments.smollm2), Tokenizer.from_file(str(arguments.smollm2 / "tokenizer.json"))
    vocab = model.config.vocab_size
    sample_ids = [(i * vocab + vocab // 2) // SAMPLE_IDS for i in range(SAMPLE_IDS)]
    prompts, rows = [], []
    for prompt in json.loads((HERE / "prompts.json").read_text(encoding="utf-8")):
        ids = tokenizer.encode(prompt["text"], add_special_tokens=False).ids
        tokens, gap = greedy(model, ids)
        prompts.append({**prompt, "ids": ids, "greedy": tokens, "smallest_gap": gap})
        print(f"smollm2 {prompt['name']}: gap {gap:.4f} {tokenizer.decode(tokens)!r}", file=sys.stderr)
        logits = logits_of(model, ids)
        for position in sorted({0, len(ids) // 2, len(ids) - 1}) if prompt["name"] in ("page", "pages") else [len(ids) - 1]:
            top = logits[position].topk(20)
            rows.append({"prompt": prompt["name"], "position": position,
                         "logsumexp": logits[position].double().logsumexp(0).item(),
                         "top_ids": top.indices.tolist(), "top": floats(top.values.numpy()),
                         "sample": floats(logits[position][sample_ids].numpy())})
    write("smollm2.json", {"versions": versions(), "fingerprint": prepare_data.fingerprint(arguments.smollm2),
                           "tokenizer_sha256": sha256(arguments.smollm2 / "tokenizer.json"),
                           "prompts_sha256": sha256(HERE / "prompts.json"),
                           "prompts": prompts, "sample_ids": sample_ids, "rows": rows})


def windows(protocol, context, stride, tokens):
    """(begin, end, index in the window of the first scored token), as each protocol's authors wrote it."""
    if protocol == "gptq":
        return [(i * context, (i + 1) * context, 1) for i in range(tokens // context)]
    if protocol == "llama.cpp":
        return [(i * context, (i + 1) * context, context // 2 + 1) for i in range(tokens // context)]
    if protocol == "document":
        begins = [0, *range(context - 1, tokens - 1, context - 1)]
        return [(begin, min(begin + context, tokens), 1) for begin in begins]
    result, previous = [], 0
    for begin in range(0, tokens, stride):  # "Perplexity of fixed-length models" in transformers' documentation
        end = min(begin + context, tokens)
        result.append((begin, end, max(1, end - begin - (end - previous))))
        previous = end
        if end == tokens:
            return result
    return result


def window_nll(model, ids, first_scored):
    logits = logits_of(model, ids)[first_scored - 1:-1].double()
    picked = logits.log_softmax(dim=-1).gather(1, torch.tensor(ids[first_scored:])[:, None])
    return {"nll": -picked.sum().item(), "tokens": len(ids) - first_scored}


def make_perplexity(arguments):
    model, tokenizer = load(arguments.smollm2), Tokenizer.from_file(str(arguments.smollm2 / "tokenizer.json"))
    runs = [("LICENSE", ROOT / "LICENSE", "gptq", 512, 0, None), ("LICENSE", ROOT / "LICENSE", "llama.cpp", 512, 0, None),
            ("LICENSE", ROOT / "LICENSE", "document", 600, 0, None), ("LICENSE", ROOT / "LICENSE", "strided", 640, 250, None),
            ("wikitext-2-test.raw", arguments.text, "gptq", 2048, 0, arguments.windows)]
    results = []
    for name, path, protocol, context, stride, most in runs:
        # The tokenizer adds no specials, so with and without them is the same.
        ids = tokenizer.encode(path.read_bytes().decode("utf-8"), add_special_tokens=True).ids
        chunks = []
        for begin, end, first in windows(protocol, context, stride, len(ids))[:most]:
            chunks.append(window_nll(model, ids[begin:end], first))
            print(f"{name} {protocol} {begin}: {chunks[-1]}", file=sys.stderr)
        nll, tokens = sum(c["nll"] for c in chunks), sum(c["tokens"] for c in chunks)
        results.append({"text": name, "sha256": sha256(path), "text_tokens": len(ids), "protocol": protocol,
                        "context": context, "stride": stride, "ppl": float(np.exp(nll / tokens)), "chunks": chunks})
        print(f"{name} {protocol}: ppl {results[-1]['ppl']:.5f}, {tokens} tokens", file=sys.stderr)
    write("perplexity.json", {"versions": versions(), "fingerprint": prepare_data.fingerprint(arguments.smollm2),
                              "tokenizer_sha256": sha256(arguments.smollm2 / "tokenizer.json"), "runs": results})


def make_harness(arguments):
    sys.path.insert(0, str(HERE / "harness"))
    import lm_eval
    import run_tasks
    options = {"pretrained": str(arguments.smollm2.resolve()), "dtype": "float32", "attn_implementation": "eager",
               "softmax_dtype": "float64"}  # in float32, a sum of 49,152 terms is 1e-5 off
    responses = run_tasks.run_tasks(run_tasks.LIKELIHOOD + run_tasks.GENERATION, "hf", options, device="cpu", batch_size=1)
    responses |= run_tasks.run_tasks(run_tasks.CHAT, "hf", options, device="cpu", batch_size=1, apply_chat_template=True)
    write("harness.json", {"versions": {**versions(), "lm_eval": lm_eval.__version__},
                           "fingerprint": prepare_data.fingerprint(arguments.smollm2),
                           "tokenizer_sha256": sha256(arguments.smollm2 / "tokenizer.json"),
                           "tasks_sha256": run_tasks.tasks_sha256(), "responses": responses})


MAKERS = {"tiny": make_tiny, "rope": make_rope, "smollm2": make_smollm2, "perplexity": make_perplexity, "harness": make_harness}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="directory written by tests/prepare_data.py")
    parser.add_argument("--smollm2", type=Path, required=True, help="SmolLM2-135M-Instruct as a Hugging Face directory")
    parser.add_argument("--text", type=Path, required=True, help="WikiText-2 raw test split")
    parser.add_argument("--windows", type=int, default=20, help="of the text, 2048 tokens each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=MAKERS, default=list(MAKERS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with torch.inference_mode():
        for name in arguments.only:
            MAKERS[name](arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
