"""Mapping objects as a load asks for them: resolved for each layer and expert, and run, held against what the rule says of them.

A class is known by its source or by what it does (probed); an object may hold methods of its own, hand its names over in another
order, or do another thing for one layer. Objects of the library's classes that hold nothing of their own are sampled.
"""

import ast
import inspect
import itertools
import pathlib
import re
import types

from . import lines, names, places, probed, rotary, values, world

ALL_CASES_MAX = 512  # parameters of a rule that are run in all cases; of further ones the first case on one rank
CACHES = ("_mapping", "_detected_type")


class Other(Exception):
    """What the object does otherwise."""


def _place(function):
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return f" ({places.short(code.co_filename)}:{code.co_firstlineno})" if code else ""


def replaced(mapping, base):
    """Methods of an object, or of a mapping that it holds, that stand in its own attributes: texts."""
    for name, value in vars(mapping).items():
        if callable(value) and hasattr(type(mapping), name) and not isinstance(value, type):
            yield f"{name} of the object{_place(value)} stands in place of that of {type(mapping).__name__}"
        if isinstance(value, base):
            yield from replaced(value, base)


def _form(mapping):
    held = {name: repr(value) for name, value in vars(mapping).items() if isinstance(value, (str, int, float, bool, tuple, list, dict, type(None)))
            and name not in ("_bv_place", "_broadcast_obj_cache", "_tensor_spec_output_cache", *CACHES)}
    own = sorted(name for name, value in vars(mapping).items() if callable(value))
    return type(mapping).__module__, type(mapping).__qualname__, held, own


def another(registry, later):
    """How the registries of later calls differ from the first one; None for not at all."""
    wanted = [_form(mapping) for mapping in registry.mappings]
    for made in later:
        if isinstance(made, Exception):
            return f"fails when it is asked again: {type(made).__name__}: {made}"
        found = [_form(mapping) for mapping in made.mappings]
        if found == wanted and type(made).__qualname__ == type(registry).__qualname__:
            continue
        at = next((i for i, (one, other) in enumerate(itertools.zip_longest(wanted, found)) if one != other), None)
        name = next((one[at].megatron_param for one in (registry.mappings, made.mappings) if at is not None and at < len(one)), "")
        return (f"gives another registry when it is asked again: {len(wanted)} mappings, then {len(found)}"
                f"{f', first another one at {name}' if name else ''}")
    return None


def other_types(library):
    """What the library's AutoMapping was told of a module that its file knows as another type; None for nothing. New modules are fine."""
    cls = getattr(library, "AutoMapping", None)
    now = getattr(cls, "_MODULE_TYPE_REGISTRY", None)
    if now is None or not getattr(library, "__file__", None):
        return None
    tree = ast.parse(pathlib.Path(library.__file__).read_text())
    for node in ast.walk(tree):
        name = node.targets[0] if isinstance(node, ast.Assign) else node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(name, ast.Name) and name.id == "_MODULE_TYPE_REGISTRY":
            for kind, modules in ast.literal_eval(node.value).items():
                for module in sorted(modules):
                    found = sorted(one for one, known in now.items() if module in known)
                    if found != [kind]:
                        return f"was told that {module} is {' and '.join(found) or 'of no type'}, and its file says {kind}"
    return None


def _numbered(pattern, captures):
    """A name whose numbers are computed of the captures."""
    out = pattern["pattern"]
    for letter, text in pattern.items():
        if letter != "pattern":
            terms = [[int(captures[int(one[1:])]) if one.startswith("c") else int(one) for one in term.split(" * ")] for term in text.split(" + ")]
            out = out.replace(f"{{{letter}}}", str(sum(one[0] * (one[1] if len(one) > 1 else 1) for one in terms)))
    return out


def _is_numbered(hf):
    return isinstance(hf, dict) and ("pattern" in hf or any(isinstance(one, dict) for one in hf.values()))


def wanted_names(rule, mapping, captures):
    """The HF names that the rule says, by role."""
    hf = rule["hf"] if _is_numbered(rule["hf"]) else mapping.hf_param
    fill = lambda one: _numbered(one, captures) if isinstance(one, dict) else names.filled(one, captures)  # noqa: E731
    return fill(hf) if isinstance(hf, str) or "pattern" in hf else {role: fill(one) for role, one in hf.items()}


