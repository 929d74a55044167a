"""Python with the released Megatron-Bridge: BV_BRIDGE_PYTHON names its interpreter (`ci/do bridges` makes one).

Its tests are a job of their own, since that environment takes 3 GB; without it they say so and are skipped."""

import os
import pathlib
import subprocess

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "ci" / "export"
PYTHON = os.environ.get("BV_BRIDGE_PYTHON")
needs_bridge = pytest.mark.skipif(PYTHON is None, reason="BV_BRIDGE_PYTHON is not set; `ci/do bridges` runs these tests")


def export(*words, code=0):
    done = subprocess.run([PYTHON, "-m", "bridge_verify.export", *map(str, words)], capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"})
    assert done.returncode == code, done.stderr[-3000:]
    return done
