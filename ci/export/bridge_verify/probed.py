"""What mapping classes do with numbered tensors, both ways, held against what those of the known release did (`known.RESULTS`).

Nothing here knows a layout: a class of the same name that puts one element elsewhere gives another digest. Two ranks are played by
one process: what a class would scatter is kept, and gathered again.
"""

import contextlib
import copy
import hashlib
import types

from . import known

CONFIG = {"num_attention_heads": 4, "num_query_groups": 2, "kv_channels": 3, "hidden_size": 12, "attention_output_gate": False,
          "mamba_num_heads": 4, "mamba_head_dim": 2, "mamba_num_groups": 2, "mamba_state_dim": 3, "linear_num_key_heads": 2,
          "linear_key_head_dim": 2, "linear_num_value_heads": 4, "linear_value_head_dim": 2, "head_dim": 3, "v_head_dim": 3}
COLUMN, ROW, NORM = "ColumnParallelLinear", "RowParallelLinear", "RMSNorm"
QKV = {"q": [12, 12], "k": [6, 12], "v": [6, 12]}
EXPERTS = "decoder.layers.0.mlp.experts.x.weight{}"  # of a stack: which one is taken is part of what is seen


def _expert(stored, whole, module, expert):
    """One of four experts of a stack."""
    return {}, {"": [4, *stored]}, module, {"name": EXPERTS.format(expert), "whole": whole}


# stock class -> (changes of CONFIG, shapes by role, class of the module, and for some what is special)
CASES = {
    "ColumnParallelMapping": [({}, {"": [8, 6]}, COLUMN), ({}, {"": [8]}, COLUMN)],
    "RowParallelMapping": [({}, {"": [8, 6]}, ROW), ({}, {"": [8]}, ROW)],
    "ReplicatedMapping": [({}, {"": [8, 6]}, NORM)],
    "DirectMapping": [({}, {"": [8, 6]}, NORM)],
    "AutoMapping": [({}, {"": [8, 6]}, COLUMN), ({}, {"": [8, 6]}, ROW), ({}, {"": [8]}, NORM),
                    ({}, {"": [8, 6]}, COLUMN, {"whole": [6, 8], "permute_dims": (1, 0)})],
    "RMSNorm2ZeroCenteredRMSNormMapping": [({}, {"": [8]}, NORM)],
    "QKVMapping": [({}, QKV, COLUMN), ({}, {"q": [12], "k": [6], "v": [6]}, COLUMN),
                   ({"attention_output_gate": True}, {**QKV, "q": [24, 12]}, COLUMN)],
    "ConcatenatedQKVMapping": [({}, {"": [24, 12]}, COLUMN), ({}, {"": [24]}, COLUMN)],
    "KVMapping": [({}, {"k": [6, 12], "v": [6, 12]}, COLUMN), ({}, {"k": [6], "v": [6]}, COLUMN)],
    "GatedMLPMapping": [({}, {"gate": [8, 6], "up": [8, 6]}, COLUMN), ({}, {"gate": [8], "up": [8]}, COLUMN)],
    "GDNLinearMapping": [({}, {"qkvz": [24, 12], "ba": [8, 12]}, COLUMN)],
    "GDNLinearMappingSeparate": [({}, {"qkv": [16, 12], "z": [8, 12], "b": [4, 12], "a": [4, 12]}, COLUMN)],
    "GDNConv1dMapping": [({}, {"": [16, 1, 4]}, COLUMN)],
    "MambaInProjMapping": [({}, {"": [32, 12]}, COLUMN)],
    "MambaConv1dMapping": [({}, {"": [20, 1, 4]}, COLUMN)],
    "QKVGMapping": [({}, {**QKV, "g": [4, 12]}, COLUMN), 
                    ({"attention_output_gate": True}, {**QKV, "g": [4, 12]}, COLUMN, {"whole": [36, 12]})],
    "FusedExpertMapping": [_expert([6, 8], [6, 8], ROW, 1), _expert([6, 8], [6, 8], ROW, 3), _expert([8, 6], [8, 6], COLUMN, 1)],
    "FusedGatedExpertMapping": [_expert([16, 6], [16, 6], COLUMN, 1), _expert([16, 6], [16, 6], COLUMN, 3),
                                _expert([6, 16], [16, 6], COLUMN, 1), _expert([2, 8, 6], [16, 6], COLUMN, 2)],
}
SCALARS = {"tp_rank": 0, "pp_rank": 0, "ep_rank": 0, "etp_rank": 0, "pp_size": 1, "ep_size": 1}


