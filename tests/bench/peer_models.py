"""The models of the comparisons in the forms that the programs read: GGUF files for llama.cpp, quantised directories
for stamp."""
import json
import shutil
import subprocess
import sys
from pathlib import Path

from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from gguf_to_hf import expected_tensors, packaged_gguf  # noqa: E402

FILE_TYPES = {"F16": LlamaFileType.MOSTLY_F16, "Q8_0": LlamaFileType.MOSTLY_Q8_0, "Q4_0": LlamaFileType.MOSTLY_Q4_0}


def copy_fields(writer, reader, file_type, changed=None):
    """The metadata of a GGUF file; `changed` gives other values to some keys."""
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.quantization_version"):
            continue
        is_array = field.types[0] == GGUFValueType.ARRAY
        value = (changed or {}).get(key, field.contents())
        writer.add_key_value(key, int(file_type) if key == "general.file_type" else value, field.types[0],
                             field.types[-1] if is_array else None)


def add_matrix(writer, name, values, weights):
    dtype = GGMLQuantizationType[weights]
    writer.add_tensor(name, quantize(values, dtype), raw_dtype=dtype)


def finish(writer, temporary, target):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.rename(target)


def smollm2_gguf(out, weights):
    """SmolLM2 with all matrices F16, which are the weights that gguf_to_hf.py writes, or rounded to Q8_0 or Q4_0, the
    embedding, which is the head, too; -> the file in the directory `out`."""
    target = out / f"SmolLM2-135M-Instruct.{weights}.gguf"
    if target.exists():
        return target
    reader, temporary = GGUFReader(packaged_gguf()), target.with_suffix(".tmp")
    writer = GGUFWriter(temporary, reader.fields["general.architecture"].contents())
    copy_fields(writer, reader, FILE_TYPES[weights])
    for tensor in reader.tensors:
        full = dequantize(tensor.data, tensor.tensor_type)
        if tensor.tensor_type == GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, full)
        else:
            add_matrix(writer, tensor.name, full, weights)
    finish(writer, temporary, target)
    return target


def rope_permutation(rows, heads):
    """The opposite of gguf_to_hf.undo_rope_permutation: llama.cpp's order of a head's rows."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def directory_gguf(directory, target, weights):
    """A directory of random_model.py, whose tokenizer is SmolLM2's, as a GGUF file."""
    if target.exists():
        return target
    config = json.loads((directory / "config.json").read_text())
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    reader, temporary = GGUFReader(packaged_gguf()), target.with_suffix(".tmp")
    writer = GGUFWriter(temporary, "llama")
    copy_fields(writer, reader, FILE_TYPES[weights], {
        "general.name": directory.name,
        "llama.block_count": config["num_hidden_layers"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "llama.rope.freq_base": config["rope_theta"],
        "llama.rope.dimension_count": head_dim,
        "llama.vocab_size": config["vocab_size"],
    })
    with safe_open(directory / "model.safetensors", "np") as tensors:
        for name, (source, _, heads) in expected_tensors({**config, "head_dim": head_dim}).items():
            values = tensors.get_tensor(source).astype("float32")
            if values.ndim == 1:
                writer.add_tensor(name, values)
            else:
                add_matrix(writer, name, rope_permutation(values, heads) if heads else values, weights)
    finish(writer, temporary, target)
    return target


def nearest_recipe(name, out, head_bits=None):
    """A recipe file as the built-in one, but with weights rounded to nearest: as fast as GPTQ's and made at once. With
    `head_bits`, embedding and head have as many."""
    recipe = json.loads((ROOT / "configs" / f"{name}.json").read_text())
    recipe["weights"]["method"] = "rtn"
    if head_bits is not None:
        recipe["weights"]["head_bits"] = head_bits
        name += f"-head{head_bits}"
    target = out / f"{name}-nearest.json"
    target.write_text(json.dumps(recipe, indent=2) + "\n")
    return target


def quantised_directory(stamp, model, out, name, head_bits=None):
    """`model` quantised with nearest_recipe(), by this build of stamp or a later one"""
    recipe = nearest_recipe(name, out, head_bits)
    target = out / f"{model.name}-{recipe.stem}"
    manifest = target / "manifest.json"
    if manifest.exists() and manifest.stat().st_mtime > stamp.stat().st_mtime:
        return target
    shutil.rmtree(target, ignore_errors=True)
    done = subprocess.run([stamp, "quantize", "--model", model, "--out", target, "--recipe", recipe], stderr=subprocess.PIPE,
                          text=True)
    if done.returncode != 0:
        sys.exit(f"stamp quantize ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return target
