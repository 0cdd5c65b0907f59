"""The definitions of the sequence transforms against SciPy's DCT and Hadamard matrix and PyWavelets' Haar transform.
The fast transforms of every instruction set are tested against these definitions (quant_test.cpp)."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pywt
import scipy.fft
import scipy.linalg

BLOCK = 64
IDENTITY, HAAR, DCT, WALSH_HADAMARD = range(4)  # SeqTransform


def ours(requests):
    """-> [len(requests), coefficient, token]"""
    program = Path(os.environ["STAMP_BUILD_DIR"]) / "tests" / "seq_matrix_cli"
    text = "".join(f"{kind} {levels}\n" for kind, levels in requests)
    out = subprocess.run([program], input=text, capture_output=True, text=True, check=True).stdout
    return np.array(out.split(), float).reshape(len(requests), BLOCK, BLOCK)


def haar(levels):
    """The pyramid of the unit vectors: the coarse band, then the details from coarse to fine."""
    bands = pywt.wavedec(np.eye(BLOCK), "haar", mode="periodization", level=levels, axis=0)
    return np.concatenate(bands)


def walsh():
    rows = scipy.linalg.hadamard(BLOCK) / np.sqrt(BLOCK)
    changes = (np.diff(np.sign(rows), axis=1) != 0).sum(axis=1)
    assert sorted(changes) == list(range(BLOCK))
    return rows[np.argsort(changes)]


def main():
    expected = [((IDENTITY, 0), np.eye(BLOCK)), ((DCT, 0), scipy.fft.dct(np.eye(BLOCK), norm="ortho", axis=0)),
                ((WALSH_HADAMARD, 0), walsh())]
    expected += [((HAAR, levels), haar(levels)) for levels in range(1, 7)]
    failures = 0
    for (request, truth), matrix in zip(expected, ours([request for request, _ in expected])):
        error = np.abs(matrix - truth).max()
        print(f"transform {request[0]}, levels {request[1]}: largest difference {error:.2e}")
        failures += error > 1e-14
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
