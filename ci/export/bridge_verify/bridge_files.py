"""Bridge files of a checkout of Megatron-Bridge, each registry checked on the checkpoints of a folder: a pre-commit hook.

    python -m bridge_verify.bridge_files --models FOLDER src/megatron/bridge/models/llama/llama_bridge.py ...

Nothing but Python and bridge-verify is needed: the registries are exported in stub mode. FOLDER holds checkpoints or headers dumps
(NAME.headers.json, written by `python -m bridge_verify.headers`); those of a bridge are the ones whose architecture it is made for.
The rules of a registry that is refuted are kept in the cache folder of the user (~/.cache/bridge-verify/rules), for the lines that are
printed.
Exit code: 0 nothing refuted, 1 a registry is refuted, cannot be made or has no checkpoint to be checked on, 2 wrong use.
"""

import argparse
import ast
import pathlib
import subprocess
import sys
import tempfile

from . import command, export, kept, names
from .visible import say

CHECKED, REFUTED, UNDECIDED = 0, 1, 3  # exit codes of `bridge-verify check`


def root_of(file):
    """The checkout that a bridge file lies in; None: in none."""
    for parent in pathlib.Path(file).resolve().parents:
        for source in ("src", "."):
            if (parent / source / "megatron" / "bridge" / "models" / "conversion" / "param_mapping.py").is_file():
                return parent
    return None


def classes_in(file):
    """Classes of a Python file that are registered as bridges or make a registry."""
    for node in ast.parse(pathlib.Path(file).read_text(), str(file)).body:
        if isinstance(node, ast.ClassDef):
            registered = any("register_bridge" in ast.dump(decorator) for decorator in node.decorator_list)
            if registered or any(isinstance(inner, ast.FunctionDef) and inner.name == "mapping_registry" for inner in node.body):
                yield node.name


def exporter(*words):
    """A run of the exporter in stub mode, in a process of its own."""
    code = f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).resolve().parents[1])!r}); from bridge_verify.export import main; " \
           "sys.exit(main(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", code, "--mode", "stub", *map(str, words)], capture_output=True, text=True)


def bridges(root):
    """class -> architecture of every bridge of a checkout, and what is said of files that cannot be run."""
    done = exporter("--bridge-repo", root, "--list")
    if done.returncode != 0:
        raise ValueError(done.stderr.strip())
    return dict(line.split("\t") for line in done.stdout.splitlines()), done.stderr


def checkpoints(folder):
    """architecture -> checkpoints of a folder."""
    out = {}
    for _, path in export.sources(folder):
        for architecture in (names.read_headers(path)[0] or {}).get("architectures") or []:
            out.setdefault(architecture, []).append(path)
    return out


def check(root, name, model, scratch):
    """(code, what is said) of one class on one checkpoint."""
    rules = pathlib.Path(scratch) / f"{name}.rules.json"
    done = exporter("--bridge-repo", root, "--bridge", name, "--model", model, "-o", rules)
    if done.returncode != 0:
        return REFUTED, done.stderr
    said_of = kept.Rules(name, rules.read_text())  # the lines that are printed name it: they are run after the hook
    judged = subprocess.run([command.find(), "check", "--model", str(pathlib.Path(model).resolve()), "--rules", str(said_of.path), "-q",
                             "--color", "never"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if judged.returncode in (CHECKED, UNDECIDED):
        said_of.drop()
    return judged.returncode, judged.stdout + judged.stderr


def check_file(file, known, trouble, models, scratch):
    """Whether nothing of the file is wrong; says what is."""
    root, right = root_of(file), True
    for name in classes_in(file):
        if name not in known:
            say(f"{file}: {name} makes a registry and is checked by nothing: stub mode finds no such bridge\n{trouble}".rstrip())
            right = False
            continue
        found = models.get(known[name], [])
        if not found:
            say(f"{file}: {name} is checked on no checkpoint: none of {known[name]} in --models; write one with "
                  "python -m bridge_verify.headers ORG/NAME -o FOLDER/NAME.headers.json")
            right = False
        for model in found:
            code, said = check(root, name, model, scratch)
            word = {CHECKED: "every claim holds", UNDECIDED: "nothing is refuted, and some claims are not decided by stub mode"}.get(code, "FAIL")
            say(f"{file}: {name} on {model}: {word}")
            if code not in (CHECKED, UNDECIDED):
                say(said.rstrip())
                right = False
    return right


def main(words=None):
    parser = argparse.ArgumentParser(prog="python -m bridge_verify.bridge_files", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True, metavar="FOLDER", help="checkpoints or headers dumps to check the registries on")
    parser.add_argument("files", nargs="*", help="Python files that define bridges")
    options = parser.parse_args(words)
    right, listed = True, {}
    try:
        models = checkpoints(options.models)
        with tempfile.TemporaryDirectory(prefix="bridge-verify-") as scratch:
            for file in options.files:
                root = root_of(file)
                if root is None:
                    say(f"{file} lies in no checkout of Megatron-Bridge: megatron/bridge/models/conversion/param_mapping.py is above none "
                          "of its folders")
                    right = False
                    continue
                if root not in listed:
                    listed[root] = bridges(root)
                right = check_file(file, *listed[root], models, scratch) and right
    except (ValueError, OSError, SyntaxError, command.CommandError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
