#!/usr/bin/env python3
"""Checks the direction of includes: tools -> engine -> models -> kernels.

    layering_check.py        checks the tree, and itself on planted bad cases first

Rules: no include points upward, or at tests/; above kernels/ and in its public headers only the public headers
kernels/*.h may be included; CUDA headers stay in kernels/cuda/; own files are included by their path from the root.
"""
import re
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("kernels", "models", "engine", "tools")  # each may include itself and those before it
SUFFIXES = {".h", ".cpp", ".inl", ".cu", ".cuh"}
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b[ \t]*(.*)$", re.MULTILINE)
TARGET = re.compile(r'[<"]([^>"]+)[>"]')
CUDA_HEADER = re.compile(r"^(cuda|cublas|cusparse|curand|cooperative_groups|nv|nccl|mma\.h|cub/|cute/|cutlass/|thrust/)")


def is_public_kernels_header(path):
    return path.parent == PurePosixPath("kernels") and path.suffix == ".h"


def fault(source, line):
    """What is wrong with the include `line` (all after the word include) in the file `source`, else None."""
    target = TARGET.match(line)
    if target is None:
        return "is not a plain file name"
    target, quoted = PurePosixPath(target[1]), line.startswith('"')
    if CUDA_HEADER.match(str(target)) and source.parts[:2] != ("kernels", "cuda"):
        return "is a CUDA header, which belongs in kernels/cuda/"
    top = target.parts[0]
    if top == "tests":
        return "is a test's file"
    if top not in LAYERS or len(target.parts) == 1:
        return "must be written as a path from the root" if quoted else None
    if LAYERS.index(top) > LAYERS.index(source.parts[0]):
        return f"points upward, from {source.parts[0]} to {top}"
    internal = top == "kernels" and not is_public_kernels_header(target)
    if internal and source.parts[0] != "kernels":
        return "is internal to kernels/"
    if internal and is_public_kernels_header(source):
        return "is internal, so a public header of kernels/ must not include it"
    return None


def faults(source, text):
    """One message per bad include in the text of the file `source`, a path from the root."""
    source = PurePosixPath(source)
    result = []
    for match in INCLUDE.finditer(text):
        what = fault(source, match[1].strip())
        if what is not None:
            line = text.count("\n", 0, match.start()) + 1
            result.append(f"{source}:{line}: include {match[1].strip()} {what}")
    return result


# (file, its text, a part of the one expected message; none expected if it is empty)
PLANTED = (
    ("kernels/registry.cpp", '#include "models/config.h"\n', "upward, from kernels to models"),
    ("models/llama.cpp", '#include <vector>\n#include "engine/session.h"\n', "models/llama.cpp:2:"),
    ("models/tokenizers/bpe.cpp", '#include "tools/cli.h"\n', "upward, from models to tools"),
    ("engine/engine.cpp", '#  include <tools/cli.h>\n', "upward, from engine to tools"),
    ("engine/engine.cpp", '\t# include "kernels/cpu/ops_cpu.h"\n', "internal to kernels/"),
    ("engine/engine.cpp", '#include "kernels/cpu/kernels.inl"\n', "internal to kernels/"),
    ("tools/bench.cpp", '#include "kernels/reference/ops_reference.h"\n', "internal to kernels/"),
    ("tools/bench.cpp", '#include "kernels/registry.cpp"\n', "internal to kernels/"),
    ("kernels/ops.h", '#include "kernels/cpu/thread_pool.h"\n', "public header"),
    ("kernels/registry.cpp", "#include <cuda_runtime.h>\n", "CUDA header"),
    ("engine/engine.h", "#include <cublas_v2.h>\n", "CUDA header"),
    ("models/weights.h", '#include "cuda_fp16.h"\n', "CUDA header"),
    ("models/tensor_parallel.h", '#include <nccl.h>\n', "CUDA header"),
    ("kernels/cpu/ops_cpu.cpp", "#include <cub/cub.cuh>\n", "CUDA header"),
    ("engine/engine.cpp", '#include "tests/tiny_model.h"\n', "test's file"),
    ("engine/engine.cpp", '#include "engine.h"\n', "path from the root"),
    ("models/llama.cpp", '#include "../engine/engine.h"\n', "path from the root"),
    ("models/llama.cpp", "#include HEADER\n", "not a plain file name"),
    ("tools/cli.cpp", '#include "engine/engine.h"\n#include "models/json.h"\n#include "kernels/error.h"\n', ""),
    ("kernels/registry.cpp", '#include "kernels/cpu/ops_cpu.h"\n#include <vector>\n', ""),
    ("kernels/cuda/device.cu", '#include <cuda_runtime.h>\n#include "kernels/device.h"\n', ""),
    ("tools/cli.h", '#include <CLI/CLI.hpp>\n// as #include "tools/cli.h" does\n', ""),
)


def self_check():
    """Messages about planted cases that the rules judge wrongly."""
    result = []
    for source, text, expected in PLANTED:
        found = faults(source, text)
        if (len(found) != 1 or expected not in found[0]) if expected else found:
            result.append(f"planted case in {source}, {text!r}: expected {expected!r}, found {found}")
    return result


def main():
    messages = self_check()
    files = sorted(p for layer in LAYERS for p in (ROOT / layer).rglob("*") if p.suffix in SUFFIXES)
    for layer in LAYERS:
        if not any(p.is_relative_to(ROOT / layer) for p in files):
            messages.append(f"{layer}/ has no sources: has the tree moved?")
    for path in files:
        messages += faults(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    for message in messages:
        print(message)
    print(f"{len(files)} files, {len(PLANTED)} planted cases, {len(messages)} faults")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
