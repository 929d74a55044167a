"""How each library keeps its norm weights: as they are, or as their offset from one. Seen by running the modules.

With a weight of zero, a module that multiplies by the weight gives zero, and one that multiplies by one plus the weight does not.
"""

import copy
import re


def starred(name):
    """Numbers of layers and experts as `*`."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def kept(module):
    """"weight", "offset", or None where it cannot be seen."""
    import torch

    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 1:
        return None
    try:
        probe = copy.deepcopy(module).to_empty(device="cpu").float()
        with torch.no_grad():
            for tensor in [*probe.parameters(), *probe.buffers()]:
                tensor.zero_()
            out = probe(torch.linspace(-1.0, 2.0, 2 * weight.shape[0]).reshape(2, -1))
        out = out[0] if isinstance(out, tuple) else out
    except Exception:
        return None
    if bool((out == 0).all()):
        return "weight"
    return "offset" if bool(torch.isfinite(out).all()) else None


def _gather(found, name, word):
    """A pattern that two names disagree about is nobody's statement."""
    pattern = starred(name)
    found[pattern] = word if found.get(pattern, word) == word else None


def of_hf(config, class_name, stored):
    """Names in the checkpoint -> word, by the class of transformers that `config` names; {} where there is none."""
    import torch
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    cls = getattr(transformers, class_name, None)
    if cls is None:
        return {}
    with torch.device("meta"):
        model = cls._from_config(config) if hasattr(cls, "_from_config") else cls(config)
    found = {}
    for path, module in model.named_modules():
        if "norm" not in type(module).__name__.lower() or not hasattr(module, "weight"):
            continue
        word = kept(module)
        name = f"{path}.weight"
        for saved in _saved_names(revert_weight_conversion, model, name, module.weight) & (set(stored) or {name}):
            _gather(found, saved, word)
    return {pattern: word for pattern, word in sorted(found.items()) if word}


def _saved_names(revert, model, name, tensor):
    try:
        return {name, *revert(model, {name: tensor})}
    except Exception:
        return {name}


def of_megatron(model, rows):
    """Parameter names -> word, by the modules that were built. TransformerEngine's say it in `zero_centered_gamma`."""
    from megatron.bridge.models.conversion.utils import get_module_and_param_from_name

    found = {}
    for name, shape, *_ in rows:
        if len(shape) != 1 or not name.endswith(("layer_norm_weight", "norm.weight")):
            continue
        module, _ = get_module_and_param_from_name(model, name, 0)
        stated = getattr(module, "zero_centered_gamma", None)
        word = None if stated is None else "offset" if stated else "weight"
        _gather(found, name, word or kept(module))
    return {pattern: word for pattern, word in sorted(found.items()) if word}
