"""What the weight hooks of a bridge do with tensors, seen by running them on numbers.

A tensor of up to NUMBERED_MAX elements is run as it is. Of a larger one the hook is run three or more times: once on a tensor of its
shape without bytes, which it must hand on untouched, or touch with the very operations that it uses on the small ones; and once for
each dimension on a stand-in that keeps this dimension whole and has a few elements of the others, filled with numbers.
"""

import types

from . import values

NUMBERED_MAX = 1 << 18  # elements of a tensor that is filled with numbers; a larger one has no bytes
KEPT = 8  # elements of each other dimension of a stand-in


class Watched(dict):
    """A state dict that remembers what it gave: tensors without bytes, or numbers, each with a copy of what it was."""

    def __init__(self, tensors, bare=False, kind=values.WIDE):
        """`bare`: without bytes, whatever their size. `kind`: of numbers."""
        super().__init__()
        self.tensors, self.given, self.before, self.bare, self.kind = tensors, {}, {}, bare, kind

    def __contains__(self, key):
        return key in self.tensors

    def __iter__(self):
        return iter(self.tensors)

    def __len__(self):
        return len(self.tensors)

    def keys(self):
        return self.tensors.keys()

    def get(self, key, default=None):
        return self[key] if key in self.tensors else default

    def __getitem__(self, key):
        import torch

        if key not in self.tensors:
            raise KeyError(key)
        if key not in self.given:
            shape = torch.Size(self.tensors[key] or [])
            numbered = not self.bare and shape.numel() <= NUMBERED_MAX
            self.given[key] = (values.numbers(shape, key, self.kind) if numbered
                               else torch.empty(shape, device="meta", dtype=torch.bfloat16))
            self.before[key] = (self.given[key].clone() if numbered else None, self.given[key]._version)
        return self.given[key]

    def holds(self, key, tensor):
        """Is this what was given under that name, with the elements that it had?"""
        import torch

        if key not in self.given or not isinstance(tensor, torch.Tensor):
            return False
        before, version = self.before[key]
        if before is None:
            return tensor is self.given[key] and tensor._version == version
        return values.same(tensor, before)


class Undecided(Exception):
    """The hook does something with a large tensor that the stand-ins do not show."""


def stand_ins(tensors, names):
    """Shapes to run the hook on: those of the checkpoint where the tensors `names` are small, else one for each dimension."""
    sizes = [_count(tensors[name]) for name in names if name in tensors]
    if max(sizes, default=0) <= NUMBERED_MAX:
        return [tensors]
    most = max(len(tensors[name] or []) for name in names if name in tensors)
    return [{name: [size if at == kept else min(size, KEPT) for at, size in enumerate(shape or [])] for name, shape in tensors.items()}
            for kept in range(most)]


def _count(shape):
    out = 1
    for size in shape or []:
        out *= size
    return out


def _scalar(value):
    """A factor or a dimension; sizes are other ones on a stand-in."""
    return "size" if isinstance(value, int) and abs(value) >= KEPT else value


class _Operations:
    """The operations that are run inside."""

    def __enter__(self):
        from torch.utils._python_dispatch import TorchDispatchMode

        self.seen = seen = []

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
                seen.append(f"{function} {[_scalar(one) for one in args if isinstance(one, (int, float))]}")
                return function(*args, **(kwargs or {}))

        self.mode = Mode()
        self.mode.__enter__()
        return self.seen

    def __exit__(self, *what):
        self.mode.__exit__(*what)


def hands_on(run, tensors, names):
    """`run(tensors, bare)` -> does the hook hand on what it was given? Of the tensors `names`, whatever their size.
    Raises what the hook raises, and Undecided where a large tensor is treated otherwise than its stand-ins."""
    found = stand_ins(tensors, names)
    if len(found) == 1:
        return run(found[0], False)
    with _Operations() as whole:
        untouched = run(tensors, True)
    for one in found:
        with _Operations() as small:
            if not run(one, False):
                return False
        if not untouched and sorted(set(_moving(small))) != sorted(set(_moving(whole))):
            raise Undecided("it works otherwise on a tensor of this size than on a smaller one")
    return True


# Operations of our own numbers and copies, on either side.
OURS = ("aten.arange", "aten.empty", "aten.clone", "aten.equal", "aten.view", "aten._to_copy", "aten._local_scalar_dense")


def _moving(operations):
    return [one for one in operations if not one.startswith(OURS)]


def loaded(instance, hf, state):
    """What the load hook makes of the names of a rule: by HF name, or None where it is no tensor or dict of them."""
    import torch

    wanted = hf if isinstance(hf, str) else dict(hf)
    given = instance.maybe_modify_loaded_hf_weight(wanted, state)
    if isinstance(hf, str):
        return {hf: given} if isinstance(given, torch.Tensor) else None
    if not isinstance(given, dict) or set(given) != set(hf):
        return None
    return {name: given[role] for role, name in hf.items()}


def load_hands_on(instance, hf, tensors, kind=values.WIDE):
    names = [hf] if isinstance(hf, str) else list(hf.values())

    def run(shapes, bare):
        state = Watched(shapes, bare, kind)
        made = loaded(instance, hf, state)
        return made is not None and all(state.holds(name, tensor) for name, tensor in made.items())

    return hands_on(run, tensors, names)


def bare_task(megatron):
    """As on a rank that does not have the parameter, without a library."""
    return types.SimpleNamespace(param_name=megatron, global_param_name=megatron, mapping=None, megatron_module=None, param_weight=None,
                                 weight_dtype=None, pp_rank=0, vp_stage=0, export_hook=None)


def tasks(library, megatron, mapping, provider):
    """Tasks as the library fills them: on the rank that has the parameter, and on one that has not. `mapping` may be None."""
    import torch

    made = getattr(getattr(library, "bridge", None), "WeightConversionTask", types.SimpleNamespace)
    fields = {"param_name": megatron, "global_param_name": megatron, "mapping": mapping, "pp_rank": 0, "vp_stage": 0, "weight_dtype": None}
    module = type("ColumnParallelLinear", (torch.nn.Module,), {})()
    module.weight = torch.nn.Parameter(torch.zeros(2, 2))
    module.config = provider
    owned = made(**fields, megatron_module=module, param_weight=module.weight)
    return [owned, made(**fields, megatron_module=None, param_weight=None)]


def export_hands_on(instance, megatron, hf, tensors, loads, kind=values.WIDE, asked=None):
    """`loads`: the load hook changes the tensors first, and the export hook must bring them back. `asked`: tasks, each of which the
    hook must treat so."""
    names = [hf] if isinstance(hf, str) else list(hf.values())

    def one(task, shapes, bare):
        stored = Watched(shapes, bare, kind)
        wanted = {name: stored[name] for name in names}
        written = loaded(instance, hf, Watched(shapes, bare, kind)) if loads else wanted
        if written is None:
            return False
        given = instance.maybe_modify_converted_hf_weight(task, dict(written), Watched(shapes, bare, kind))
        whole = isinstance(given, dict) and all(name in given and stored.holds(name, given[name]) for name in wanted)
        # A name besides may be a copy, or a tensor that the checkpoint has.
        return whole and all(name in wanted or name in shapes or any(stored.holds(one, tensor) or tensor.is_meta for one in wanted)
                             for name, tensor in given.items())

    return hands_on(lambda shapes, bare: all([one(task, shapes, bare) for task in asked or [bare_task(megatron)]]), tensors, names)
