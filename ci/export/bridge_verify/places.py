"""Where in a bridge's source each mapping was written."""

import ast
import contextlib
import functools
import inspect
import pathlib
import sys

COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")


def watch(mapping_class, machinery):
    """Wraps the constructor: every mapping then knows the frame that made it, outside the files of `machinery`."""
    made = mapping_class.__init__
    if hasattr(made, "__wrapped__"):
        return

    @functools.wraps(made)
    def watched(self, *args, **kwargs):
        place = _maker(sys._getframe(1), self, machinery)
        made(self, *args, **kwargs)
        self._bv_place = place

    mapping_class.__init__ = watched


def _maker(frame, mapping, machinery):
    """(file, line, function, first line of it, the mapping it is a copy of)."""
    original = None
    while frame is not None:
        code = frame.f_code
        own_constructor = code.co_name == "__init__" and frame.f_locals.get("self") is mapping
        if code.co_filename in machinery:
            if code.co_name == "_add_separate_layernorm_mappings":
                original = frame.f_locals.get("mapping")
        elif not own_constructor:
            line = frame.f_lineno
            while frame.f_code.co_name in COMPREHENSIONS and frame.f_back is not None:  # frames of their own before Python 3.12
                frame = frame.f_back
            return code.co_filename, line, frame.f_code.co_name, frame.f_code.co_firstlineno, original
        frame = frame.f_back
    return None


@functools.lru_cache(maxsize=None)
def _literals(file):
    """Each text of a source file with its line; of a formatted text its constant parts."""
    try:
        tree = ast.parse(pathlib.Path(file).read_text())
    except (OSError, SyntaxError, ValueError):
        return []
    return [(node.value, node.lineno) for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def line_of(file, constructed_at, first, name):
    """The line that has the name, or the longest ending of it, nearest to where the mapping was constructed."""
    words = name.split(".")
    for drop in range(min(len(words), 6)):
        ending = ".".join(words[drop:])
        lines = [line for text, line in _literals(file)
                 if text == ending or (text.endswith(ending) and drop == 0) or text.endswith("." + ending)]
        within = [line for line in lines if line >= first] or lines
        if within:
            return min(within, key=lambda line: abs(line - constructed_at))
    return constructed_at


def defined_at(cls, name):
    """The first line of what a class has under this name, else that of the class; 1 where neither has a source."""
    for thing in (vars(cls).get(name), cls):
        with contextlib.suppress(OSError, TypeError):
            return inspect.getsourcelines(getattr(thing, "__func__", getattr(thing, "fget", None) or thing))[1]
    return 1


def short(file):
    """A path as it stands in the package, without the folder it is installed in."""
    parts = pathlib.Path(file).parts
    for top in ("site-packages", "dist-packages", "src"):
        if top in parts:
            return "/".join(parts[parts.index(top) + 1:])
    if "megatron" in parts:
        return "/".join(parts[parts.index("megatron"):])
    return str(file)
