"""Runs bridge-verify, named by BV_COMMAND."""

import os
import pathlib
import re
import subprocess

FIXTURES = pathlib.Path(os.environ["BV_FIXTURES"])
GOLDEN = FIXTURES / "golden"
# Families whose classes transformers does not have: Megatron-Bridge brings them, or the model's own folder does.
LACKING = {"bailing_moe_v2", "kimi_k25", "mimo", "mimo_v2_flash", "nemotron_h_omni", "nemotron_h_vl", "nemotron_nas", "qwen3_asr",
           "sarvam_mla", "sarvam_moe", "step3p5", "step3p7"}


def run(*words):
    """Stdout of a run that must end with exit code 0."""
    done = subprocess.run([os.environ["BV_COMMAND"], *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_noting(*words):
    """All that a run says that must end with exit code 0, lines put together."""
    done = subprocess.run([os.environ["BV_COMMAND"], *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return " ".join((done.stdout + done.stderr).split())


def run_failing(code, *words):
    """All that a run says that must end with this exit code."""
    done = subprocess.run([os.environ["BV_COMMAND"], *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def convert(*words):
    """Also exit code 1, where the one thing refuted is a norm that minus one does not keep (BV3005): files are written."""
    done = subprocess.run([os.environ["BV_COMMAND"], "convert", *map(str, words)], capture_output=True, text=True, timeout=300)
    lossy = done.returncode == 1 and set(re.findall(r"BV\d{4}", done.stdout)) == {"BV3005"}
    assert done.returncode == 0 or lossy, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"


def split(text, layers, stages):
    """Options of so many pipeline stages. Megatron-Core refuses one of GLM-5 that starts on a layer without an indexer of its own
    (real_limits_test.py): the first stage is then one layer shorter."""
    shared = stages > 1 and (text.get("indexer_types") or [])[layers // stages:][:1] == ["shared"]
    return ["--pp", stages, *(["--decoder-first-pipeline-num-layers", layers // stages - 1] if shared else [])]


def fixture_names():
    return sorted(path.name.removesuffix(".json").replace(".", "/", 1) for path in (FIXTURES / "configs").glob("*.json"))


def hf_cases():
    return sorted(path.name for path in (GOLDEN / "hf").iterdir() if (path / "config.json").exists())
