"""What the exporter takes for granted of Megatron-Bridge: that its own classes name, load and write tensors as those of a release
that was read do. Held by the source of each of their functions, without comments, texts and annotations; where the library runs,
also by what stands in the place of each. What differs nobody has judged, and a run says so.

    python -m bridge_verify.granted RELEASE     the table of the installed library, to be read and then kept in granted.json
"""

import ast
import builtins
import copy
import dataclasses
import functools
import hashlib
import importlib
import json
import pathlib
import re
import sys
import sysconfig
import types

from . import places

TABLE = pathlib.Path(__file__).with_name("granted.json")
PACKAGE = "megatron.bridge"
# Files below megatron/bridge that tensors pass through, and where a reader of them starts: "*" for all that is in it.
FILES = {
    "models/conversion/auto_bridge.py": ("AutoBridge.load_hf_weights", "AutoBridge.export_hf_weights", "AutoBridge.save_hf_weights"),
    "models/conversion/model_bridge.py": ("MegatronModelBridge.load_weights_hf_to_megatron", "MegatronModelBridge.build_conversion_tasks",
                                          "MegatronModelBridge.stream_weights_megatron_to_hf", "MegatronModelBridge", "HFWeightTuple",
                                          "WeightConversionTask", "<statements>"),
    "models/conversion/mapping_registry.py": ("*",),
    "models/conversion/param_mapping.py": ("*",),
    "models/conversion/utils.py": ("<statements>",),
    "models/hf_pretrained/state.py": ("StateDict", "SafeTensorsStateSource", "SafeTensorsStateSource.load_tensors",
                                      "SafeTensorsStateSource.save_generator", "<statements>"),
    "utils/common_utils.py": ("<statements>",),
}
# Seen in another way, or of no full weight: quantised forms, adapters, and settings, which the provider's facts show.
APART = re.compile(r"[qQ]uant|fp8|amax|adapter|lora|modelopt|_config$|config_|CONFIG|provider|activation|^print_|__repr__|describe|_summary"
                   r"|^__all__$|^logger$|^mapping_registry$|ARCHITECTURES|_ALIASES$|^warn_if_deprecated_model$")
STATEMENTS = "<statements>"


@dataclasses.dataclass(frozen=True)
class Part:
    """A function, a class's head or a value of a file."""

    digest: str
    line: int
    words: frozenset  # names that it uses
    nodes: tuple = ()


@dataclasses.dataclass(frozen=True)
class Difference:
    name: str
    file: str
    line: int
    what: str


class _Plain(ast.NodeTransformer):
    """Without texts that document, and annotations."""

    def generic_visit(self, node):
        super().generic_visit(node)
        if isinstance(getattr(node, "body", None), list):
            node.body = [one for one in node.body if not _is_text(one)]
        for field in ("annotation", "returns"):
            if hasattr(node, field) and not isinstance(node, ast.AnnAssign):
                setattr(node, field, None)
        return node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)


def _form(node):
    """A syntax tree as nested lists, the same in every version of Python, without places."""
    if isinstance(node, list):
        return [_form(one) for one in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(field, getattr(node, field, None)) for field in node._fields]
    return [type(node).__name__, *([field, _form(value)] for field, value in fields
                                   if value is not None and value != [] and field not in ("ctx", "type_comment", "type_params", "kind"))]


