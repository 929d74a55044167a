"""Writes a Megatron-Bridge mapping registry as rules for `bridge-verify --rules`.

    python -m bridge_verify.export --model DIR -o my.rules.json
    python -m bridge_verify.export --bridge LlamaBridge --config config.json -o my.rules.json
    python -m bridge_verify.export --all FOLDER -o OUT

It imports and runs the Python of the installed Megatron-Bridge, or of a checkout. Exit code: 0 written, 1 written with trouble
under --strict, 2 nothing written.
"""

import argparse
import json
import os
import pathlib
import sys

from . import __version__, named_output, names, stand_ins
from .visible import say


def arguments(words):
    parser = argparse.ArgumentParser(prog="python -m bridge_verify.export", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or *.headers.json(.gz): config and tensor names")
    parser.add_argument("--config", help="config.json, without tensor names or together with --headers")
    parser.add_argument("--headers", help="tensor names: folder, *.headers.json(.gz) or *.index.json")
    parser.add_argument("--bridge", help="bridge class, e.g. LlamaBridge (default: the one registered for the architecture)")
    parser.add_argument("--bridge-repo", help="checkout of Megatron-Bridge to read instead of the installed package")
    parser.add_argument("--mode", choices=("model", "live", "stub"), default="model",
                        help="model: also build the Megatron model and list its parameters; live: the registry alone; stub: the "
                             "registry alone, with stand-ins for torch, Megatron-Core and everything else, in a second "
                             "(default: model, and live where it cannot be built)")
    parser.add_argument("--meta", action="store_true", help="build without memory for weights (full-size models)")
    parser.add_argument("--all", metavar="FOLDER", help="every checkpoint or headers dump of a folder; -o is then a folder")
    parser.add_argument("--list", action="store_true", help="bridge classes and their architectures")
    parser.add_argument("--strict", action="store_true", help="exit 1 when there is trouble")
    parser.add_argument("-o", "--out", default="-", help="file (default: stdout)")
    return parser.parse_args(words)


def subject(options):
    """(config, name -> shape) that the options name."""
    config, tensors = names.read_headers(options.model) if options.model else (None, {})
    if options.config:
        config = json.loads(pathlib.Path(options.config).read_text())
    if options.headers:
        tensors = names.read_headers(options.headers)[1]
    return config, tensors


def export(library, cls, config, tensors, mode="model", meta=False, replaced=()):
    """The content of a rules file. Raises live.Trouble when the registry cannot be made."""
    from . import built, live

    with live.quiet():
        bridge = library.bridge_of(cls, config, tensors)
        rules = bridge.rules()
        touched = bridge.touched(rules)
        hooks = bridge.hooks()
        known = bridge.known()
        base = bridge.base()
        exports = {} if hooks[live.EXPORT] == "base" else {"exports": bridge.exports(rules, touched)}
    bridge.trouble += bridge.runner.told()
    trouble = bridge.trouble
    out = {
        "schema": "bridge-rules/1",
        "producer": {"tool": "bridge_verify.export", "version": __version__, "mode": mode, "stand_ins": sorted(replaced),
                     "packages": library.version()},
        "upstream": {"repo": "NVIDIA-NeMo/Megatron-Bridge", "commit": library.version().get("megatron-bridge", ""),
                     "bridge_class": cls.__name__, "file": library.file_of(cls)},
        "selects": {"architectures": config.get("architectures") or [cls.SOURCE_NAME], "model_type": config.get("model_type")},
        "facts": bridge.facts(),
        "hooks": {**hooks, "changes": touched, **exports, **({"known": known} if known else {}),
                  **({"base": base} if base else {}),
                  **({"reads": sorted(bridge.read_by_hook)} if bridge.read_by_hook else {})},
        "rules": rules,
    }
    if mode == "model" and bridge.provider is not None:
        try:
            with live.quiet():
                rows, model, otherwise = built.parameters(bridge, meta)
                measured = bridge.norms(model, rows)
            unsure = sorted(name for name in stand_ins.constructed if not name.startswith("transformer_engine_torch"))
            if unsure:
                trouble.append(f"the model was built with stand-ins in place of {', '.join(unsure)}: parameters may be missing, "
                               "so they are not listed")
            else:
                out["model"] = {"parameters": rows}
                if otherwise:
                    out["hooks"]["base"] = [*base, *otherwise]
                if measured:
                    out["facts"]["norms"] = measured
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else ""
            trouble.append(f"the Megatron model cannot be built: {type(error).__name__}: {reason}")
    if mode == "model" and "model" not in out:
        out["producer"]["mode"] = "live"
    out["trouble"] = trouble
    return out


def of_class(cls, model, mode="model"):
    """The rules of a bridge class, or of its name, for the config and the tensor names of `model`."""
    from . import built, live

    with live.quiet():
        replaced = stand_ins.install()
        library = live.Library()
    config, tensors = names.read_headers(model)
    known = library.classes()
    cls = known[cls] if isinstance(cls, str) else cls
    if not (isinstance(cls, type) and issubclass(cls, library.bridge.MegatronModelBridge)):
        raise TypeError(f"{cls!r} is neither a path, a dict of rules nor a bridge class of Megatron-Bridge")
    try:
        return export(library, cls, config, tensors, mode, replaced=replaced)
    finally:
        built.close()


def text_of(content, depth=0):
    """JSON with the entries of rules, parameters and norms on a line each."""
    pad = " " * (depth + 1)
    flat = json.dumps(content)
    if depth > 2 or not content or not isinstance(content, (dict, list)) or len(flat) < 100:
        return flat
    if isinstance(content, list):
        return "[\n" + ",\n".join(pad + (json.dumps(row) if depth else text_of(row, depth + 1)) for row in content) + f"\n{pad[1:]}]"
    return "{\n" + ",\n".join(f"{pad}{json.dumps(key)}: {text_of(value, depth + 1)}" for key, value in content.items()) + f"\n{pad[1:]}}}"


def write(content, out):
    text = text_of(content) + "\n"
    if out == "-":
        sys.stdout.write(text)
        return
    path = pathlib.Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    named_output.write(path, text.encode())


def told(content, where):
    listed = content.get("model", {}).get("parameters")
    counts = f"{len(content['rules'])} rules" + (f", {len(listed)} parameters" if listed else "")
    say(f"{content['upstream']['bridge_class']}: {counts} -> {where}", file=sys.stderr)
    for line in content["trouble"]:
        say(f"  trouble: {line}", file=sys.stderr)
    for row in content["hooks"].get("base", ()):
        say(f"  not judged: {row['file']}:{row['line']} {row['name']} {row['what']}", file=sys.stderr)


def sources(folder):
    """Checkpoints and headers dumps of a folder: (name, path)."""
    for path in sorted(pathlib.Path(folder).iterdir()):
        if path.is_dir() and (path / "config.json").exists():
            yield path.name, path
        elif path.name.endswith((".headers.json", ".headers.json.gz")):
            yield path.name.split(".headers.json")[0], path


def export_all(library, options, replaced):
    from .live import Trouble

    rows, bad = [], 0
    for name, path in sources(options.all):
        try:
            config, tensors = names.read_headers(path)
            cls = library.for_architectures(config.get("architectures") or [])
            content = export(library, cls, config, tensors, options.mode, options.meta, replaced)
            write(content, str(pathlib.Path(options.out) / f"{name}.rules.json"))
            told(content, f"{name}.rules.json")
            rows.append({"name": name, "bridge_class": cls.__name__, "rules": len(content["rules"]),
                         "parameters": len(content.get("model", {}).get("parameters", [])), "trouble": content["trouble"]})
        except (Trouble, ValueError, OSError) as error:
            bad += 1
            rows.append({"name": name, "error": str(error)})
            say(f"{name}: {error}", file=sys.stderr)
    write({"schema": "bridge-export/1", "rows": rows}, str(pathlib.Path(options.out) / "export.json"))
    return 1 if bad and options.strict else 0


def opened(options):
    """(names of stand-ins, the library)."""
    from . import live

    if options.mode == "stub":
        from . import stub

        return stub.install(options.bridge_repo), stub.Library()
    if options.bridge_repo:
        sys.path.insert(0, str(pathlib.Path(options.bridge_repo) / "src"))
    return stand_ins.install(), live.Library()


def main(words=None):
    options = arguments(words)
    from . import live

    with live.quiet():
        try:
            replaced, library = opened(options)
        except live.Trouble as error:
            failure = str(error)
            library = None
    if library is None:
        say(f"error: {failure}", file=sys.stderr)
        return 2
    try:
        return run(library, options, replaced)
    except (live.Trouble, ValueError, OSError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if "torch" in sys.modules:
            from . import built

            built.close()


def run(library, options, replaced):
    from .live import Trouble

    if options.list:
        for name, cls in library.classes().items():
            say(f"{name}\t{cls.SOURCE_NAME}")
        for line in library.trouble:
            say(f"  trouble: {line}", file=sys.stderr)
        return 0
    if options.all:
        return export_all(library, options, replaced)
    config, tensors = subject(options)
    if config is None:
        raise Trouble("no config: give --model DIR or --config config.json")
    if options.bridge:
        cls = library.classes().get(options.bridge)
        if cls is None:
            raise Trouble(library.with_trouble(f"there is no bridge class {options.bridge}; --list shows them"))
    else:
        cls = library.for_architectures(config.get("architectures") or [])
    content = export(library, cls, config, tensors, options.mode, options.meta, replaced)
    write(content, options.out)
    told(content, options.out)
    return 1 if content["trouble"] and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
