"""The real torchrun starts bridge-verify: verdicts and folders are those of one process, and a process that is killed is
named, whenever it happens."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from command import GOLDEN, run

COMMAND = os.environ["BV_COMMAND"]


def torchrun(size, *words):
    """torchrun from this environment; every process is one of bridge-verify."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--standalone", f"--nproc-per-node={size}"]
    return [*launcher, COMMAND, *map(str, words)]


def ended(line, timeout=900):
    return subprocess.run(line, capture_output=True, text=True, timeout=timeout)


def verdicts(folder):
    document = json.loads((folder / "verdicts.json").read_text())
    document.pop("run")
    return document


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("size", [2, 4, 8])
def test_check_gives_the_verdicts_of_one_process(size, tmp_path):
    line = ["check", "--model", GOLDEN / "hf/qwen3_moe", "--level", "data", "--out", tmp_path / "out"]
    run(*line)
    wanted = verdicts(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    done = ended(torchrun(size, *line))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("bridge-verify: PASS") == 1, done.stdout
    assert verdicts(tmp_path / "out") == wanted


@pytest.mark.parametrize("size", [2, 4])
def test_convert_writes_the_folder_of_one_process(size, tmp_path):
    line = ["convert", "--to", "megatron", "--model", GOLDEN / "hf/qwen3_moe", "--tp", 2, "--pp", 2, "--out"]
    run(*line, tmp_path / "alone")
    done = ended(torchrun(size, *line, tmp_path / "world"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(tmp_path / "world") == contents(tmp_path / "alone")


def children(process):
    """Process ids of bridge-verify below a launcher."""
    out = []
    for task in pathlib.Path(f"/proc/{process}/task").glob("*/children"):
        out += [int(number) for number in task.read_text().split()]
    return out


def ways(tmp_path):
    """Everything that a world writes, with the options of one way each."""
    peft = GOLDEN / "peft/llama_all"
    shards = tmp_path / "shards"
    run("convert", "--to", "megatron", "--model", GOLDEN / "hf/qwen3_moe", "--tp", 2, "--pp", 2, "--out", shards)
    return {
        "megatron": ["--to", "megatron", "--model", GOLDEN / "hf/qwen3_moe", "--tp", 2, "--pp", 2],
        "hf": ["--to", "hf", "--model", shards],
        "adapter": ["--to", "megatron", "--model", peft / "base", "--adapter", peft / "adapter", "--tp", 2, "--pp", 2],
    }


@pytest.mark.parametrize("lost_by", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("way", ["megatron", "hf", "adapter"])
@pytest.mark.parametrize("seed", range(2))
def test_a_process_that_is_killed_or_stopped_leaves_no_half_output(seed, way, lost_by, tmp_path):
    chance = random.Random(f"{seed} {way} {lost_by}")
    line = ["convert", *ways(tmp_path)[way], "--patience", 5, "--out"]
    run(*line, tmp_path / "alone")
    launcher = subprocess.Popen(torchrun(4, *line, tmp_path / "world"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 120
    while len(children(launcher.pid)) < 4 and launcher.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.1))
    alive = children(launcher.pid)
    lost = chance.choice(alive) if alive else None
    if lost:
        os.kill(lost, lost_by)
    # A launcher of today asks a process that is stopped to end, which it cannot; it is killed when the others have ended.
    try:
        text, _ = launcher.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.kill(lost, signal.SIGKILL)
        text, _ = launcher.communicate(timeout=120)
    if (tmp_path / "world").exists():
        assert contents(tmp_path / "world") == contents(tmp_path / "alone")
    else:
        assert launcher.returncode != 0, text
