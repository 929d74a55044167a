"""Stand-ins that let Megatron-Bridge be imported, and its models be built, on a machine without a GPU.

Nothing here touches a mapping: the registries, the names and the shapes are those of the installed packages. Every
package that was replaced is named in the exported file (`producer.stand_ins`).
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
import warnings

# Compiled packages whose functions a model needs only in forward.
COMPILED = ("transformer_engine_torch", "fla", "mamba_ssm", "causal_conv1d", "fast_hadamard_transform", "deep_ep")
# Packages that bridges import and no registry uses: the loading of training data.
LOADERS = ("megatron.energon",)
# What TransformerEngine asks of its compiled half while modules are built.
NUMBERS = {"get_cudnn_version": 91000, "get_cublasLt_version": 130100, "get_num_cublas_streams": 4}


class _Enumeration(type):
    """A class whose members are made when they are asked for: each a number of its own."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        value = len([key for key in vars(cls) if not key.startswith("_")])
        setattr(cls, name, value)
        return value


# Classes of stand-ins that were constructed: a module among them could have had parameters.
constructed = set()


def _constructed(self, *args, **kwargs):
    constructed.add(f"{type(self).__module__}.{type(self).__name__}")


class StandIn(types.ModuleType):
    """A module that has every name; what it holds can be constructed and never computes."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Enumeration(name, (), {"__init__": _constructed, "__module__": self.__name__})
        setattr(self, name, made)
        return made


def _gated_norm():
    """mamba_ssm's gated RMS norm: the one replaced function that has a parameter."""
    import torch

    class RMSNorm(torch.nn.Module):
        def __init__(self, hidden_size, eps=1e-5, group_size=None, norm_before_gate=True, device=None, dtype=None):
            super().__init__()
            self.eps, self.group_size, self.norm_before_gate = eps, group_size, norm_before_gate
            self.weight = torch.nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
            self.register_parameter("bias", None)

        def forward(self, x, z=None):
            """As mamba_ssm's reference: of the whole width, or of groups of it; a gate before or behind the norm."""
            silu = torch.nn.functional.silu
            x = x * silu(z) if z is not None and not self.norm_before_gate else x
            groups = x.unflatten(-1, (-1, self.group_size or x.shape[-1]))
            out = (groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + self.eps)).flatten(-2) * self.weight
            return out * silu(z) if z is not None and self.norm_before_gate else out

    return RMSNorm


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, packages):
        self.packages = packages

    def find_spec(self, fullname, path=None, target=None):
        if not any(fullname == package or fullname.startswith(package + ".") for package in self.packages):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        module.__version__ = "0"
        if module.__name__ == "transformer_engine_torch":
            vars(module).update({name: (lambda number=number: number) for name, number in NUMBERS.items()})
        if module.__name__ == "mamba_ssm.ops.triton.layernorm_gated":
            module.RMSNorm = _gated_norm()


def missing(packages=COMPILED + LOADERS):
    return [name for name in packages if _is_missing(name)]


def _is_missing(name):
    try:
        found = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package around it
        return True
    return not found or name == "transformer_engine_torch" and not _loads("transformer_engine")


def _loads(package):
    """A compiled package may be there and not be loadable: built for other CUDA libraries."""
    try:
        importlib.import_module(package)
        return True
    except Exception:
        for name in [name for name in sys.modules if name.split(".")[0].startswith(package)]:
            del sys.modules[name]
        return False


def install(packages=COMPILED + LOADERS):
    """Puts stand-ins where packages are missing; returns their names. Call before the first import of megatron."""
    replaced = missing(packages)
    if not replaced:
        return []
    warnings.filterwarnings("ignore", message=".*Transformer Engine.*")
    sys.meta_path.insert(0, _Finder(replaced))
    if "transformer_engine_torch" in replaced and importlib.util.find_spec("transformer_engine") is not None:
        os.environ["NVTE_PROJECT_BUILDING"] = "1"  # TransformerEngine then loads no CUDA library
        import transformer_engine.common as common

        common.load_framework_extension = lambda framework: __import__(f"transformer_engine_{framework}")
    return replaced


class _Nothing:
    def __init__(self, *args, **kwargs):
        pass

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def _on_cpu(make, torch):
    def made(*args, device=None, **kwargs):
        if device is not None and torch.device(device).type == "cuda":
            device = None
        return make(*args, **kwargs) if device is None else make(*args, device=device, **kwargs)

    return made


def without_gpu():
    """Tensors that are asked for on a CUDA device are made on the CPU; streams and events do nothing."""
    import torch

    if torch.cuda.is_available():
        return
    torch.cuda.current_device = lambda: torch.device("cpu")
    torch.cuda.set_device = lambda *args, **kwargs: None  # functions of their own: torch._dynamo tells them apart
    torch.cuda.synchronize = lambda *args, **kwargs: None
    torch.cuda.Stream = type("Stream", (_Nothing,), {})
    torch.cuda.Event = type("Event", (_Nothing,), {})
    torch.cuda.current_stream = lambda *args, **kwargs: _Nothing()
    torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *args, **kwargs: self
    for name in ("arange", "empty", "zeros", "ones", "full", "tensor", "randn", "rand"):
        setattr(torch, name, _on_cpu(getattr(torch, name), torch))
    import contextlib

    import megatron.core.tensor_parallel.random as random
    import transformer_engine.pytorch.module.base as base

    random.CudaRNGStatesTracker.fork = lambda self, *args, **kwargs: contextlib.nullcontext()

    cuda = type("Cuda", (), {"__getattr__": lambda self, name: getattr(torch.cuda, name), "is_available": lambda self: True})()
    base.torch = type("Torch", (), {"cuda": cuda, "__getattr__": lambda self, name: getattr(torch, name)})()