def parameters(rule, mapping, tensors, experts):
    """Captures of the parameters that the rule makes in this checkpoint; of a stack, of each of its experts."""
    stars = len(re.findall(r"\*\*|\*", mapping.megatron_param))
    if not stars:
        return [()]
    hf = rule["hf"] if _is_numbered(rule["hf"]) else mapping.hf_param
    first = hf if isinstance(hf, str) or "pattern" in hf else next(iter(hf.values()))
    if isinstance(first, dict):
        form = names.expression(re.sub(r"\{\w\}", "*", first["pattern"]))
        most = 1 + max((int(one) for name in tensors if (match := form.match(name)) for one in match.groups()), default=1)
        tried = itertools.product(map(str, range(min(most, 300))), repeat=stars)
        found = [captures for captures in itertools.islice(tried, 100000) if _numbered(first, captures) in tensors]
    else:
        form = names.expression(first)
        found = sorted({match.groups() for name in tensors if (match := form.match(name))})
        missing = stars - (len(found[0]) if found else stars)
        if missing > 0:  # one tensor holds all experts
            found = [(*one, *rest) for one in found for rest in itertools.product(map(str, range(experts)), repeat=missing)]
    return found or [("0",) * stars]


def resolved(registry, mapping, captures):
    return registry.resolve_mapping(mapping, captures) if "*" in mapping.megatron_param else mapping


def _reference(stock, mapping, megatron, hf):
    """An object of the library's class, made as the rule says."""
    more = {name: value for name in ("permute_dims", "transpose_on_export") if (value := vars(mapping).get(name))}
    more = {name: value for name, value in more.items() if name in inspect.signature(stock.__init__).parameters}
    return stock(megatron, hf, **more) if isinstance(hf, str) else stock(megatron, **hf, **more)


class _Kept:
    """An object that is run and has afterwards what it had before: closures of a bridge may hold it."""

    def __init__(self, mapping, base):
        self.held = [(one, dict(vars(one))) for one in (mapping, *(value for value in vars(mapping).values() if isinstance(value, base)))]

    def restore(self):
        for one, before in self.held:
            vars(one).clear()
            vars(one).update(before)


def _numbers(shapes, mapping):
    return {role: values.numbers(shape, f"{role} {mapping.megatron_param}") for role, shape in shapes.items()}


