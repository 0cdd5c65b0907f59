#!/usr/bin/env python3
"""Checks what the CUDA compiler makes of kernels/cuda/: that every kernel builds for every architecture, spills
nothing and keeps to the registers recorded in compile_budget.json; that products of wgmma run asynchronously; and that
the main loops of the integer products consist of the instructions they were written for, as many of them as
kernels/cuda/main_loops.h says to the cost model.

    compile_check.py             checks
    compile_check.py --record    writes this compiler's registers into compile_budget.json, and its main loops into
                                 kernels/cuda/main_loops.h

Needs nvcc, and nvdisasm for the instructions. What cannot be checked is said; without nvcc nothing is (exit code 77).
"""
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUDGET = Path(__file__).with_name("compile_budget.json")
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")
MAIN_LOOPS = ROOT / "kernels/cuda/main_loops.h"
RECORDED_ARCHITECTURES = (80, 89, 90)  # there; newer ones have much the same loop as the last
STAGES = 4  # of a main loop of linear_int.cu: kLoopStages there
MOST_DEVIATION = 0.03  # of a main loop's instructions: compilers differ a little
SKIPPED = 77

ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
KERNEL = re.compile(r"\d([a-z][a-z_]*_kernel)")
SERIALISED = re.compile(r"\(C75\d\d\)[^\n]*")  # each product waits for the one before
FOUR_BIT_PATH = "MmaPathE1"
INSTANCE = re.compile(r"linear_int_kernelI\w*?MmaPathE(\d)ELi(\d+)ELi(\d+)E")
WGMMA_INSTANCE = re.compile(r"linear_wgmma_kernelILi(\d+)ELi(\d+)E")
PRODUCTS = ("IMMA", "IGMMA")
PATHS = ("kEight", "kFour", "kWgmma")
WGMMA_PATH = 2
RECORDED = re.compile(r"(// recorded by .*\n)(?:.*\n)*?(// end of what is recorded)")
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")
LABEL = re.compile(r"^(\.L_x_\d+):")


def find_tool(name):
    beside_python = sorted(Path(sys.prefix).glob(f"lib/python*/site-packages/nvidia/*/bin/{name}"))
    candidates = [shutil.which(name), f"/usr/local/cuda/bin/{name}", *map(str, beside_python)]
    return next((c for c in candidates if c and Path(c).exists()), None)


def run_tool(path, *arguments):
    """Package managers for Python do not keep the executable bit."""
    if not os.access(path, os.X_OK):
        os.chmod(path, 0o755)
    return subprocess.run([path, *arguments], capture_output=True, text=True)


def compile_kernels(nvcc, source, architecture, directory):
    """(cubin, [(kernel, registers, spilled bytes)], error or None)"""
    cubin = Path(directory) / f"{source.stem}.{architecture}.cubin"
    done = run_tool(nvcc, "-std=c++20", "-fmad=false", "--diag-suppress=554", f"-I{ROOT}", "-cubin", "-Xptxas", "-v",
                    f"-arch={architecture}", "-o", str(cubin), str(source))
    if done.returncode != 0:
        return cubin, [], done.stdout + done.stderr
    kernels, name = [], None
    spilled = 0
    for line in (done.stdout + done.stderr).splitlines():
        if match := ENTRY.search(line):
            name, spilled = KERNEL.search(match[1])[1], 0
        elif match := SPILLS.search(line):
            spilled += int(match[1]) + int(match[2])
        elif (match := REGISTERS.search(line)) and name:
            kernels.append((name, int(match[1]), spilled))
            name = None
    if serialised := SERIALISED.search(done.stdout + done.stderr):
        return cubin, kernels, serialised[0]
    return cubin, kernels, None if kernels else "ptxas reported no kernel"


