#!/usr/bin/env python3
"""The released Megatron-Bridge on CPU and bridge-verify on one checkpoint, in one run.

    tests/bench/beside_bridge.py --bridge-python ENVIRONMENT/bin/python [--gigabytes 1.5] [--rounds 3]

ENVIRONMENT is that of `ci/do bridges` with the compiled transformer-engine-torch. Every step is a
process of its own: wall time and peak memory are those of the process, its start included. The steps
of the two sides alternate, and the median of the rounds counts. What each step does:

    start      import of megatron.bridge; bridge-verify version
    import     HF files to Megatron parameters: in memory; to files that are synced and read back
    export     the same, and from them to HF files (export_hf_weights into one file: the whole
               save_hf_pretrained asks for a tokenizer and for packages that no conversion needs)
    roundtrip  import, export in memory, and every tensor compared bit for bit

The last line is one JSON object.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

STEPS = ("start", "import", "export", "roundtrip")


def inside(step, model, out):
    """One step of Megatron-Bridge, in its own environment."""
    import torch

    if step == "start":
        import megatron.bridge  # noqa: F401

        return
    stand_in_for_cuda(torch)
    torch.distributed.init_process_group("gloo", init_method=f"file://{out}.store", rank=0, world_size=1)
    from megatron.bridge import AutoBridge
    from megatron.core import parallel_state

    bridge = AutoBridge.from_hf_pretrained(model)
    provider = bridge.to_megatron_provider(load_weights=False)
    provider.params_dtype = provider.pipeline_dtype = torch.bfloat16
    provider.bf16, provider.fp16 = True, False
    provider.perform_initialization = provider.gradient_accumulation_fusion = False
    provider.finalize()
    parallel_state.initialize_model_parallel()
    models = provider.provide_distributed_model(
        wrap_with_ddp=False, use_cpu_initialization=True, mixed_precision_wrapper=None
    )
    bridge.load_hf_weights(models)
    if step == "export":
        from safetensors.torch import save_file

        weights = bridge.export_hf_weights(models, cpu=True, show_progress=False)
        os.makedirs(out)
        save_file({name: weight.contiguous() for name, weight in weights}, f"{out}/model.safetensors")
    elif step == "roundtrip":
        compare(torch, bridge, models, pathlib.Path(model))


def compare(torch, bridge, models, folder):
    from safetensors import safe_open

    files = [safe_open(str(path), "pt") for path in sorted(folder.glob("*.safetensors"))]
    wanted = {name: file for file in files for name in file.keys()}
    for name, found in bridge.export_hf_weights(models, cpu=True, show_progress=False):
        tensor = wanted.pop(name).get_tensor(name)
        if tensor.dtype != found.dtype or not torch.equal(tensor.view(torch.uint8), found.view(torch.uint8)):
            sys.exit(f"{name} came back otherwise")
    if wanted:
        sys.exit(f"{len(wanted)} tensors did not come back")


def stand_in_for_cuda(torch):
    """What Megatron asks of a GPU before it converts anything."""

    class Ignored:
        def __init__(self, *_, **__):
            pass

        def __getattr__(self, name):
            return lambda *_, **__: None

    def on_cpu(make):
        def made(*args, device=None, **named):
            if device is not None and torch.device(device).type == "cuda":
                device = "cpu"
            return make(*args, **named) if device is None else make(*args, device=device, **named)

        return made

    class Cuda:
        def __getattr__(self, name):
            return (lambda: True) if name == "is_available" else getattr(torch.cuda, name)

    class Torch:
        cuda = Cuda()

        def __getattr__(self, name):
            return getattr(torch, name)

    torch.cuda.current_device = lambda: torch.device("cpu")
    torch.cuda.set_device = lambda *_, **__: None  # an object of its own each: torch keeps a table of them
    torch.cuda.synchronize = lambda *_, **__: None
    torch.cuda.current_stream = lambda *_, **__: Ignored()
    torch.cuda.Stream, torch.cuda.Event = type("Stream", (Ignored,), {}), type("Event", (Ignored,), {})
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.nn.Module.cuda = lambda self, *_, **__: self
    for name in ("arange", "empty", "zeros", "ones", "full", "tensor", "randn", "rand"):
        setattr(torch, name, on_cpu(getattr(torch, name)))
    import transformer_engine.pytorch.module.base as base

    base.torch = Torch()


def measured(line, environment=None):
    """Seconds and peak bytes of a process."""
    begun = time.monotonic()
    child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, line))} ended with {child.returncode}:\n{said.decode(errors='replace')[-3000:]}")
    return time.monotonic() - begun, usage.ru_maxrss * 1024


def steps_of_ours(command, model, work):
    shards, back = work / "shards", work / "ours"
    convert = [command, "convert", "--model"]
    return {
        "start": [[command, "version"]],
        "import": [convert + [model, "--to", "megatron", "--out", shards, "--overwrite"]],
        "export": [convert + [model, "--to", "megatron", "--out", shards, "--overwrite"],
                   convert + [shards, "--to", "hf", "--out", back, "--overwrite"]],
        "roundtrip": [[command, "roundtrip", "--model", model, "--tp", "1"]],
    }


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--bridge-python")
    options.add_argument("--command", default="build/release/bin/bridge-verify")
    options.add_argument("--gigabytes", type=float, default=1.5)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--inside", nargs=3, metavar=("STEP", "MODEL", "OUT"), help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.inside:
        return inside(*asked.inside)
    if not asked.bridge_python:
        options.error("--bridge-python is needed: the interpreter of the environment of ci/do bridges")

    work = pathlib.Path(tempfile.mkdtemp(prefix="beside-bridge-"))
    try:
        report(asked, work)
    finally:
        shutil.rmtree(work)


def report(asked, work):
    model = work / "hf"
    layers = max(1, round(asked.gigabytes * 1e9 / 2 / 50.4e6) - 1)  # a layer of these sizes has 50.4 M weights
    measured([asked.command, "fixture", "make", "llama", "--out", model, "--set", "hidden_size=2048",
              "--set", "intermediate_size=5504", "--set", "num_attention_heads=16", "--set", "num_key_value_heads=16",
              "--set", "head_dim=128", "--set", "vocab_size=16384", "--set", f"num_hidden_layers={layers}"])
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    ours = steps_of_ours(asked.command, model, work)
    times = {step: {"bridge": [], "ours": []} for step in STEPS}
    peaks = {step: {"bridge": 0, "ours": 0} for step in STEPS}
    plain = {name: text for name, text in os.environ.items() if not name.startswith("LD_")}  # what the bridge preloads
    environment = dict(os.environ, OMP_NUM_THREADS="2", HF_HUB_OFFLINE="1", CUDA_DEVICE_MAX_CONNECTIONS="1")
    for number in range(asked.rounds):
        for step in STEPS:
            out = work / f"bridge-{step}-{number}"
            line = [asked.bridge_python, __file__, "--inside", step, model, out]
            runs = {"bridge": [measured(line, environment)], "ours": [measured(line, plain) for line in ours[step]]}
            shutil.rmtree(out, ignore_errors=True)
            for side, ended in runs.items():
                times[step][side].append(sum(seconds for seconds, _ in ended))
                peaks[step][side] = max([peaks[step][side]] + [peak for _, peak in ended])
    print(f"{size / 1e9:.2f} GB, {layers} layers, median of {asked.rounds} rounds\n")
    print(f"{'step':<10} {'Megatron-Bridge':>24} {'bridge-verify':>24} {'times faster':>13} {'memory':>7}")
    found = {"bytes": size, "rounds": asked.rounds}
    for step in STEPS:
        seconds = {side: statistics.median(times[step][side]) for side in ("bridge", "ours")}
        cells = [f"{seconds[side]:8.2f} s {peaks[step][side] / 1e6:8,.0f} MB" for side in ("bridge", "ours")]
        faster, less = seconds["bridge"] / seconds["ours"], peaks[step]["bridge"] / peaks[step]["ours"]
        print(f"{step:<10} {cells[0]:>24} {cells[1]:>24} {faster:>12.1f}x {less:>6.1f}x")
        found[step] = {"seconds": seconds, "peak_bytes": peaks[step], "times_faster": faster, "times_less_memory": less}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
