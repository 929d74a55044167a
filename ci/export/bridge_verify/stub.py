"""Registries without their libraries: the bridge files of a checkout are run, everything around them is a stand-in.

No torch, no Megatron-Core, no transformers. What a registry asks of a stand-in and only the library knows is an error that
names it: a rule is never guessed.
"""

import abc
import ast
import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import pathlib
import re
import sys
import types

from . import live

# Packages that are stood in for, whether they are here or not: the result is the same everywhere.
PACKAGES = ("torch", "transformers", "transformer_engine", "megatron.core", "megatron.training", "megatron.energon", "safetensors", "rich",
            "numpy", "einops", "accelerate", "huggingface_hub", "tqdm", "yaml", "omegaconf", "modelopt", "datasets", "PIL", "diffusers",
            "flash_attn", "mamba_ssm", "causal_conv1d", "fla", "nvidia_resiliency_ext", "peft", "packaging", "typing_extensions")
ROOT = "megatron.bridge"
# Of Megatron-Bridge itself: what makes registries is run. Its providers, models and training are not.
RUN = re.compile(r"megatron\.bridge\.utils\.activation_map$|megatron\.bridge\.(models|diffusion)\.(.*\.)?(conversion\.(?!auto_bridge|modelopt_utils)[^.]+|decorators\.[^.]+"
                 r"|[^.]*_bridge|[^.]*mappings?(_utils)?|common|configuration_[^.]*)$")
# What is true in a process that has no GPU and no group of processes.
TRUE_HERE = {"torch.distributed.is_initialized": False, "torch.distributed.is_available": False, "torch.cuda.is_available": False,
             "megatron.core.mpu.is_initialized": False, "megatron.core.mpu.model_parallel_is_initialized": False,
             "megatron.core.parallel_state.is_initialized": False, "megatron.core.parallel_state.model_parallel_is_initialized": False}


class Unknown(Exception):
    """Asked of a stand-in what only the library knows."""


class _Asked:
    """What was decided by a stand-in while it was allowed: names, in order. `strict`: nothing is."""

    strict, names = False, []

    @classmethod
    def note(cls, name, question):
        if cls.strict:
            raise Unknown(f"{question} {name}, which stub mode does not run; use --mode live with Megatron-Bridge installed")
        cls.names.append(name)