def _is_text(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _words(nodes):
    return {one.id if isinstance(one, ast.Name) else one.attr for node in nodes for one in ast.walk(node)
            if isinstance(one, (ast.Name, ast.Attribute))}


def _bound(node):
    """Names that a statement gives a value."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    return [one.id for target in targets for one in ([target] if isinstance(target, ast.Name) else getattr(target, "elts", ()))
            if isinstance(one, ast.Name)]


def _named(node):
    """(name, what stands for it) of a statement; STATEMENTS where it does something else than to name."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            one = copy.copy(node)
            one.names = [alias]
            yield STATEMENTS if alias.name == "*" else (alias.asname or alias.name).split(".")[0], one
        return
    if isinstance(node, ast.If) or isinstance(node, ast.Try):
        inner = [one for one in ast.walk(node) if isinstance(one, ast.stmt) and one is not node]
        names = sorted({name for one in inner for name in _bound(one)})
        yield from ((name, node) for name in names)
        if not names or any(isinstance(one, ast.Expr) and not _is_text(one) for one in inner):
            yield STATEMENTS, node
        return
    names = _bound(node)
    yield from ((name, node) for name in names or [STATEMENTS])


def _digest(forms):
    return hashlib.sha256(repr(forms).encode()).hexdigest()[:12]


@functools.lru_cache(maxsize=None)
def parts(text):
    """name -> Part of the text of a file; a class's members are "Class.member"."""
    found = {}

    def add(name, thing):
        found.setdefault(name, []).append(thing)

    for node in _Plain().visit(ast.parse(text)).body:
        if _is_text(node):
            continue
        if not isinstance(node, ast.ClassDef):
            for name, thing in _named(node):
                add(name, thing)
            continue
        head = ast.ClassDef(name=node.name, bases=node.bases, keywords=node.keywords, body=[], decorator_list=node.decorator_list,
                            lineno=node.lineno)
        add(node.name, head)
        for inner in node.body:
            if not _is_text(inner) and not isinstance(inner, ast.Pass):
                for name, thing in _named(inner):
                    add(f"{node.name}.{name}", thing)
    def part(things):
        return Part(_digest([_form(one) for one in things]), min(one.lineno for one in things), frozenset(_words(things)), tuple(things))

    return {name: part(things) for name, things in found.items()}


def of_folder(folder):
    """file -> name -> Part of the library's files below megatron/bridge, those that are there."""
    out = {}
    for file in FILES:
        path = pathlib.Path(folder) / file
        out[file] = parts(path.read_text()) if path.is_file() else {}
    return out


def reached(files):
    """file -> names of what a tensor passes through: from FILES on, whatever a part names that one of the files has."""
    by_word = {}
    for file, names in files.items():
        for name in names:
            by_word.setdefault(name.rpartition(".")[2], []).append((file, name))
    todo = [(file, name) for file, roots in FILES.items() for name in files[file]
            if name in roots or "*" in roots or name.endswith("." + STATEMENTS) and name.split(".")[0] in roots]
    seen = set()
    while todo:
        file, name = todo.pop()
        if (file, name) in seen or any(APART.search(part) for part in name.split(".")):
            continue
        seen.add((file, name))
        for word in files[file][name].words:
            todo += by_word.get(word, ())
        if "." not in name:  # a class: what it does without being named
            todo += [(file, other) for other in files[file] if re.fullmatch(re.escape(name) + r"\.(__\w+__|<statements>)", other)]
        else:
            todo.append((file, name.split(".")[0]))
    return {file: sorted(name for at, name in seen if at == file) for file in FILES}


def within(found, start):
    """Names of the parts of a file that a function or class of it is made of: its own, and what they name, in order."""
    todo, seen = [start, *(name for name in found if name.startswith(f"{start}."))], set()
    owner = start.split(".")[0]
    while todo:
        name = todo.pop()
        if name in seen or name not in found:
            continue
        seen.add(name)
        for word in found[name].words:
            todo += [word, f"{name.split('.')[0]}.{word}"]
            if word != owner:  # a class that it makes, with all that it does
                todo += [other for other in found if other.startswith(f"{word}.")]
    return sorted(seen)


def table(folder):
    """What granted.json holds of a release: digests of whole files, and of the parts that a tensor passes through."""
    files = of_folder(folder)
    return {"files": {file: _of_bytes(folder, file) for file in FILES},
            "parts": {file: {name: files[file][name].digest for name in names} for file, names in reached(files).items()}}


def _of_bytes(folder, file):
    path = pathlib.Path(folder) / file
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else ""


@functools.lru_cache(maxsize=None)
def releases():
    return json.loads(TABLE.read_text())


def _place(file):
    return f"megatron/bridge/{file}"


def _of_file(found, wanted, file, release):
    """Differences of a file's parts."""
    for name, digest in wanted.items():
        if name not in found:
            yield Difference(name, _place(file), 1, f"is not there; {release} has it")
        elif found[name].digest != digest:
            yield Difference(name, _place(file), found[name].line, f"is not that of {release}")


def _new(found, wanted, members, file, release):
    """Parts that the release does not have and that take the place of something."""
    for name, part in found.items():
        owner, _, member = name.rpartition(".")
        takes = (name in vars(builtins) or member == STATEMENTS) if not owner else owner in wanted and (
            member in members or member == STATEMENTS or member.startswith("__"))
        if takes and name not in wanted:
            yield Difference(name, _place(file), part.line, f"is new since {release}")


def _against(folder, release):
    known = releases()[release]
    members = {name.rpartition(".")[2] for parts in known["parts"].values() for name in parts if "." in name}
    out = []
    for file, wanted in known["parts"].items():
        if _of_bytes(folder, file) == known["files"][file]:
            continue
        path = pathlib.Path(folder) / file
        found = parts(path.read_text()) if path.is_file() else {}
        out += _of_file(found, wanted, file, release)
        out += _new(found, wanted, members, file, release)
    return out


@functools.lru_cache(maxsize=None)
def in_files(folder):
    """(the known release that the library is, or is nearest to; Differences of the files from it)."""
    release, found = min(((release, _against(folder, release)) for release in releases()), key=lambda one: len(one[1]))
    return release, tuple(found)


def _layers(value):
    """The functions that a value of a class or module is made of, outermost first; [] for what is no function."""
    value = getattr(value, "__func__", value)
    value = getattr(value, "fget", None) or getattr(value, "func", None) or value
    out = []
    while value is not None and (isinstance(value, types.FunctionType) or hasattr(value, "__wrapped__")) and len(out) < 20:
        out += [value] if isinstance(value, types.FunctionType) else []
        value = getattr(value, "__wrapped__", None)
    return out


def _is_machinery(file):
    """Decorators of Python, of torch and our own watch of constructors change no tensor."""
    here = pathlib.Path(file)
    torch = getattr(sys.modules.get("torch"), "__file__", None)
    roots = [pathlib.Path(sysconfig.get_paths()["stdlib"]), TABLE.parent, *([pathlib.Path(torch).parent] if torch else [])]
    return "site-packages" not in str(here.relative_to(roots[0])) if here.is_relative_to(roots[0]) else any(
        here.is_relative_to(root) for root in roots[1:])


def stranger(value, path, lines):
    """(file, line) of a function that stands where the file `path` defines another; None: it is that of the file."""
    for function in _layers(value):
        code = function.__code__
        own = code.co_filename == str(path) and code.co_firstlineno in lines
        if not own and not (code.co_filename != str(path) and _is_machinery(code.co_filename)):
            return code.co_filename, code.co_firstlineno
    return None


def _imported(node):
    """What a name that is imported from Megatron-Bridge stands for."""
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(PACKAGE) or node.module not in sys.modules:
        return None
    return getattr(sys.modules[node.module], node.names[0].name, None)


def _replaced(holder, name, part, path):
    """Why what a class or module holds is not what its file says; None where it is."""
    node = part.nodes[-1]
    if name not in vars(holder):
        defined = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))  # a field of a dataclass has no value
        return "was removed while the library was imported" if defined else None
    value = vars(holder)[name]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        other = stranger(value, path, {one.lineno for one in part.nodes} | {part.line} | {
            min([one.lineno, *(each.lineno for each in getattr(one, "decorator_list", ()))]) for one in part.nodes})
        return other and f"was replaced by what stands in {places.short(other[0])}:{other[1]}"
    if isinstance(node, ast.ClassDef):
        return None if isinstance(value, type) and value.__module__ == holder.__name__ else "was replaced while the library was imported"
    wanted = _imported(node)
    return "was replaced while the library was imported" if wanted is not None and value is not wanted else None


