"""Which rows of a head each library rotates together, seen by running its function; and rules that bring q and k into that order.

"halves": row i with row i + r/2 of the r rows that turn, as transformers does mostly. "neighbours": row 2i with row 2i + 1, as GPT-J,
GLM and Cohere do. Rows of one order read in the other are a wrong model, so a registry must then exchange them.
"""

import sys
import types

from . import probed, values

SIZE = 8
TOWERS = ("vision", "visual", "audio", "talker", "code", "token2wav", "dit")  # with functions of their own


def _word(rotated):
    """By which row of 1 .. SIZE each was made of, with the cosine zero and the sine one."""
    rows = [int(abs(value)) - 1 for value in rotated.flatten().tolist()]
    for word, partner in (("halves", lambda row: (row + SIZE // 2) % SIZE), ("neighbours", lambda row: row ^ 1)):
        if rows == [partner(row) for row in range(SIZE)]:
            return word
    return None


def _seen(function):
    """What a function of transformers rotates: its forms take cosine and sine, with sections or without, or complex numbers."""
    import torch

    rows = torch.arange(1.0, SIZE + 1).reshape(1, 1, 1, SIZE)
    zero, one = torch.zeros(1, 1, SIZE), torch.ones(1, 1, SIZE)
    three = zero.expand(3, 1, 1, SIZE), one.expand(3, 1, 1, SIZE)
    for words in ((rows, rows, zero, one), (rows, rows, zero[..., ::2], one[..., ::2]), (rows, zero, one),
                  (rows, rows, *three, [1, 1, 2]), (rows, rows, torch.full((1, 1, SIZE // 2), 1j))):
        try:
            out = function(*words)
        except Exception:
            continue
        word = _word(out[0] if isinstance(out, tuple) else out)
        if word:
            return word
    return None


def of_hf(class_name):
    """The word of the one kind of rotation that the text attention of the class's module uses; None: it cannot be seen."""
    import inspect

    import transformers

    cls = getattr(transformers, class_name, None)
    module = None if cls is None else sys.modules[cls.__module__]
    found = set()
    for name, attention in list(vars(module).items()) if module else ():
        if not inspect.isclass(attention) or "Attention" not in name or any(part in name.lower() for part in TOWERS):
            continue
        code = getattr(getattr(attention, "forward", None), "__code__", None)
        for used in code.co_names if code else ():
            function = attention.forward.__globals__.get(used)
            if "rotary" in used and inspect.isfunction(function):
                found.add(_seen(function))
    return found.pop() if len(found) == 1 else None


def of_megatron(provider):
    """The word for what Megatron-Core does by the setting of the provider. None: MLA, or no rotation that is known."""
    import torch

    interleaved = getattr(provider, "rotary_interleaved", None)
    kind = getattr(provider, "position_embedding_type", "rope")
    if not isinstance(interleaved, bool) or getattr(provider, "multi_latent_attention", False) or kind not in ("rope", "mrope", "yarn"):
        return None
    try:
        from megatron.core.models.common.embeddings.rope_utils import _rotate_half
        return _word(_rotate_half(torch.arange(1.0, SIZE + 1).reshape(1, 1, 1, SIZE), interleaved))
    except Exception:
        return None


def _turned(config, architecture):
    """Rows of a head that the text model of transformers turns, by the frequencies that its modules make; None: they are not alike."""
    import inspect

    import transformers

    cls = getattr(transformers, architecture, None)
    text, found = config.get_text_config(), set()
    for name, rotation in list(vars(sys.modules[cls.__module__]).items()) if cls else ():
        if not inspect.isclass(rotation) or not name.endswith("RotaryEmbedding") or any(part in name.lower() for part in TOWERS):
            continue
        try:
            made = rotation(text)
        except Exception:
            return None
        found |= {2 * one.numel() for key, one in made.named_buffers() if key.endswith("inv_freq") and "original" not in key}
    return found.pop() if len(found) == 1 else None


def _pairs(count):
    """Rows that turn: both libraries make a frequency for each two of a whole number of rows, and one for a last row without a partner."""
    return 2 * ((int(count) + 1) // 2)


def _told(config, head):
    """The same, by the fields of config.json; None: it has none."""
    text = next((config[key] for key in ("text_config", "llm_config", "thinker_config") if isinstance(config.get(key), dict)), config)
    for fields in (text, text.get("rope_parameters"), text.get("rope_scaling")):
        fields = fields if isinstance(fields, dict) else {}
        for key in ("partial_rotary_factor", "rotary_pct"):
            if isinstance(fields.get(key), (int, float)):
                return _pairs(head * fields[key])
        if isinstance(fields.get("rotary_dim"), int):
            return fields["rotary_dim"]
    return None


def rows(config, written, provider, runs):
    """facts.rotary_rows: how many rows of a head each side turns. `written`: config.json. {}: no rotation that is known."""
    head, part = getattr(provider, "kv_channels", None), getattr(provider, "rotary_percent", None)
    kind = getattr(provider, "position_embedding_type", "rope")
    if not isinstance(head, int) or not isinstance(part, (int, float)) or getattr(provider, "multi_latent_attention", False) is True:
        return {}
    if kind not in ("rope", "mrope", "yarn"):
        return {}
    hf = _told(written, head)  # classes of transformers read rotary_dim of some models in another way than the code beside their weights
    if hf is None and runs:
        try:
            hf = _turned(config, (written.get("architectures") or [""])[0])
        except Exception:
            hf = None
    return {} if hf is None and part == 1 else {"hf": hf, "megatron": _pairs(head * part)}


def order(rows, turning, to):
    """Places of the rows of one head, in the other order: those that turn, and then the rest."""
    half, rest = turning // 2, list(range(turning, rows))
    if to == "neighbours":
        return [row // 2 + row % 2 * half for row in range(turning)] + rest
    return [row * 2 % turning + (row >= half) for row in range(turning)] + rest


def sizes(provider):
    """(rows of a head, those that turn); None where the provider does not say them."""
    head, part = getattr(provider, "kv_channels", None), getattr(provider, "rotary_percent", 1.0)
    if not isinstance(head, int) or not isinstance(part, (int, float)):
        return None
    turning = int(head * part)
    return (head, turning) if 0 < turning <= head and turning % 2 == 0 else None


def exchanged(tensor, provider, to):
    """The rows of all heads of a q or k tensor in the other order."""
    head, turning = sizes(provider)
    heads = tensor.reshape(-1, head, *tensor.shape[1:])
    return heads[:, order(head, turning, to)].reshape(tensor.shape)


def line(provider, to):
    """Keys of a rule: a QKV mapping whose q and k rows come into the other order."""
    head, turning = sizes(provider)
    there, here = ("a b", "b a") if to == "neighbours" else ("b a", "a b")

    def rows(part, text):
        return text if turning == head else f"({part}_turns: {text} | {part}_stays: c)"

    axes = {"g": str(provider.num_query_groups), "n": "s0d0 / s1d0", "a": "2", "b": str(turning // 2),
            "e": f"s2d0 / {provider.num_query_groups}", **({"c": str(head - turning)} if turning < head else {})}
    return {"layout": f"q[(g n {rows('q', there)}) ...], k[(g {rows('k', there)}) ...], v[(g e) ...] -> "
                      f"linear_qkv[(g (q: n {rows('q', here)} | k: {rows('k', here)} | v: e)) ...] cut 0 by t", "axes": axes}


def norm_line(provider, to):
    """The same for the norm over the rows of a head."""
    head, turning = sizes(provider)
    there, here = ("a b", "b a") if to == "neighbours" else ("b a", "a b")
    parts = (f"(turns: {text} | stays: c)" if turning < head else f"({text})" for text in (there, here))
    return {"layout": "x[{}] -> x{{*t}}[{}]".format(*parts),
            "axes": {"a": "2", "b": str(turning // 2), **({"c": str(head - turning)} if turning < head else {})}}


def of_mapping(library, mapping, provider):
    """The line of a local QKV class that exchanges the rows of heads on the way there, and back; {}: it does something else."""
    stock = getattr(library, "QKVMapping", None)
    if stock is None or not isinstance(mapping, stock) or sizes(provider) is None:
        return {}
    for to in ("neighbours", "halves"):
        try:
            if _is_exchange(library, mapping, provider, to):
                return line(provider, to)
        except Exception:  # it wants more than numbers
            continue
    return {}


def of_hook(rule, given, made, provider):
    """The line of a rule whose load hook exchanges the rows of heads; {}: it does something else. `given`, `made`: tensors by role."""
    import torch

    norm = rule["megatron"].endswith(("q_layernorm.weight", "k_layernorm.weight"))
    if sizes(provider) is None or not norm and set(given) != {"q", "k", "v"} or norm and list(given[""].shape) != [sizes(provider)[0]]:
        return {}
    for to in ("neighbours", "halves"):
        try:
            wanted = {role: one if role == "v" else exchanged(one, provider, to) for role, one in given.items()}
        except RuntimeError:  # rows that are no whole heads
            continue
        if all(one.shape == made[role].shape and torch.equal(one, made[role].to(one.dtype)) for role, one in wanted.items()):
            return norm_line(provider, to) if norm else line(provider, to)
    return {}


def is_exchange(library, mapping, provider):
    """Of a mapping without wildcards: does it exchange the rows of heads, either way?"""
    return any(_is_exchange(library, mapping, provider, to, ("",)) for to in ("neighbours", "halves"))


def _is_exchange(library, mapping, provider, to, layers=("0", "1", "7")):
    """Its shards are those that the stock class makes of exchanged rows, in several layers; and it brings the rows back."""
    heads, groups, head = provider.num_attention_heads, provider.num_query_groups, sizes(provider)[0]
    weights = {role: values.numbers((count * head, 2), role) for role, count in (("q", heads), ("k", groups), ("v", groups))}
    wanted = {role: one if role == "v" else exchanged(one, provider, to) for role, one in weights.items()}
    stock = probed.as_class(mapping, library.QKVMapping)
    config = {name: value for name, value in vars(provider).items() if isinstance(value, (bool, int, float, str, type(None)))}
    for tp in (1, 2) if groups % 2 == 0 else (1,):
        for layer in layers:
            if not _same(library, mapping, stock, (weights, wanted), config, (tp, layer)):
                return False
    return True


def _same(library, mapping, stock, weights, config, where):
    import torch

    given, wanted = weights
    tp, layer = where
    rows = sum(one.shape[0] for one in given.values())
    module = type(probed.COLUMN, (torch.nn.Module,), {})()
    module.weight = torch.nn.Parameter(torch.zeros(rows // tp, 2))
    module.config = types.SimpleNamespace(**{**config, "hidden_size": 2, "tensor_model_parallel_size": tp})
    name = mapping.megatron_param.replace("*", layer)
    names = {role: one.replace("*", layer) for role, one in mapping.hf_param.items()}

    def fresh(one):
        out = probed.fresh(one, set(given), library.MegatronParamMapping, {"name": name})
        out.hf_param = names
        return out

    made = []
    with probed.played(library, tp, module) as shards, torch.no_grad():
        for one, tensors in ((mapping, given), (stock, wanted)):
            whole = fresh(one).hf_to_megatron({role: tensor.clone() for role, tensor in tensors.items()}, module)
            made.append([shard.clone() for shard in shards] if tp > 1 else [whole])
        shards[:] = made[0]
        back = fresh(mapping).megatron_to_hf(made[0][0], module)
    return all(values.same(one, other) for one, other in zip(*made, strict=True)) and set(back) == set(names.values()) and all(
        values.same(back[names[role]], tensor) for role, tensor in given.items())
