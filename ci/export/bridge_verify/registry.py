"""A mapping registry of Megatron-Bridge as rules of bridge-rules/1."""

from . import computed, known, lines, places, probed, rotary

# Methods that change nothing of what a rule says of full weights.
NO_LAYOUT = {"megatron_to_hf_quant", "_validate_patterns", "__init__", "__repr__", "gather_from_ep_ranks_scale", "is_adapter"}
# They put experts together on the way back: harmless where they were read.
IF_READ = {"gather_from_ep_ranks", "group_key", "is_grouped_export"}
PARAMETERS = ("permute_dims", "transpose_on_export", "allow_hf_name_mismatch", "is_grouped_export", "group_key")
DUNDERS = {"__module__", "__doc__", "__dict__", "__weakref__", "__orig_bases__", "__parameters__", "__abstractmethods__",
           "_abc_impl", "__slotnames__", "__annotations__", "__static_attributes__", "__firstlineno__", "__qualname__"}


def plain(value):
    """A value as JSON has it, or its text."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    return str(value)


class Registry:
    """`param_mapping` is the module of that name of the library; its classes are the stock ones."""

    def __init__(self, mappings, param_mapping, provider=None, runs=True):
        """`runs`: the classes can be run on tensors; else those alone are known whose source was read."""
        self.mappings, self.provider, self.library, self.runs = mappings, provider, param_mapping, runs
        self.seen = {}  # class -> what it does otherwise than its stock class, as of probed.differs
        self.base = param_mapping.MegatronParamMapping
        self.stock = param_mapping.__name__
        self.ids = {id(mapping): f"r{position}" for position, mapping in enumerate(mappings)}

    def rules(self):
        return [self.rule(mapping) for mapping in self.mappings]

    def rule(self, mapping):
        out = {"id": self.ids[id(mapping)], **self.kind(type(mapping), mapping), "megatron": mapping.megatron_param,
               "hf": plain(mapping.hf_param)}
        out.update(self.computed(mapping, out))
        out.update(lines.line_of(mapping, self.provider))
        if self.runs and not {"kind", "layout"} & set(out) and "module" in out:
            out.update(rotary.of_mapping(self.library, mapping, self.provider))
        if other := self.other(mapping, out):
            out["differs"] = other
        parameters = {**self.parameters(mapping), **lines.parts_of(mapping)}
        if parameters:
            out["parameters"] = parameters
        if when := self.when(mapping.megatron_param):
            out["when"] = when
        place = getattr(mapping, "_bv_place", None)
        if place is None:
            return out
        file, line, function, first, original = place
        name = mapping.megatron_param if original is None else original.megatron_param
        out["source"] = {"file": places.short(file), "line": places.line_of(file, line, first, name), "function": function}
        if original is not None:
            out["alias_of"] = self.ids.get(id(original))
            out["when"] = "unfused"
            if out["alias_of"] is not None and getattr(original, "_bv_place", None):
                file, line, function, first, _ = original._bv_place
                out["source"] = {"file": places.short(file), "line": places.line_of(file, line, first, name), "function": function}
        return out

    @staticmethod
    def when(name):
        """The setting that a parameter of this name is built under."""
        parts = name.split(".")
        return "mtp" if "mtp" in parts else "sequential" if "local_experts" in parts else None

    def computed(self, mapping, rule):
        """Names that a class computes in its `resolve`, when that is all that it changes."""
        if "resolve" not in rule.get("overrides", ()):
            return {}
        found = computed.computed(mapping)
        if found is None:
            return {}
        hf, made = found
        if made.__module__ == self.stock:
            return {"hf": hf, "kind": made.__name__}  # everything else is done by the class that it makes
        kind = self.kind(made, mapping, NO_LAYOUT | {"resolve"}).get("kind") if made is type(mapping) else None
        return {"hf": hf, "kind": kind} if kind else {}

    def other(self, mapping, rule):
        """What the class does otherwise than the kind, or the line, that stands for it."""
        cls = type(mapping)
        if known.is_other(cls):
            return f"its source is another one than that of {known.RELEASE}, which was read"
        if "module" not in rule:
            return self.differs(mapping, cls.__name__)
        stock = getattr(self.library, rule.get("kind", ""), None)
        if stock is None or not isinstance(mapping, stock):
            return None
        return self.differs(probed.as_class(mapping, stock), stock.__name__)  # what it takes from its base class

    def differs(self, mapping, stock):
        """"" for nothing, None where it cannot be seen."""
        if not self.runs:
            return None
        key = type(mapping), stock
        if key not in self.seen:
            self.seen[key] = probed.differs(self.library, probed.plain(mapping), stock)
        return self.seen[key]

    def comes_back(self, cls, mapping, stock):
        """An export of its own that does what that of `stock` does: seen by running it, else by its source."""
        seen = self.differs(mapping, stock)
        return known.is_read(cls, "megatron_to_hf") if seen is None else seen == ""

    def kind(self, cls, mapping, harmless=NO_LAYOUT):
        """A local class is judged as its first stock ancestor when it replaces nothing that places elements."""
        out = {"class": cls.__name__, "module": cls.__module__}
        if cls.__module__ == self.stock:
            del out["module"]
            return out
        local = [base for base in cls.__mro__ if base.__module__ != self.stock and issubclass(base, self.base)]
        stock = next(base for base in cls.__mro__ if base.__module__ == self.stock)
        mixins = [base for base in cls.__mro__[:cls.__mro__.index(stock)] if base not in local and base is not object]
        replaced = sorted({name for base in local + mixins for name in vars(base)} - DUNDERS)
        out["bases"] = [base.__name__ for base in cls.__mro__ if base.__module__ == self.stock and base is not self.base]
        out["overrides"] = replaced
        methods = {name for name in replaced if callable(getattr(cls, name, None)) or isinstance(
            getattr(cls, name, None), property)} | {name for name, value in vars(mapping).items() if callable(value) and hasattr(stock, name)}
        methods -= {name for name in methods & IF_READ if known.is_read(cls, name)}
        own_export = "megatron_to_hf" in methods
        if stock is not self.base and methods - {"megatron_to_hf"} <= harmless and (
                not own_export or self.comes_back(cls, mapping, stock.__name__)):
            out["kind"] = stock.__name__
        return out

    def parameters(self, mapping):
        out = {}
        for key in PARAMETERS:
            value = getattr(mapping, key, None)
            if key == "group_key" or value is None or value is False:
                continue
            out[key] = plain(value)
        return out