def in_place(folder):
    """Differences of what is imported from what the files say: parts that were replaced by other code."""
    known = releases()[in_files(folder)[0]]["parts"]
    members = {name.rpartition(".")[2] for names in known.values() for name in names if "." in name} - {"__init__"}
    out = []
    for file, wanted in known.items():
        module = sys.modules.get(f"{PACKAGE}.{file[:-3].replace('/', '.')}")
        path = pathlib.Path(folder) / file
        if module is None or not path.is_file():
            continue
        found = parts(path.read_text())
        for name in wanted:
            owner, _, member = name.rpartition(".")
            holder = vars(module).get(owner) if owner else module
            if name in found and holder is not None and member != STATEMENTS and (why := _replaced(holder, member, found[name], path)):
                out.append(Difference(name, _place(file), found[name].line, why))
        for owner in (name for name in wanted if isinstance(vars(module).get(name), type) and "." not in name):
            if vars(module)[owner].__module__ == module.__name__:
                out += [Difference(f"{owner}.{name}", _place(file), found[owner].line, "was put there while the library was imported")
                        for name, value in vars(vars(module)[owner]).items()
                        if name in members and f"{owner}.{name}" not in found and _layers(value)]
    return out


def overridden(cls, base, own=()):
    """Names of `base`, a class of FILES, that `cls` or an instance with the attributes `own` has otherwise: (class, name)."""
    names = {name.rpartition(".")[2] for known in releases().values() for parts_of in known["parts"].values() for name in parts_of
             if name.split(".")[0] in {one.__name__ for one in base.__mro__} and "." in name}
    above = [one for one in cls.__mro__ if one not in base.__mro__]
    names = {name for name in names if not name.startswith("__")} | {"__getattribute__"}
    return [(one, name) for one in above for name in vars(one) if name in names] + [
        (cls, name) for name in own if name in names and callable(own[name])]


def main(words):
    from importlib.util import find_spec

    from .export import text_of

    print(text_of({words[0]: table(pathlib.Path(find_spec(PACKAGE).submodule_search_locations[0]))}))


if __name__ == "__main__":
    main(sys.argv[1:])