def _module(name, case, shapes, tp):
    import torch

    changes, special = case[0], case[3] if len(case) > 3 else {}
    one = special.get("whole") or next(iter(shapes.values()))
    rows = one[0] if special else sum(shape[0] for shape in shapes.values())
    local = [one[0], one[1] // tp] if name == probed.ROW and len(one) > 1 else [rows // tp if name == probed.COLUMN else rows, *one[1:]]
    module = type(name, (torch.nn.Module,), {})()
    module.weight = torch.nn.Parameter(torch.zeros(local))
    module.config = types.SimpleNamespace(**{**probed.CONFIG, **changes, "tensor_model_parallel_size": tp})
    return module


def _run(library, make, case, where, given):
    """([what each direction gives, or the exception], shards) of an object that `make` gives, on a rank of several."""
    import torch

    (tp, rank), (numbers, sent) = where, given
    shapes, name = case[1], case[2]
    module = _module(name, case, shapes, tp)
    weights = {role: one.clone() for role, one in numbers.items()}
    out = []
    with probed.played(library, tp, module, rank, sent) as shards, world.played(tp, rank), torch.no_grad():
        mapping = make()
        kept = _Kept(mapping, library.MegatronParamMapping)
        try:
            try:
                out.append(mapping.hf_to_megatron(weights[""] if set(weights) == {""} else weights, module))
            except Exception as error:
                out.append(error)
            made = list(shards) if tp > 1 and shards else out[:1]
            kept.restore()
            if sent is None or not sent:
                sent = [one.clone() for one in made if isinstance(one, torch.Tensor)]
            shards[:] = [one.clone() for one in sent]
            try:
                out.append(mapping.megatron_to_hf(sent[rank if len(sent) > rank else 0].clone(), module))
            except Exception as error:
                out.append(error)
        finally:
            kept.restore()
    return out, made, sent


def _alike(one, other):
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and values.same(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(_alike(one[key], other[key]) for key in one)
    return type(one) is type(other) and not isinstance(one, torch.Tensor)


def _said(direction, seen, wanted):
    if isinstance(seen, Exception):
        return f"{direction} fails: {type(seen).__name__}: {seen}"
    if isinstance(seen, dict) and isinstance(wanted, dict) and set(seen) != set(wanted):
        return f"{direction} writes {', '.join(sorted(set(seen) - set(wanted))) or 'no ' + ', '.join(sorted(set(wanted) - set(seen)))}"
    return f"{direction} gives other elements"


def _behaves(library, make, reference, stock, few):
    """Raises Other. `make`, `reference` give a fresh object each time."""
    for case in itertools.islice(_cases(stock, reference()), 1 if few else None):
        numbers = _numbers(case[1], reference())
        sent = None
        for where in ((1, 0),) if few else ((1, 0), (2, 0), (2, 1)):
            sent = sent if where[1] else None
            wanted, made, sent = _run(library, reference, case, where, (numbers, sent or ()))
            if not sent or isinstance(wanted[0], Exception):
                continue  # the library's own class does nothing with it
            seen, also, _ = _run(library, make, case, where, (numbers, sent if where[1] else ()))
            for direction, one, other in zip(("hf_to_megatron", "megatron_to_hf"), seen, wanted, strict=True):
                if not isinstance(other, Exception) and not _alike(one, other):
                    raise Other(_said(direction, one, other) + (f" on rank {where[1]} of {where[0]}" if where[0] > 1 else ""))
            if len(also) != len(made) or not all(_alike(one, other) for one, other in zip(also, made)):
                raise Other(f"hf_to_megatron gives other elements on the ranks of {where[0]}")


def _cases(stock, mapping):
    """Those of the class, with as many experts in a stack as the parameter's number wants."""
    expert = re.search(r"(\d+)$", mapping.megatron_param)
    for case in probed.CASES[stock.__name__]:
        case = list(case)
        if len(case) > 3 and "name" in case[3] and expert:
            (role, shape), = case[1].items()
            case[1] = {role: [max(shape[0], int(expert[1]) + 1), *shape[1:]]}
        if len(case) > 3 and "permute_dims" in case[3]:
            case[3] = {**case[3], "permute_dims": None}
            case[1], case[3] = {"": case[3]["whole"]}, {}
        yield tuple(case)


def _of_one(bridge, rule, mapping, captures, few):
    library, registry = bridge.library.mapping, bridge.registry
    megatron, hf = names.filled(mapping.megatron_param, captures), wanted_names(rule, mapping, captures)
    made = resolved(registry, mapping, captures)
    if made.megatron_param != megatron:
        raise Other(f"resolve makes {made.megatron_param}")
    if made.hf_param != hf:
        roles = [role for role in hf if dict(made.hf_param).get(role) != hf[role]] if isinstance(hf, dict) and isinstance(made.hf_param, dict) else []
        role = roles[0] if roles else None
        raise Other(f"resolve names {made.hf_param.get(role) if role else made.hf_param}{f' as {role}' if role else ''}")
    stock = getattr(library, rule.get("kind", "") if "module" in rule else rule["class"], None)
    if "layout" in rule and "module" in rule and not lines.line_of(mapping, bridge.provider) and not rotary.is_exchange(library, made, bridge.provider):
        raise Other("it does something else with the rows of heads than in other layers")
    if stock is None or stock.__name__ not in probed.CASES or not isinstance(hf, (str, dict)) or not hasattr(library, "get_module_and_param_from_name"):
        return
    _behaves(library, lambda: resolved(registry, mapping, captures), lambda: _reference(stock, mapping, megatron, hf), stock, few)


def differs(bridge, rule, mapping):
    """What a mapping object does otherwise than its rule says; "" for nothing."""
    if "module" in rule and not {"kind", "layout"} & set(rule):
        return ""  # nothing is said of it
    own = list(replaced(mapping, bridge.library.mapping.MegatronParamMapping))
    if not bridge.runs:
        return own[0] if own else ""
    experts = getattr(bridge.provider, "num_moe_experts", None) or 1
    found = parameters(rule, mapping, bridge.tensors, experts)
    if "module" not in rule and not own:
        found = found[-1:]  # an object of the library's own class: that of one layer is like that of the next
    for place, captures in enumerate(found):
        at = f"at {'.'.join(captures)}: " if captures else ""
        try:
            _of_one(bridge, rule, mapping, captures, place >= ALL_CASES_MAX)
        except Other as other:
            return f"{at}{other}{f'; {own[0]}' if own else ''}"
        except Exception as error:
            return f"{at}it cannot be run: {type(error).__name__}: {error}"
    return ""
