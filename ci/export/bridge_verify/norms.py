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
        probe = copy.copy(module)  # not deep: a module may hold its group of processes
        probe._parameters = {name: tensor if tensor is None else torch.nn.Parameter(torch.zeros(tensor.shape))
                             for name, tensor in module._parameters.items()}
        probe._buffers = {name: tensor if tensor is None else torch.zeros(tensor.shape) for name, tensor in module._buffers.items()}
        out = _run(probe, torch.linspace(-1.0, 2.0, 2 * weight.shape[0]).reshape(2, -1))
    except Exception:
        return None
    if bool((out == 0).all()):
        return "weight"
    return "offset" if bool(torch.isfinite(out).all()) else None


def _run(module, rows):
    """What it makes of rows; a module over all heads wants a batch beside the sequence."""
    import torch

    with torch.no_grad():
        try:
            out = module(rows)
        except Exception:
            out = module(rows.unsqueeze(1))
    return out[0] if isinstance(out, tuple) else out


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
        saved = _saved_names(revert_weight_conversion, model, name, module.weight) & (set(stored) or {name})
        for one in saved or _by_ending(name, stored):
            _gather(found, one, word)
    return {pattern: word for pattern, word in sorted(found.items()) if word}


def _by_ending(name, stored):
    """The one stored name with the longest common ending of at least two parts: published names differ at their front."""
    parts, best, size = name.split("."), [], 2
    for other in stored:
        theirs, same = other.split("."), 0
        while same < min(len(parts), len(theirs)) and parts[-1 - same] == theirs[-1 - same]:
            same += 1
        if same > size:
            best, size = [], same
        if same == size:
            best.append(other)
    return best if len(best) == 1 else []


# Classes that transformers does not have: how their own modelling files multiply. `config` field: offset where it is true.
REMOTE = {
    "LLaDAModelLM": "weight", "DeciLMForCausalLM": "weight", "MiMoForCausalLM": "weight", "MiMoV2FlashForCausalLM": "weight",
    "SarvamMLAForCausalLM": "weight", "SarvamMoEForCausalLM": "weight", "Qwen3ASRForConditionalGeneration": "weight",
    "NemotronLabsDiffusionModel": "weight", "NemotronH_Nano_VL_V2": "weight", "NemotronH_Nano_Omni_Reasoning_V3": "weight",
    "KimiK25ForConditionalGeneration": "weight", "Step3p5ForCausalLM": {"zero_centered": True},
    "Step3p7ForConditionalGeneration": {"zero_centered": True},
}


def of_remote(class_name, config, stored):
    """The same for a class of the model's own files (trust_remote_code), which are read and not run."""
    word = REMOTE.get(class_name)
    if isinstance(word, dict):
        (field, default), = word.items()
        word = "offset" if config.get("text_config", config).get(field, default) else "weight"
    return {starred(name): word for name in sorted(stored) if word and len(stored[name] or [0, 0]) == 1
            and name.endswith("weight")}


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