def ways_through(body, labels, begin):
    """The lengths of the longest ways through a loop's body [(opcode, operands, whether it has a predicate)], which
    begins at instruction `begin`, by their tensor-core operations and barriers. Shorter ones leave copies out, at the
    end of the input."""
    reached = [{} for _ in body] + [{}]
    reached[0][0, 0] = 0
    for at, (opcode, operands, predicated) in enumerate(body):
        target = re.search(r"\.L_x_\d+", operands) if opcode.startswith("BRA") else None
        to = labels[target[0]] - begin if target else None
        # Back to the beginning is the end.
        following = [] if to is None else [to if at < to <= len(body) else len(body)]
        if to is None or predicated:
            following.append(at + 1)
        for (products, barriers), length in reached[at].items():
            way = products + opcode.startswith(PRODUCTS), barriers + opcode.startswith("BAR")
            for next_at in following:
                reached[next_at][way] = max(reached[next_at].get(way, 0), length + 1)
    return reached[-1]


def main_loops(listing, emulates_four_bits):
    """For each instance of the integer products, by its template's numbers: the opcodes of its outermost loop with
    tensor-core operations, and the lengths of the ways through all of its stages, by a stage's products. Those for
    4-bit products are left out where the hardware has none: tile_plan.h never takes them there."""
    loops = {}
    for function in re.split(r"^\.text\.", listing, flags=re.MULTILINE)[1:]:
        symbol = function.split("\n", 1)[0]
        wgmma = WGMMA_INSTANCE.search(symbol)
        if not wgmma and ("linear_int_kernel" not in symbol or (emulates_four_bits and FOUR_BIT_PATH in symbol)):
            continue
        labels, code = {}, []
        for line in function.splitlines():
            if label := LABEL.match(line.strip()):
                labels[label[1]] = len(code)
            elif instruction := INSTRUCTION.search(line):
                code.append((instruction[3], instruction[4], instruction[2] is not None))
        best, best_begin = [], 0
        for end, (opcode, operands, _) in enumerate(code):
            target = re.search(r"\.L_x_\d+", operands) if opcode.startswith("BRA") else None
            begin = labels.get(target[0]) if target else None
            if begin is None or begin > end:
                continue
            body = code[begin : end + 1]
            if any(op.startswith(PRODUCTS) for op, _, _ in body) and len(body) > len(best):
                best, best_begin = body, begin
        ways = ways_through(best, labels, best_begin)
        if wgmma:  # of a stage four for 128 rows, two tiles
            bits, row_tiles = map(int, wgmma.groups())
            products = 4 * row_tiles // 2
            loops[WGMMA_PATH, bits, row_tiles] = [op for op, _, _ in best], {products: ways.get((products, 1), 0)}
            continue
        instance = path, _, channel_warps = tuple(map(int, INSTANCE.search(symbol).groups()))
        # Two products of 4 bits for eight rows, four where they are wide: none, the first ones, all. Or four of 8.
        rows = 2 * channel_warps
        products = (2 * rows, 2 * rows + 2, 4 * rows) if path == 1 else (4 * rows,)
        loops[instance] = [op for op, _, _ in best], {p: ways.get((p * STAGES, STAGES), 0) for p in products}
    return loops


def table_line(architecture, instance, instructions):
    """A line of main_loops.h; `instance`: the template's numbers, and the products of the way through the loop."""
    path, bits, width, products = instance
    return f"    {{{architecture}, MmaPath::{PATHS[path]}, {bits}, {width}, {products}, {instructions}}},"


def check_table(counts):
    """Faults of main_loops.h, whose lines must say what was counted: {(architecture, instance): instructions}."""
    faults, text = [], MAIN_LOOPS.read_text()
    for (architecture, instance), count in sorted(counts.items()):
        line = re.escape(table_line(architecture, instance, 0)).replace(r"\ 0\}", r"\ (\d+)\}")
        recorded = re.search(line, text)
        if recorded is None or abs(int(recorded[1]) - count) > MOST_DEVIATION * count:
            said = recorded[1] if recorded else "nothing"
            faults.append(f"main_loops.h says {said}, counted: {table_line(architecture, instance, count).strip()}; "
                          "run compile_check.py --record")
    return faults


