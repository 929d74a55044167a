"""Registries of the installed Megatron-Bridge. Import this module after stand_ins.install()."""

import contextlib
import importlib
import importlib.metadata
import inspect
import io
import logging
import pathlib
import pkgutil
import types
import warnings

from . import granted, hook_runs, known, norms, objects, places, rotary
from .registry import Registry, plain

HOOKS = ("maybe_modify_loaded_hf_weight", "maybe_modify_converted_hf_weight", "build_conversion_tasks",
         "load_weights_hf_to_megatron", "stream_weights_megatron_to_hf")
FACTS = ("normalization", "layernorm_zero_centered_gamma", "share_embeddings_and_output_weights", "gated_linear_unit",
         "add_bias_linear", "add_qkv_bias", "qk_layernorm", "multi_latent_attention", "num_layers", "hidden_size",
         "ffn_hidden_size", "num_attention_heads", "num_query_groups", "kv_channels", "q_lora_rank", "kv_lora_rank",
         "qk_head_dim", "qk_pos_emb_head_dim", "v_head_dim", "num_moe_experts", "moe_ffn_hidden_size", "moe_layer_freq",
         "moe_shared_expert_intermediate_size", "moe_grouped_gemm", "mtp_num_layers", "vocab_size",
         "make_vocab_size_divisible_by", "should_pad_vocab", "linear_num_key_heads", "linear_key_head_dim",
         "linear_num_value_heads", "linear_value_head_dim", "mamba_num_heads", "mamba_head_dim", "mamba_num_groups",
         "mamba_state_dim", "attention_output_gate", "hybrid_layer_pattern", "tensor_model_parallel_size", "rotary_interleaved", "rotary_percent",
         "moe_mlp_glu_interleave_size", "position_embedding_type", "moe_router_enable_expert_bias", "moe_latent_size")
LOAD, EXPORT, *FLOW = HOOKS


class Trouble(Exception):
    """Something that a person can act on."""


@contextlib.contextmanager
def quiet():
    """Libraries print while they are imported and while they build; stdout is for our result."""
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
    logging.disable(logging.NOTSET)