def _name(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


class _Fields(dict):
    """The fields of a class that is not known. The filter of the base class's provider_bridge keeps all; others ask the library."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def __contains__(self, key):
        if sys._getframe(1).f_globals.get("__name__") != f"{ROOT}.models.conversion.model_bridge":
            _Asked.note(self.name, f"{key} is looked for in")
        return True


class StandIn(abc.ABCMeta):
    """A class of a stand-in: a base, an annotation, a decorator, a constant."""

    def __getattr__(cls, name):
        if "_bv_stand_in" in vars(cls) and name in ("__dataclass_fields__", "__dataclass_params__"):
            return _Fields(_name(cls)) if name == "__dataclass_fields__" else types.SimpleNamespace(frozen=False)
        if name.startswith("__"):
            raise AttributeError(name)
        made = _made(name, cls.__module__, f"{cls.__qualname__}.{name}")
        setattr(cls, name, made)
        return made

    def __call__(cls, *args, **kwargs):
        if "_bv_stand_in" not in vars(cls):
            return super().__call__(*args, **kwargs)
        if _name(cls) in TRUE_HERE:
            return TRUE_HERE[_name(cls)]
        if len(args) == 1 and not kwargs and isinstance(args[0], (types.FunctionType, type)):
            return args[0]  # a decorator
        if not cls.__qualname__.endswith("Provider"):
            _Asked.note(_name(cls), "the registry calls")
        return super().__call__(*args, **kwargs)

    def __bool__(cls):
        if "_bv_stand_in" in vars(cls):
            _Asked.note(_name(cls), "the registry branches on")
        return True

    def register(cls, *args, **kwargs):
        return None if "_bv_stand_in" in vars(cls) else super().register(*args, **kwargs)

    def __iter__(cls):
        raise Unknown(f"{_name(cls)} is looped over, which stub mode does not run; use --mode live with Megatron-Bridge installed")

    def __getitem__(cls, key):
        return cls

    __hash__ = type.__hash__

    def __eq__(cls, other):
        if cls is not other and not isinstance(other, type) and "_bv_stand_in" in vars(cls):
            _Asked.note(_name(cls), "the registry compares with")
        return cls is other


class _Instance:
    """Holds what it was given; anything else of it is not known."""

    def __init__(self, *args, **kwargs):
        vars(self).update(kwargs)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__()

    def __call__(self, *args, **kwargs):
        if len(args) == 1 and not kwargs and isinstance(args[0], (types.FunctionType, type)):
            return args[0]
        _Asked.note(_name(type(self)), "the registry calls a")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return False

    def __getattr__(self, name):
        if "_bv_stand_in" not in vars(type(self)):
            raise AttributeError(name)
        raise AttributeError(f"{name} of {_name(type(self))}, which stub mode does not know")


def _made(name, module, qualified):
    return StandIn(name, (_Instance,), {"__module__": module, "__qualname__": qualified, "_bv_stand_in": True})


class _Module(types.ModuleType):
    """A module that is not run. A name of it is the submodule where there is one, else a class."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if "_bv_real" in vars(self):
            if _file(f"{self.__name__}.{name}") is not None:
                return importlib.import_module(f"{self.__name__}.{name}")
            home = _exports(self.__name__).get(name)
            if home is not None and RUN.match(home[0]):
                return getattr(importlib.import_module(home[0]), home[1])
        made = _made(name, self.__name__, name)
        setattr(self, name, made)
        return made


_roots = []


def _file(name):
    """The file or folder of a module of Megatron-Bridge; None: it has none."""
    for root in _roots:
        path = root.joinpath(*name.split(".")[2:])
        if path.is_dir():
            return path
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
    return None


@functools.lru_cache(maxsize=None)
def _exports(package):
    """name -> (module, name there) of what the __init__ of a package hands on, which is not run."""
    file = _file(package)
    if file is None or not (file / "__init__.py").is_file():
        return {}
    found = [node for node in ast.walk(ast.parse((file / "__init__.py").read_text())) if isinstance(node, ast.ImportFrom)]
    return {(alias.asname or alias.name): (f"{package}.{node.module}" if node.level else node.module, alias.name)
             for node in found for alias in node.names}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self):
        self.replaced = set()

    def find_spec(self, fullname, path=None, target=None):
        if fullname == "megatron":
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        if fullname == ROOT or fullname.startswith(ROOT + "."):
            return self._of_bridge(fullname)
        for package in PACKAGES:
            if fullname == package or fullname.startswith(package + "."):
                self.replaced.add(package)
                return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def _of_bridge(self, fullname):
        path = _file(fullname)
        if path is None and fullname != ROOT:
            return None
        if path is not None and path.is_file() and RUN.match(fullname):
            return importlib.util.spec_from_file_location(fullname, path)
        spec = importlib.machinery.ModuleSpec(fullname, self, is_package=path is None or path.is_dir())
        if path is not None and path.is_file():
            self.replaced.add(fullname)
        return spec

    def create_module(self, spec):
        module = _Module(spec.name)
        if spec.name == ROOT or spec.name.startswith(ROOT + "."):
            path = _file(spec.name)
            if path is None or path.is_dir():
                module._bv_real = True
                spec.submodule_search_locations = [str(path)] if path else []
        return module

    def exec_module(self, module):
        module.__version__ = "0"
        if module.__name__.startswith("typing_extensions"):
            import typing

            vars(module).update({name: getattr(typing, name) for name in typing.__all__})


def install(repository):
    """Stand-ins for everything but the bridge files of a checkout, or of the installed package. Returns their names, which grow."""
    if repository:
        places = [pathlib.Path(repository) / "src" / "megatron" / "bridge", pathlib.Path(repository) / "megatron" / "bridge"]
    else:
        places = [pathlib.Path(entry) / "megatron" / "bridge" for entry in sys.path]
    found = [place for place in places if (place / "models" / "conversion" / "param_mapping.py").is_file()]
    if not found:
        raise live.Trouble(f"there is no Megatron-Bridge in {repository}" if repository else
                           "there is no Megatron-Bridge to read: name a checkout with --bridge-repo, or install it")
    loaded = sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "megatron", "transformers"))
    if loaded:
        raise live.Trouble(f"stub mode wants a process of its own: {loaded[0]} is imported already")
    _roots[:] = found[:1]
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    return finder.replaced