def check_instructions(nvdisasm, cubin, counts):
    """Faults of the integer products' main loops, whose lengths go to `counts`."""
    done = run_tool(nvdisasm, str(cubin))
    if done.returncode != 0:
        return [f"nvdisasm: {done.stderr.strip()}"]
    architecture = int(re.search(r"sm_(\d+)", cubin.name)[1])
    emulates_four_bits = architecture >= 90
    found = main_loops(done.stdout, emulates_four_bits)
    faults = [] if found else [f"{cubin.name}: no integer products in it"]
    for instance, (body, ways) in found.items():
        if architecture in RECORDED_ARCHITECTURES:
            counts.update({(architecture, (*instance, products)): length for products, length in ways.items()})
        product = PRODUCTS[instance[0] == WGMMA_PATH]
        count = {op: sum(o.startswith(op) for o in body) for op in (product, "LDGSTS", "LDS.64", "LDL", "STL")}
        print(f"{cubin.name}: main loop of {len(body)} instructions, of them by products "
              f"{ways}, " + ", ".join(f"{n} {op}" for op, n in count.items()))
        if not (count[product] >= 4 and count["LDGSTS"] and count["LDS.64"]):
            faults.append(f"{cubin.name}: the main loop lacks tensor-core operations, asynchronous copies or wide loads")
        if count["LDL"] or count["STL"]:
            faults.append(f"{cubin.name}: the main loop uses local memory")
    return faults


def main():
    nvcc = find_tool("nvcc")
    if nvcc is None:
        print("NOT CHECKED: no nvcc here, so nothing is known about registers, spills and instructions of the kernels")
        return SKIPPED
    known = run_tool(nvcc, "--list-gpu-code").stdout.split() + ["sm_90a", "sm_100a", "sm_120a"]
    faults, used = [], {}
    budget = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    with tempfile.TemporaryDirectory() as directory, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = {}
        for architecture in ARCHITECTURES:
            if architecture.rstrip("a") not in known:
                print(f"NOT CHECKED: {architecture}, which this nvcc does not know")
                continue
            for source in sorted((ROOT / "kernels/cuda").glob("*.cu")):
                jobs[pool.submit(compile_kernels, nvcc, source, architecture, directory)] = (source, architecture)
        cubins = []
        for job in concurrent.futures.as_completed(jobs):
            source, architecture = jobs[job]
            cubin, kernels, error = job.result()
            if error:
                faults.append(f"{source.name} for {architecture}: {error}")
            for kernel, registers, spilled in kernels:
                used[kernel] = max(used.get(kernel, 0), registers)
                if spilled:
                    faults.append(f"{kernel} for {architecture}: spills {spilled} bytes")
                if registers > budget.get(kernel, 0) and "--record" not in sys.argv:
                    faults.append(f"{kernel} for {architecture}: {registers} registers, budget {budget.get(kernel, 0)}")
            if not error and (source.stem == "linear_int" or (source.stem, architecture) == ("linear_wgmma", "sm_90a")):
                cubins.append(cubin)
        nvdisasm = find_tool("nvdisasm")
        if nvdisasm is None:
            print("NOT CHECKED: no nvdisasm here, so not the instructions of the main loops")
        else:
            counts = {}
            for cubin in sorted(cubins):
                faults += check_instructions(nvdisasm, cubin, counts)
            if "--record" in sys.argv:
                lines = "".join(table_line(*key, count) + "\n" for key, count in sorted(counts.items()))
                MAIN_LOOPS.write_text(RECORDED.sub(lambda m: m[1] + lines + m[2], MAIN_LOOPS.read_text()))
            faults += check_table(counts)
    if "--record" in sys.argv:
        BUDGET.write_text(json.dumps(dict(sorted(used.items())), indent=2) + "\n")
    for kernel, registers in sorted(used.items()):
        print(f"{kernel}: at most {registers} registers")
    for fault in faults:
        print("FAULT:", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
