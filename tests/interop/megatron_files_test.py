"""Shard files that bridge-verify writes, opened with the real safetensors package: every run of the real
Megatron-Bridge in fixtures/golden/megatron, made again on the same layout."""

import json

import pytest
import torch
import xxhash
from safetensors import safe_open

from command import GOLDEN, convert

SETTINGS = {
    "num_layers_in_first_pipeline_stage": "--decoder-first-pipeline-num-layers",
    "num_layers_in_last_pipeline_stage": "--decoder-last-pipeline-num-layers",
    "make_vocab_size_divisible_by": "--make-vocab-size-divisible-by",
}
RUNS = sorted((GOLDEN / "megatron").glob("*/*.json"))


def flags_of(golden):
    flags = [f"--{name}={size}" for name, size in golden["layout"].items()]
    flags += [f"{SETTINGS[name]}={value}" for name, value in golden["settings"].items() if name in SETTINGS]
    return flags + ["--dtype", {"F32": "float32", "BF16": "bfloat16"}[golden["params_dtype"]]]


def make(golden, out):
    convert("--to", "megatron", "--model", GOLDEN / "hf" / golden["case"], "--out", out, *flags_of(golden))


def file_name(shard):
    name = "_".join(f"{axis}{shard[axis]}" for axis in ("pp", "tp", "ep", "etp"))
    return f"{name}_vp{shard['vp']}.safetensors" if "vp" in shard else f"{name}.safetensors"


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shards_are_those_of_the_real_bridge(path, tmp_path):
    golden = json.loads(path.read_text())
    make(golden, tmp_path / "out")
    written = {file.name for file in (tmp_path / "out").glob("*.safetensors")}
    assert written == {file_name(shard) for shard in golden["shards"]}
    for shard in golden["shards"]:
        with safe_open(tmp_path / "out" / file_name(shard), framework="pt") as ours:
            assert ours.metadata()["format"] == "pt"
            assert set(ours.keys()) == set(shard["tensors"])
            for name, (dtype, shape, digest) in shard["tensors"].items():
                part = ours.get_slice(name)
                assert (part.get_dtype(), part.get_shape()) == (dtype, shape), name
                raw = ours.get_tensor(name).contiguous().view(-1).view(dtype=torch.uint8).numpy().tobytes()
                assert xxhash.xxh3_128_hexdigest(raw) == digest, name
