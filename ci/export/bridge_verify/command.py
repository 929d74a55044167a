"""The command bridge-verify: where it is, and a run of it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from .visible import visible

NAME = "bridge-verify"


class CommandError(RuntimeError):
    """The command could not be run, or could not read its input. `exit_code` is None when it was not found."""

    def __init__(self, message, exit_code=None):
        super().__init__(message)
        self.exit_code = exit_code


def find():
    """$BV_COMMAND, else the command of this wheel, else that on PATH."""
    named = os.environ.get("BV_COMMAND")
    if named:
        if not os.access(named, os.X_OK):
            raise CommandError(f"BV_COMMAND names {named}, which is no program")
        return named
    beside = pathlib.Path(__file__).resolve().parent / "bin" / NAME
    if os.access(beside, os.X_OK):
        return str(beside)
    found = shutil.which(NAME)
    if found is None:
        raise CommandError(f"{NAME} is not on PATH: install the wheel bridge-verify, or set BV_COMMAND to the program")
    return found


def main():
    """The console script of the wheel: becomes the program."""
    try:
        program = find()
    except CommandError as error:
        raise SystemExit(f"error: {error}") from error
    os.execv(program, [NAME, *sys.argv[1:]])


def run(words, timeout=None):
    """Its verdicts.json as it stands. Raises CommandError when there is none: bad input, or a fault of the command."""
    with tempfile.TemporaryDirectory(prefix="bridge-verify-") as folder:
        out = pathlib.Path(folder) / "verdicts.json"
        done = subprocess.run([find(), *map(str, words), "--report", f"json={out}", "--color", "never"], capture_output=True,
                              text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        if not out.exists():
            said = (done.stderr.strip() or done.stdout.strip())[-4000:]
            raise CommandError(visible(f"{NAME} {' '.join(map(str, words))} ended with exit code {done.returncode}\n{said}"), done.returncode)
        return json.loads(out.read_text())
