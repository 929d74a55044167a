"""Writes fixtures/golden/torch_dist_keys/NAME.json: the keys, shapes and extra states that sharded_state_dict of the real
Megatron-Core gives to models which the released Megatron-Bridge builds of our fixtures, on one CPU.

Usage: make_torch_dist_keys.py BRIDGE_VERIFY OUT FILE    (Python of `ci/do bridges`, PYTHONPATH=ci/export)

FILE has a model a line: the name of a fixture, and fields of its config that are replaced (`qwen3_5/mtp`, `glm4_moe first_k_dense_replace=0`).
Models with the same keys and shapes are in one file. Everything that needs a GPU or a package with kernels is replaced by nothing: no module
computes, and no key depends on it. A bridge class that finds no config class of transformers gets the fields of config.json."""

import collections
import contextlib
import json
import logging
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import warnings

os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(29000 + os.getpid() % 1000), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0",
                  CUDA_DEVICE_MAX_CONNECTIONS="1", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

from bridge_verify import live, stand_ins  # noqa: E402

stand_ins.install()
import torch  # noqa: E402

# The bridge writes sizes of the published tower in its code: shapes say nothing about the fixture's.
OTHER_SIZES = {"nemotron_h_vl": "vision"}


class Tracker:
    """Of random states of a GPU: there are none, and no value matters."""

    def fork(self, *names, **options):
        return contextlib.nullcontext()

    def is_initialized(self):
        return True

    def add(self, *name_and_seed):
        pass

    def get_states(self):
        return {}


def without_random_states():
    for module in list(sys.modules.values()):
        name = getattr(module, "__name__", "")
        if name.startswith(("megatron", "transformer_engine")) and hasattr(module, "get_cuda_rng_tracker"):
            module.get_cuda_rng_tracker = lambda *args, **options: Tracker()


def with_kernels():
    """Megatron asks whether the packages of kernels are there before it builds a layer of them."""
    import megatron.core.ssm.gated_delta_net.common
    import megatron.core.ssm.gated_delta_net.gdn
    import megatron.core.ssm.mamba_mixer
    for name in ("gated_delta_net.common", "gated_delta_net.gdn", "mamba_mixer"):
        module = sys.modules["megatron.core.ssm." + name]
        for flag in [one for one in dir(module) if one.startswith("HAVE_")]:
            setattr(module, flag, True)


def headers_of(folder):
    shapes = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        shapes.update({name: row["shape"] for name, row in header.items() if name != "__metadata__"})
    return shapes


def provider_of(library, folder):
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == "hy_v3":  # the bridge reads a field that transformers does not write
        config["first_k_dense_replace"] = config["mlp_layer_types"].count("dense")
    if config["model_type"] == "glm_moe_dsa":
        config["indexer_rope_interleave"] = True
    bridge = live.Bridge(library, library.for_architectures(config["architectures"]), config, headers_of(folder))
    if bridge.provider is None:
        raise ValueError(bridge.trouble[-1])
    settings = {"params_dtype": torch.bfloat16, "pipeline_dtype": torch.bfloat16, "bf16": True, "fp16": False, "perform_initialization": False,
                "gradient_accumulation_fusion": False, "should_pad_vocab": False, "make_vocab_size_divisible_by": 4,
                "tensor_model_parallel_size": 1, "pipeline_model_parallel_size": 1, "expert_model_parallel_size": 1,
                "expert_tensor_parallel_size": 1, "context_parallel_size": 1, "sequence_parallel": False,
                "moe_token_dispatcher_type": "alltoall", "moe_flex_dispatcher_backend": None, "moe_enable_deepep": False}
    for name, value in settings.items():
        setattr(bridge.provider, name, value)
    bridge.provider.finalize()
    bridge.provider.moe_token_dispatcher_type = "alltoall"
    return bridge.provider


def state_of(library, folder):
    from megatron.core import parallel_state
    for name in ("NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN", "NVTE_UNFUSED_ATTN"):
        os.environ.pop(name, None)
    provider = provider_of(library, folder)
    parallel_state.initialize_model_parallel()
    try:
        without_random_states()
        model, = provider.provide_distributed_model(wrap_with_ddp=False, use_cpu_initialization=True, mixed_precision_wrapper=None)
        return model.sharded_state_dict(metadata={"dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True)})
    finally:
        parallel_state.destroy_model_parallel()


def listed(state):
    from megatron.core.dist_checkpointing.mapping import ShardedObject, ShardedTensor, ShardedTensorFactory
    keys, states = {}, {}

    def walk(one):
        if isinstance(one, ShardedTensorFactory):
            walk(one.build())
        elif isinstance(one, ShardedTensor):
            assert keys.setdefault(one.key, list(one.global_shape)) == list(one.global_shape)
        elif isinstance(one, ShardedObject):
            module, found = one.key.removesuffix("._extra_state"), [] if one.global_shape == (1,) else list(one.global_shape)
            assert states.setdefault(module, found) == found
        elif isinstance(one, (dict, list, tuple)):
            for inner in one.values() if isinstance(one, dict) else one:
                walk(inner)

    walk(state)
    return keys, states


def ranges(numbers):
    """[0, 1, 2, 5] as "{0-2,5}"."""
    runs = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "}"


def folded(rows):
    """Keys that differ in one number, with one value, in one row."""
    groups = collections.defaultdict(list)
    for key, value in rows.items():
        number = re.search(r"(?<=\.)\d+(?=\.)", key)
        before, after = (key[:number.start()], key[number.end():]) if number else (key, None)
        groups[before, after, json.dumps(value, separators=(",", ":"))].append(int(number.group()) if number else None)
    return ["  {}: {}".format(json.dumps(before if after is None else before + ranges(numbers) + after), value)
            for (before, after, value), numbers in groups.items()]


def made(library, command, label):
    name, *settings = label.split(" ")
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "m"
        subprocess.run([command, "fixture", "make", name, "--out", str(out), "-qq", *(word for one in settings for word in ("--set", one))],
                       check=True, stdout=subprocess.DEVNULL)
        keys, states = listed(state_of(library, out))
    other = OTHER_SIZES.get(name)
    return {key: None if other and other in key else shape for key, shape in keys.items()}, states


def main(command, out, labels):
    stand_ins.without_gpu()
    with_kernels()
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    library, files = live.Library(), {}
    for label in labels:
        try:
            parts = [folded(rows) for rows in made(library, command, label)]
        except Exception as error:
            print(f"{label}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr, flush=True)
            continue
        files.setdefault(json.dumps([sorted(part) for part in parts]), (parts, []))[1].append(label)
    for parts, names in files.values():
        name, *settings = names[0].split(" ")
        stem = "+".join([name.replace("/", "."), *(one.split("=")[0].split(".")[-1] for one in settings)])
        keys, states = (",\n".join(part) for part in parts)
        (out / f"{stem}.json").write_text(f'{{\n "models": {json.dumps(names)},\n "keys": {{\n{keys}\n }},\n "extra_states": {{\n{states}\n }}\n}}\n')


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).read_text().splitlines())