class Library:
    """The installed package, with its bridge classes by name."""

    def __init__(self):
        try:
            self.package = importlib.import_module("megatron.bridge")
            self.mapping = importlib.import_module("megatron.bridge.models.conversion.param_mapping")
            self.bridge = importlib.import_module("megatron.bridge.models.conversion.model_bridge")
            self.state = importlib.import_module("megatron.bridge.models.hf_pretrained.state")
            self.registry = importlib.import_module("megatron.bridge.models.conversion.mapping_registry")
        except ImportError as error:
            raise Trouble(f"Megatron-Bridge cannot be imported: {error}. Install it (pip install --no-deps megatron-bridge "
                          "megatron-core transformer-engine)") from error
        places.watch(self.mapping.MegatronParamMapping, {self.mapping.__file__, self.registry.__file__})
        self.trouble = self._import_all()

    def _import_all(self):
        """Bridges register themselves when their module is imported; not every module is by its package."""
        failed = []
        for part in ("models", "diffusion.conversion"):
            with contextlib.suppress(ImportError):
                folder = importlib.import_module(f"megatron.bridge.{part}")
                for found in pkgutil.walk_packages(folder.__path__, folder.__name__ + ".", onerror=lambda name: None):
                    if not found.name.endswith("_bridge") or "conversion." in found.name and part == "models":
                        continue
                    try:
                        importlib.import_module(found.name)
                    except Exception as error:  # a missing optional package must not hide the other bridges
                        failed.append(f"{found.name} cannot be imported: {type(error).__name__}: {error}")
        return failed

    def classes(self):
        """Concrete bridge classes by name, sorted."""
        found, todo = {}, [self.bridge.MegatronModelBridge]
        while todo:
            for cls in todo.pop().__subclasses__():
                todo.append(cls)
                if not inspect.isabstract(cls):
                    found[cls.__name__] = cls
        return dict(sorted(found.items()))

    def folder(self):
        """megatron/bridge of the library that was imported."""
        return pathlib.Path(self.mapping.__file__).parents[2]

    def file_of(self, cls):
        try:
            return places.short(inspect.getfile(cls))
        except (OSError, TypeError):  # typed into an interpreter or a notebook
            return cls.__module__

    def version(self):
        out = {}
        for name in ("megatron-bridge", "megatron-core", "transformers", "torch"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                out[name] = importlib.metadata.version(name)
        return out

    def bridge_of(self, cls, config, tensors):
        return Bridge(self, cls, config, tensors)

    def hf_config(self, config):
        return hf_config(config)

    def source(self, tensors):
        return _source(self, tensors)

    def for_architectures(self, architectures):
        """The class that the library itself would dispatch to."""
        classes = self.classes().values()
        for architecture in architectures:
            for cls in classes:
                if cls.SOURCE_NAME == architecture:
                    return cls
        for architecture in architectures:  # registered under a second name
            with contextlib.suppress(Exception):
                return type(self.bridge.get_model_bridge(architecture))
        raise Trouble(self.with_trouble(f"no bridge is registered for {', '.join(architectures) or 'a config without architectures'}; "
                                        "name one with --bridge (--list shows them)"))

    def with_trouble(self, said):
        """That there is no bridge, and the files that could not be imported: it may be in one of them."""
        return "\n  ".join([said, *self.trouble])


def _decoded(value):
    """transformers writes an infinite number as {"__float__": "Infinity"}."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {key: _decoded(one) for key, one in value.items()}
    return [_decoded(one) for one in value] if isinstance(value, list) else value


def hf_config(config):
    """The config class of transformers, else an object with the same attributes."""
    import transformers

    config = _decoded(config)
    with contextlib.suppress(Exception):
        made = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
        made.architectures = config.get("architectures")
        return made, True
    made = transformers.PretrainedConfig.from_dict(dict(config))
    for key, value in config.items():
        if isinstance(value, dict) and (key.endswith("_config") or key in ("text_config", "llm_config")):
            setattr(made, key, hf_config(value)[0])
        elif not hasattr(made, key):
            with contextlib.suppress(Exception):
                setattr(made, key, value)
    return made, False


def _source(library, tensors):
    """The library's own StateDict over names and shapes; a tensor is made when it is asked for."""
    import torch

    class Names(library.state.StateSource):
        def get_all_keys(self):
            return sorted(tensors)

        def load_tensors(self, keys):
            return {key: torch.zeros(tensors[key] or [], dtype=torch.bfloat16, device="meta") for key in keys if key in tensors}

    return library.state.StateDict(Names())


class Bridge:
    """One bridge class on one config."""

    runs = True  # its classes can be run on tensors

    def __init__(self, library, cls, config, tensors):
        self.library, self.cls, self.config, self.tensors = library, cls, config, tensors
        self.trouble, self.read_by_hook = [], set()
        made, known = library.hf_config(config)
        if not known:
            self.trouble.append(f"transformers has no config class for model_type {config.get('model_type')}: "
                                "its attributes are those of config.json alone, without defaults")
        self.pretrained = types.SimpleNamespace(config=made, hf_config=made, model_name_or_path=config.get("_name_or_path", ""),
                                                trust_remote_code=False, generation_config=None)
        if tensors:
            self.pretrained.state = library.source(tensors)
        else:
            self.trouble.append("no tensor names were given: a registry that looks at them takes its default branch")
        self.instance = self._instance()
        self.provider = self._provider()
        self.registry = self._registry()
        self.other_registry = objects.another(self.registry, self._asked_again())
        self.runner = hook_runs.Hooks(self)

    def _instance(self):
        made = self.cls()
        made.hf_pretrained, made.hf_config = self.pretrained, self.pretrained.config
        return made

    def again(self):
        """A bridge that was asked nothing yet, with what provider_bridge notes."""
        try:
            made = self._instance()
            made.provider_bridge(self.pretrained)
            return made
        except Exception:  # its trouble is told of the first one
            return self.instance

    def _asked_again(self):
        """Registries of further calls, on the same bridge and on a fresh one: a load and an export ask for one each."""
        out = []
        for make in (lambda: self.instance, lambda: self.instance, self.again if self.runs else lambda: self.instance):
            try:
                out.append(make().mapping_registry())
            except Exception as error:
                out.append(error)
        return out

    def _provider(self):
        """Some bridges note facts here that their registry needs, so it comes first."""
        try:
            return self.instance.provider_bridge(self.pretrained)
        except Exception as error:
            self.trouble.append(f"provider_bridge failed: {type(error).__name__}: {error}")
            return None

    def _registry(self):
        try:
            return self.instance.mapping_registry()
        except Exception as error:
            raise Trouble(f"{self.cls.__name__}.mapping_registry() failed: {type(error).__name__}: {error}") from error

    def facts(self):
        out = {}
        for name in FACTS:
            value = getattr(self.provider, name, None)
            if value is not None and not callable(value):
                out[name] = plain(value)
        if self.runs and (seen := self._rotary()):
            out["rotary"] = seen
        if rows := rotary.rows(self.pretrained.config, self.config, self.provider, self.runs):
            out["rotary_rows"] = rows
        spec, make = getattr(self.provider, "transformer_layer_spec", None), getattr(type(self.provider), "provide", None)
        if inspect.isfunction(spec) and inspect.isfunction(make):
            own = spec if make.__module__.endswith(".gpt_provider") else make  # a provider that builds in its own way
            out["layer_spec"] = f"{own.__module__}.{own.__qualname__}"
        return out

    def _rotary(self):
        """Which rows of a head turn together, as both sides' functions were seen to do it; {} where one could not be looked at."""
        try:
            hf = rotary.of_hf((self.config.get("architectures") or [""])[0])
        except Exception:
            return {}
        megatron = rotary.of_megatron(self.provider)
        return {"hf": hf, "megatron": megatron} if hf and megatron else {}

    def hooks(self):
        """The class that has each hook; "base" for that of the base class as the known release has it."""
        base = self.library.bridge.MegatronModelBridge
        changed = {one.name for one in self._of_base() if one.name.endswith((LOAD, EXPORT))}
        out = {}
        for name in HOOKS:
            owner = self.cls if name in vars(self.instance) else next((cls for cls in self.cls.__mro__ if name in vars(cls)), base)
            out[name] = "base" if owner is base and f"{base.__name__}.{name}" not in changed else owner.__name__
        return out

    def _of_base(self):
        """What the library's own classes do otherwise than those of the release that was read: its files, and what is imported."""
        folder = self.library.folder()
        release, found = granted.in_files(folder)
        return [*found, *(granted.in_place(folder) if self.runs else ())]

    def base(self):
        """Rows of hooks.base: of the library, of what this bridge puts in place of it, and of its registry."""
        base, registry = self.library.bridge.MegatronModelBridge, self.library.registry.MegatronMappingRegistry
        tried = {f"{base.__name__}.{name}" for name in (LOAD, EXPORT)} if self.runs else ()  # they are run, and their rules named
        rows = [vars(one) for one in self._of_base() if one.name not in tried]
        found = [(base, *one) for one in granted.overridden(self.cls, base, vars(self.instance)) if one[1] not in HOOKS]
        found += [(registry, *one) for one in granted.overridden(type(self.registry), registry, vars(self.registry))]
        rows += [{"name": f"{cls.__name__}.{name}", "file": self.library.file_of(cls), "line": places.defined_at(cls, name),
                  "what": f"stands in place of {of.__name__}.{name}, which was read"} for of, cls, name in found]
        used = [mapping for _, mapping in getattr(self.registry, "_compiled_patterns", ())]
        if hasattr(self.registry, "_compiled_patterns") and [*map(id, used)] != [*map(id, self.registry.mappings)]:
            rows.append({"name": f"{self.cls.__name__}.mapping_registry", "file": self.library.file_of(self.cls),
                         "line": places.defined_at(self.cls, "mapping_registry"),
                         "what": "changes the list of mappings of its registry after it was made, which then uses others than it lists"})
        if told := objects.other_types(self.library.mapping):
            rows.append({"name": "AutoMapping.register_module_type", "file": places.short(self.library.mapping.__file__), "line": 1, "what": told})
        if self.other_registry:
            rows.append({"name": f"{self.cls.__name__}.mapping_registry", "file": self.library.file_of(self.cls),
                         "line": places.defined_at(self.cls, "mapping_registry"), "what": self.other_registry})
        return rows

    def known(self):
        """Methods that load or write all tensors and were read: they change none."""
        return [name for name in FLOW if self.hooks()[name] != "base" and self.runner.is_read(name)]

    def exports(self, rules, touched):
        """Rules whose tensors the export hook changes, as of hook_runs."""
        return self.runner.exports(rules, touched)

    def touched(self, rules):
        """Rules whose tensors the load hook changes, as of hook_runs."""
        return self.runner.touched(rules)

    def norms(self, model, rows):
        """facts.norms: both sides as their modules were seen to compute; {} where one side could not be looked at."""
        names = self.config.get("architectures") or [""]
        try:
            hf = norms.of_hf(self.pretrained.config, names[0], self.tensors) or norms.of_remote(names[0], self.config, self.tensors)
        except Exception as error:
            self.trouble.append(f"the norms of {names[0]} cannot be looked at: {type(error).__name__}: {error}")
            return {}
        megatron = norms.of_megatron(model, rows)
        return {"hf": hf, "megatron": megatron} if hf and megatron else {}

    def rules(self):
        """Rules of the registry, each held against what its mapping objects do."""
        rules = Registry(self.registry.mappings, self.library.mapping, self.provider, self.runs).rules()
        for rule, mapping in zip(rules, self.registry.mappings, strict=True):
            if other := objects.differs(self, rule, mapping):
                rule.setdefault("differs", other)
        return rules
