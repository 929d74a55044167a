"""Writes fixtures/golden/hf/NAME: tiny checkpoints of architectures.TINY, made by the real classes of transformers.

Usage: make_checkpoints.py FOLDER [NAME ...]     (same input, same bytes)
Those of architectures.BROUGHT need BV_BRIDGE, the folder that holds the package `megatron` of Megatron-Bridge.
Every parameter and stored buffer is overwritten with numbers drawn for its name: matrices N(0, 0.05), norms their usual
value (0 or 1) + N(0, 0.3), biases N(0, 0.3), Mamba's A_log, D and dt_bias N(0, 1). BF16; score biases of routers F32.
"""

import contextlib
import importlib
import io
import os
import pathlib
import sys
import types
import zlib

import torch
import transformers

from architectures import BROUGHT, TINY

STORED_FLOAT32 = ("e_score_correction_bias", "gate.expert_bias")
WIDE = ("A_log", ".D", "dt_bias")


def drawn(name, like):
    """Values of one tensor, by its name alone."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    if name.endswith(WIDE):
        return values
    if like.ndim == 1 and name.endswith("weight"):
        return values * 0.3 + float(like.double().mean().round())
    return values * (0.3 if like.ndim == 1 else 0.05)


def brought(module):
    """A module of Megatron-Bridge without the packages around it, which need TransformerEngine."""
    parts = module.split(".")
    for count in range(1, len(parts)):
        package = types.ModuleType(".".join(parts[:count]))
        package.__path__ = [str(pathlib.Path(os.environ["BV_BRIDGE"], *parts[:count]))]
        sys.modules[package.__name__] = package
    return importlib.import_module(module)


def class_of(name):
    if name in BROUGHT:
        module, class_name, fields = BROUGHT[name]
        return getattr(brought(module), class_name), fields
    class_name, fields = TINY[name]
    return getattr(transformers, class_name), fields


def model_of(name):
    cls, fields = class_of(name)
    fields = {key: value for key, value in fields.items() if value is not None or key == "q_lora_rank"}
    fields.setdefault("pad_token_id", None)
    with contextlib.redirect_stderr(io.StringIO()):
        model = cls(cls.config_class(**fields)).to(torch.bfloat16)
    model.config.dtype = torch.bfloat16
    stored = set(model.state_dict())
    for tensor_name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor_name not in stored:
            continue
        if tensor_name.endswith(STORED_FLOAT32):
            tensor.data = tensor.data.to(torch.float32)
        with torch.no_grad():
            tensor.copy_(drawn(tensor_name, tensor))
    return model


def main(folder, names):
    for name in names or TINY:
        with contextlib.redirect_stderr(io.StringIO()):
            model_of(name).save_pretrained(folder / name, max_shard_size="70KB")
        print(name, sum(file.stat().st_size for file in (folder / name).iterdir()))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: make_checkpoints.py FOLDER [NAME ...]")
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