@contextlib.contextmanager
def played(library, tp, module, rank=0, sent=()):
    """The base class as it is on a rank of `tp` ranks; yields the shards that were scattered. `sent`: by rank 0, before."""
    import torch

    base, shards = library.MegatronParamMapping, list(sent)

    def scatter(self, splits, *args, **kwargs):
        shards[:] = shards if rank else splits
        return shards[rank]

    def broadcast(self, tensor, *args, **kwargs):
        shards[:] = shards if rank else [tensor] * tp
        return shards[rank]

    scalars = {**SCALARS, "tp_rank": rank, "etp_rank": rank}
    changes = {**{name: property(lambda self, value=value: value) for name, value in scalars.items()},
               "tp_size": property(lambda self: tp), "etp_size": property(lambda self: tp), "scatter_to_tp_ranks": scatter,
               "broadcast_tensor_to_tp_ranks": broadcast, "gather_from_tp_ranks": lambda self, tensor: shards if tp > 1 else [tensor],
               "broadcast_from_pp_rank": lambda self, tensor, *args, **kwargs: tensor,
               "broadcast_obj_from_pp_rank": lambda self, value, *args, **kwargs: value}
    before = {name: vars(base)[name] for name in changes if name in vars(base)}
    lookup, device = library.get_module_and_param_from_name, torch.cuda.current_device
    torch.cuda.current_device = lambda: None  # where the numbers are
    for name, value in changes.items():
        setattr(base, name, value)
    library.get_module_and_param_from_name = lambda *args, **kwargs: (module, module.weight)
    try:
        yield shards
    finally:
        library.get_module_and_param_from_name, torch.cuda.current_device = lookup, device
        for name in changes:
            setattr(base, name, before[name]) if name in before else delattr(base, name)


def as_class(mapping, cls):
    """A copy of a mapping as an instance of one of its base classes."""
    out = cls.__new__(cls)
    vars(out).update(vars(mapping))
    return out


def plain(mapping):
    """A copy that does what its class does: without methods of its own, which are seen for each object (objects)."""
    out = copy.copy(mapping)
    for name in [name for name, value in vars(out).items() if callable(value) and hasattr(type(out), name)]:
        del vars(out)[name]
    return out


def fresh(mapping, roles, base, special):
    """A copy that has seen no module yet, with names without wildcards."""
    name = special.get("name", "x.weight")
    out = copy.copy(mapping)
    for key, value in vars(out).items():
        if isinstance(value, base):
            vars(out)[key] = child = copy.copy(value)
            child.megatron_param = name
            child.hf_param = {role: f"x.{role}" for role in child.hf_param} if isinstance(child.hf_param, dict) else name
            for cached in ("_mapping", "_detected_type"):
                if cached in vars(child):
                    setattr(child, cached, None)
    for cached in ("_mapping", "_detected_type", "permute_dims"):
        if cached in vars(out):
            setattr(out, cached, special.get(cached))
    out.megatron_param = name
    out.hf_param = "x" if roles == {""} else {role: role for role in roles}
    return out


def _text(value):
    if isinstance(value, dict):
        return repr(sorted((str(key), _text(one)) for key, one in value.items()))
    return f"{list(value.shape)} {value.double().flatten().tolist()}"


def _run(library, mapping, case, tp):
    """(text of the shards, text of what comes back); None for a direction that the class does not do here."""
    import torch

    changes, shapes, name, *special = case
    special = special[0] if special else {}
    numbers, first = {}, 1
    for role, shape in shapes.items():
        count = torch.Size(shape).numel()
        numbers[role] = torch.arange(first, first + count, dtype=torch.float32).reshape(shape)
        first += count
    rows = sum(shape[0] for shape in shapes.values())
    one = next(iter(shapes.values()))
    one, rows = (special["whole"], special["whole"][0]) if special else (one, rows)  # of the parameter, where it is not the sum
    local = [one[0], one[1] // tp] if name == ROW and len(one) > 1 else [rows // tp if name == COLUMN else rows, *one[1:]]
    module = type(name, (torch.nn.Module,), {})()
    module.weight = torch.nn.Parameter(torch.zeros(local))
    module.config = types.SimpleNamespace(**{**CONFIG, **changes, "tensor_model_parallel_size": tp})
    given = numbers[""] if set(shapes) == {""} else numbers
    with played(library, tp, module) as shards, torch.no_grad():
        asked = fresh(mapping, set(shapes), library.MegatronParamMapping, special)
        made = asked.hf_to_megatron(given, module)
        there = list(shards) if tp > 1 and shards else [made]
        back = fresh(mapping, set(shapes), library.MegatronParamMapping, special).megatron_to_hf(there[0], module)
    return "|".join(_text(shard) for shard in there), _text(back)


def results(library, mapping, stock):
    """By direction and rank count: digests of what the class does in the cases of `stock`; "" where it fails."""
    out = {}
    for tp in (1, 2):
        there, back = [], []
        for case in CASES[stock]:
            try:
                one = _run(library, mapping, case, tp)
            except Exception:
                one = ("", "")
            there.append(one[0])
            back.append(one[1])
        for direction, texts in (("hf_to_megatron", there), ("megatron_to_hf", back)):
            out[f"{direction} at TP {tp}"] = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12] if all(texts) else ""
    return out


def differs(library, mapping, stock):
    """What the class of `mapping` does otherwise than `stock` of the known release, "" for nothing, None where nobody knows."""
    wanted = known.RESULTS.get(stock)
    if wanted is None or stock not in CASES or not hasattr(library, "get_module_and_param_from_name"):
        return None
    found = results(library, mapping, stock)
    other = [key for key, digest in wanted.items() if digest and found[key] != digest]
    failed = [key for key in other if not found[key]]
    return f"{', '.join(other)}: {'fails' if failed == other else 'other elements'}" if other else ""
