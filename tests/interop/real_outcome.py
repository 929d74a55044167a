"""What the released Megatron-Bridge itself does with a checkpoint: loaded into a model full of NaN, and exported again."""

import types
import zlib

from bridge_verify import built, live


def drawn(name, shape):
    """Values of one tensor, by its name alone."""
    import torch

    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape or [], generator=generator, dtype=torch.float32)
    if len(shape or []) == 1:  # norms among them: minus one and plus one again changes none of these
        values = 1 + torch.round(values.clamp(-3, 3) * 16) / 128
    return values.to(torch.bfloat16)


def _with_values(library, bridge, tensors):
    class Values(library.state.StateSource):
        def get_all_keys(self):
            return sorted(tensors)

        def load_tensors(self, keys):
            return {key: drawn(key, tensors[key]) for key in keys if key in tensors}

    bridge.pretrained.state = library.state.StateDict(Values())


def _model(bridge):
    import torch

    model = built.build(bridge.provider, meta=False)
    with torch.no_grad():
        for chunk in model:
            for tensor in chunk.parameters():
                tensor.fill_(float("nan"))
    return model


def _said(error):
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:120]}" if text else type(error).__name__


def real_outcome(library, cls, config, tensors):
    """"equal", "17 unfilled", "crashes at load: ...", ..."""
    import torch

    try:
        bridge = live.Bridge(library, cls, config, tensors)
        if bridge.provider is None:
            return "no provider: " + bridge.trouble[-1].split(": ", 1)[-1]
        model = _model(bridge)
    except Exception as error:
        return "cannot be built: " + _said(error)
    try:
        _with_values(library, bridge, tensors)
        bridge.instance.load_weights_hf_to_megatron(bridge.pretrained, model)
    except Exception as error:
        return "crashes at load: " + _said(error)
    empty = [name for chunk in model for name, tensor in chunk.named_parameters() if torch.isnan(tensor).all()]
    try:
        back = {name: tensor for name, tensor in bridge.instance.stream_weights_megatron_to_hf(
            model, bridge.pretrained, cpu=True, show_progress=False)}
    except Exception as error:
        return (f"{len(empty)} unfilled; " if empty else "") + "crashes at export: " + _said(error)
    lost = sorted(name for name in tensors if name not in back)
    other = sorted(name for name in back if name in tensors and not torch.equal(
        back[name].to(torch.bfloat16), drawn(name, tensors[name])))
    words = [f"{len(some)} {what}" for some, what in (
        (empty, "unfilled"), (lost, "not exported"), (other, "exported otherwise")) if some]
    return ", ".join(words) or "equal"


def exported_shapes(library, cls, config, fields):
    """name -> shape of what the bridge itself writes of a new model; a registry that looks at names is given those of a first pass."""
    names = {}
    for _ in range(2):
        bridge = live.Bridge(library, cls, config, names)
        if bridge.provider is None:
            raise ValueError(bridge.trouble[-1])
        vars(bridge.provider).update(fields)
        rows, model, _ = built.parameters(bridge)
        names = dict.fromkeys(sorted({hf for row in rows for hf in _read_for(bridge.registry, row[0])}))
    _with_values(library, bridge, names)
    tasks = [task for task in bridge.instance.build_conversion_tasks(bridge.pretrained, model) if task is not None]
    return {name: list(tensor.shape) for name, tensor in bridge.instance.stream_weights_megatron_to_hf(
        model, bridge.pretrained, cpu=True, show_progress=False, conversion_tasks=tasks)}


def _read_for(registry, parameter):
    found = registry.megatron_to_hf_lookup(parameter)
    hf = None if found is None else found.hf_param
    return [] if hf is None else [hf] if isinstance(hf, str) else list(hf.values())
