"""Writes fixtures/golden/torch_dist_keys/NAME.json: the keys, shapes and extra states that sharded_state_dict of the real
Megatron-Core gives to a model which the released Megatron-Bridge builds of an HF folder, on one CPU.

Usage: make_torch_dist_keys.py OUT HF_FOLDER ...    (Python of `ci/do bridges`; NAME is that of the folder)

Everything that needs a GPU or a package with kernels is replaced by nothing: no module computes, and no key depends on it."""

import contextlib
import json
import logging
import os
import pathlib
import sys
import warnings

os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(29000 + os.getpid() % 1000), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0",
                  CUDA_DEVICE_MAX_CONNECTIONS="1", OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import torch  # noqa: E402


class Nothing:
    def __init__(self, *args, **options):
        pass

    def __getattr__(self, name):
        return lambda *args, **options: None


class Tracker:
    def fork(self, *names):
        return contextlib.nullcontext()


class Norm(torch.nn.Module):
    """RMSNormGated of mamba_ssm: one weight."""

    def __init__(self, size, dtype=None, **options):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size, dtype=dtype))


def on_cpu(make):
    def made(*args, device=None, **options):
        own = {} if device is None or torch.device(device).type == "cuda" else {"device": device}
        return make(*args, **options, **own)
    return made


def stand_in():
    torch.cuda.current_device = lambda: torch.device("cpu")
    torch.cuda.set_device = lambda *args, **options: None
    torch.cuda.synchronize = lambda *args, **options: None
    torch.cuda.Stream, torch.cuda.Event = type("Stream", (Nothing,), {}), type("Event", (Nothing,), {})
    torch.cuda.current_stream = lambda *args, **options: Nothing()
    torch.Tensor.cuda = lambda self, *args, **options: self
    torch.nn.Module.cuda = lambda self, *args, **options: self
    for name in ("arange", "empty", "zeros", "ones", "full", "tensor", "randn", "rand"):
        setattr(torch, name, on_cpu(getattr(torch, name)))
    import transformer_engine.pytorch.module.base as base
    cuda = type("Cuda", (), {"__getattr__": lambda self, name: getattr(torch.cuda, name), "is_available": lambda self: True})()
    base.torch = type("Torch", (), {"cuda": cuda, "__getattr__": lambda self, name: getattr(torch, name)})()
    import megatron.bridge.models.falcon_h1.modeling_falconh1.falconh1_block as falcon
    import megatron.core.ssm.gated_delta_net.common as delta
    import megatron.core.ssm.gated_delta_net.gdn as gdn
    import megatron.core.ssm.mamba_mixer as mamba
    for module in (mamba, delta, gdn, falcon):
        for name in dir(module):
            if name.startswith("HAVE_"):
                setattr(module, name, True)
        if hasattr(module, "get_cuda_rng_tracker"):
            module.get_cuda_rng_tracker = lambda *args, **options: Tracker()
    mamba.RMSNormGated = mamba.ExtendedRMSNorm = Norm


def state_of(folder):
    from megatron.bridge import AutoBridge
    from megatron.core import parallel_state
    for name in ("NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN", "NVTE_UNFUSED_ATTN"):
        os.environ.pop(name, None)
    provider = AutoBridge.from_hf_pretrained(str(folder)).to_megatron_provider(load_weights=False)
    settings = {"params_dtype": torch.bfloat16, "pipeline_dtype": torch.bfloat16, "bf16": True, "perform_initialization": False,
                "gradient_accumulation_fusion": False, "should_pad_vocab": False, "make_vocab_size_divisible_by": 1}
    for name, value in settings.items():
        setattr(provider, name, value)
    provider.finalize()
    parallel_state.initialize_model_parallel()
    try:
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
            keys[one.key] = list(one.global_shape)
        elif isinstance(one, ShardedObject):
            module, found = one.key.removesuffix("._extra_state"), [] if one.global_shape == (1,) else list(one.global_shape)
            assert states.setdefault(module, found) == found
        elif isinstance(one, (dict, list, tuple)):
            for inner in one.values() if isinstance(one, dict) else one:
                walk(inner)

    walk(state)
    return keys, dict(sorted(states.items()))


def main(out, folders):
    stand_in()
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    for folder in folders:
        keys, states = listed(state_of(folder))
        rows = [",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in part.items()) for part in (keys, states)]
        (out / f"{folder.name}.json").write_text(f'{{\n "keys": {{\n{rows[0]}\n }},\n "extra_states": {{\n{rows[1]}\n }}\n}}\n')


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), [pathlib.Path(one) for one in sys.argv[2:]])
