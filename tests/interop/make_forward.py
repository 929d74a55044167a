"""Writes forward.safetensors beside checkpoints of fixtures/golden/hf: what the real classes of transformers compute in float64.

Usage: make_forward.py FOLDER [NAME ...]

The library keeps islands of float32 (norms, rotary tables, softmax); they are lifted, so that every number is a float64."""

import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

IDS = [[3, 117, 42, 5, 88, 130, 9, 30, 76]]


def lifted(dtype):
    return torch.float64 if dtype == torch.float32 else dtype


def lift_islands():
    """Whatever asks for float32 gets float64, until the function that this returns is called."""
    before = [(place, name, getattr(place, name)) for place, names in
              [(torch.Tensor, ("to", "type", "float", "softmax")), (torch.nn.functional, ("softmax",)), (torch, ("arange",))]
              for name in names]
    default = torch.get_default_dtype()
    to, as_type, softmax = torch.Tensor.to, torch.Tensor.type, torch.nn.functional.softmax

    def to_lifted(self, *args, **kwargs):
        args = [lifted(one) if isinstance(one, torch.dtype) else one for one in args]
        kwargs = {key: lifted(one) if key == "dtype" else one for key, one in kwargs.items()}
        return to(self, *args, **kwargs)

    def type_lifted(self, *args, **kwargs):
        return as_type(self, *[lifted(one) if isinstance(one, torch.dtype) else one for one in args], **kwargs)

    torch.Tensor.to = to_lifted
    torch.Tensor.type = type_lifted
    torch.Tensor.float = lambda self, *rest: to(self, torch.float64)
    own_softmax = torch.Tensor.softmax
    torch.Tensor.softmax = lambda self, dim, dtype=None: own_softmax(self, dim, dtype=lifted(dtype))
    torch.nn.functional.softmax = lambda x, dim=None, _stacklevel=3, dtype=None: softmax(x, dim=dim, dtype=lifted(dtype))
    arange = torch.arange
    torch.arange = lambda *args, **kwargs: arange(*args, **{key: lifted(one) if key == "dtype" else one for key, one in kwargs.items()})
    torch.set_default_dtype(torch.float64)

    def undo():
        for place, name, own in before:
            setattr(place, name, own)
        torch.set_default_dtype(default)
    return undo


def outputs_of(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    cls = getattr(transformers, config.architectures[0])
    model = cls.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager").eval()
    body = model.base_model
    for module in body.modules():  # tables that a constructor computed in float32
        if hasattr(module, "inv_freq"):
            inv_freq, _ = module.compute_default_rope_parameters(module.config, device="cpu")
            module.inv_freq = module.original_inv_freq = inv_freq.double()
    out = {"input_ids": torch.tensor(IDS)}
    for i, layer in enumerate(body.layers):
        layer.register_forward_hook(lambda _, __, found, i=i: out.__setitem__(
            f"layer_output.{i}", (found[0] if isinstance(found, tuple) else found).clone()))
    body.norm.register_forward_hook(lambda _, __, found: out.__setitem__("final_norm_output", found.clone()))
    with torch.no_grad():
        out["logits"] = model(out["input_ids"], use_cache=False).logits
    assert all(one.dtype in (torch.float64, torch.int64) for one in out.values()), {k: v.dtype for k, v in out.items()}
    return {name: tensor.contiguous() for name, tensor in out.items()}


def main(folder, names):
    lift_islands()
    for name in names or sorted(path.name for path in pathlib.Path(folder).iterdir() if path.is_dir()):
        save_file(outputs_of(pathlib.Path(folder, name)), pathlib.Path(folder, name, "forward.safetensors"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
