"""The Megatron model that a provider builds, on one CPU process: its parameters, and the rule that takes each."""

import os
import socket

from . import places, stand_ins

_started = []


def _world():
    import torch.distributed as dist
    from megatron.core import parallel_state

    if not dist.is_initialized():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0",
                          CUDA_DEVICE_MAX_CONNECTIONS="1")
        dist.init_process_group("gloo", rank=0, world_size=1)
        _started.append(dist)
    if not parallel_state.is_initialized():
        parallel_state.initialize_model_parallel()


def close():
    for dist in _started:
        dist.destroy_process_group()
    _started.clear()


def build(provider, meta):
    import torch

    stand_ins.without_gpu()
    _world()
    for name in ("NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN", "NVTE_UNFUSED_ATTN"):
        os.environ.pop(name, None)
    settings = {"params_dtype": torch.bfloat16, "pipeline_dtype": torch.bfloat16, "bf16": True, "fp16": False,
                "perform_initialization": False, "gradient_accumulation_fusion": False, "tensor_model_parallel_size": 1,
                "pipeline_model_parallel_size": 1, "expert_model_parallel_size": 1, "expert_tensor_parallel_size": 1,
                "context_parallel_size": 1, "sequence_parallel": False}
    for name, value in settings.items():
        setattr(provider, name, value)
    provider.finalize()
    return provider.provide_distributed_model(wrap_with_ddp=False, use_cpu_initialization=not meta, mixed_precision_wrapper=None,
                                              init_model_with_meta_device=meta)


def _marked(module, tensor):
    """How Megatron says that it cuts a parameter; None where it says nothing."""
    if getattr(tensor, "tensor_model_parallel", False):
        return {0: "column", 1: "row"}.get(getattr(tensor, "partition_dim", None))
    if hasattr(module, "global_dim"):  # cut by its rank in its own code: MegatronParamMapping._get_shard_spec reads this
        return "column"
    return None


def _found(library, name, module):
    """How AutoMapping would cut it; None where it cannot say."""
    try:
        return library.mapping.AutoMapping(name, name)._detect_parallelism_type(module)
    except Exception:
        return None


def _parallelism(library, name, module, tensor):
    """How the module cuts it: what Megatron marks on the parameter, else what the library finds out, else, for a module of
    another library, that every rank holds all of it. None where nothing says it."""
    said = _marked(module, tensor) or _found(library, name, module)
    if said is None:
        home = type(module).__module__.split(".")
        outside = home[0] not in ("megatron", "transformer_engine") or "conversion" not in home and home[:2] == ["megatron", "bridge"]
        return "replicated" if outside else None
    return said


def _cut_otherwise(bridge, rule, name, module, tensor):
    """A row of hooks.base where AutoMapping cuts a parameter that it fills otherwise than Megatron does."""
    library = bridge.library
    marked, found = _marked(module, tensor), _found(library, name, module)
    if None in (marked, found) or marked == found or not isinstance(rule, library.mapping.AutoMapping):
        return None
    return {"name": f"AutoMapping of {type(module).__name__}", "file": places.short(library.mapping.__file__),
            "line": places.defined_at(library.mapping.AutoMapping, "_detect_parallelism_type"),
            "what": f"cuts {name} as {found}, and Megatron as {marked}"}


def parameters(bridge, meta=False):
    """(rows, model, rows of hooks.base). A row is [name, shape, module class, parallelism, id of the rule or None]; all that the
    library fills."""
    from megatron.bridge.models.conversion.utils import get_module_and_param_from_name, persistent_buffers
    from megatron.core.utils import unwrap_model

    stand_ins.constructed.clear()
    model = build(bridge.provider, meta)
    instance, library = bridge.instance, bridge.library
    ids = {id(mapping): f"r{place}" for place, mapping in enumerate(bridge.registry.mappings)}
    tied = instance._share_embeddings_and_output_weights(unwrap_model(model)[0].config)
    rows, otherwise = [], {}
    for chunk in model:
        for name, tensor in [*chunk.named_parameters(), *persistent_buffers(chunk)]:
            name = instance._unwrap_name(name)
            if "_extra_state" in name or (tied and "output_layer" in name):
                continue
            rule = _rule_for(bridge.registry, name)
            module, _ = get_module_and_param_from_name(model, name, 0)
            rows.append([name, list(tensor.shape), type(module).__name__, _parallelism(library, name, module, tensor),
                         None if rule is None else ids[id(rule)]])
            if odd := _cut_otherwise(bridge, rule, name, module, tensor):
                otherwise.setdefault(odd["name"], odd)
    return rows, model, [*otherwise.values()]


def _rule_for(registry, name):
    for pattern, mapping in registry._compiled_patterns:
        if pattern is None:
            if mapping.megatron_param == name:
                return mapping
        elif pattern.match(name):
            return mapping
    return None