class Config:
    """config.json with its keys as attributes. Those that were asked for and are not there are remembered."""

    torch_dtype = dtype = None  # every config of transformers has them

    def __init__(self, content, asked, path=""):
        self.__dict__.update({key: Config(value, asked, f"{path}{key}.") if isinstance(value, dict) and key.endswith("_config") else value
                              for key, value in content.items()})
        for name, other in (("torch_dtype", "dtype"), ("dtype", "torch_dtype")):
            self.__dict__.setdefault(name, content.get(other))
        self.__dict__.update(_bv_content=content, _bv_asked=asked, _bv_path=path)

    def __getattr__(self, name):
        if not name.startswith("_"):
            self._bv_asked.append(f"{self._bv_path}{name}")
        raise AttributeError(f"config.json has no {self._bv_path}{name}")

    def get_text_config(self, *args, **kwargs):
        return next((vars(self)[key] for key in ("text_config", "llm_config", "thinker_config") if key in vars(self)), self)

    def to_dict(self):
        return dict(self._bv_content)


class _Shape:
    def __init__(self, shape):
        self.shape, self.ndim = tuple(shape or ()), len(shape or ())


class _Tensors(dict):
    """Names and shapes where a registry looks for tensors."""

    def __init__(self, tensors):
        super().__init__({name: _Shape(shape) for name, shape in tensors.items()})
        self.source = self

    def get_all_keys(self):
        return sorted(self)

    def has_glob(self, pattern):
        form = re.compile(re.escape(pattern).replace(r"\*", ".*") + r"\Z")
        return any(form.match(name) for name in self)


class Library(live.Library):
    """The bridge classes of a checkout, run without what they import."""

    def version(self):
        text = (_roots[0] / "package_info.py").read_text() if (_roots[0] / "package_info.py").is_file() else ""
        numbers = [re.search(rf"^{name} = [\"']?([^\"'\n]*)", text, re.M) for name in ("MAJOR", "MINOR", "PATCH")]
        return {"megatron-bridge": ".".join(found[1] for found in numbers)} if all(numbers) else {}

    def bridge_of(self, cls, config, tensors):
        return Bridge(self, cls, config, tensors)

    def hf_config(self, config):
        self.asked = []
        return Config(live._decoded(config), self.asked), True

    def source(self, tensors):
        return _Tensors(tensors)


class Bridge(live.Bridge):
    runs = False

    def _provider(self):
        """What it is told is a fact. What it asked is not known, and neither is what the bridge noted by it."""
        _Asked.strict, _Asked.names = False, []
        before = dict(vars(self.instance))
        provider = super()._provider()
        if not _Asked.names:
            return provider
        noted = sorted(key for key, value in vars(self.instance).items() if key not in before or before[key] is not value)
        self.trouble.append(f"provider_bridge asked {', '.join(sorted(set(_Asked.names)))}, which stub mode does not run: its facts are "
                            f"left out{', and the rules may be those of another case: it noted ' + ', '.join(noted) if noted else ''}")
        return None

    def _registry(self):
        self.library.asked.clear()
        _Asked.strict = True
        try:
            registry = super()._registry()
        finally:
            _Asked.strict = False
        if self.library.asked:
            self.trouble.append(f"the registry asked the config for {', '.join(sorted(set(self.library.asked)))}, which config.json does "
                                "not have: transformers may have another default")
        return registry

    def _asked_again(self):
        _Asked.strict = True
        try:
            return super()._asked_again()
        finally:
            _Asked.strict = False

    def facts(self):
        return {key: value for key, value in super().facts().items() if _is_told(getattr(self.provider, key, None))}

    def exports(self, rules, touched):
        """No hook is run here: what a hook that was read does is known."""
        return [] if self.runner.is_read(live.EXPORT) else None

    def touched(self, rules):
        return [] if self.hooks()[live.HOOKS[0]] == "base" else None


def _is_told(value):
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
