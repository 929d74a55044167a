"""Makes an environment of tests/interop: environment.py FOLDER [REQUIREMENTS]. Does nothing when it is there and up to date."""

import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def interpreter(requirements):
    """The Python that the list is for (`# python: 3.12`): this one, one on PATH, or one of pyenv."""
    asked = re.search(r"^# python: (\S+)$", requirements, re.M)
    least = tuple(map(int, asked[1].split("."))) if asked else sys.version_info[:2]
    if sys.version_info[:2] >= least:
        return sys.executable
    name = f"python{asked[1]}"
    places = [shutil.which(name), *sorted((pathlib.Path.home() / ".pyenv" / "versions").glob(f"{asked[1]}.*/bin/python"))]
    for found in filter(None, places):
        if subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:  # a shim may have no Python behind it
            return found
    sys.exit(f"these packages need Python {asked[1]}, and there is no {name} here; this is {sys.version.split()[0]}")


def main(folder, listed="requirements.txt"):
    requirements = (HERE / listed).read_text()
    wanted = requirements + (HERE / "cuda_stand_ins.py").read_text()
    stamp = folder / "made-from.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        print(f"{folder} is up to date")
        return
    python = folder / "bin" / "python"
    subprocess.run([interpreter(requirements), "-m", "venv", "--clear", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Every package is listed: nothing is taken in that is not.
    subprocess.run([*pip, "--no-deps", "--requirement", HERE / listed], check=True)
    subprocess.run([python, HERE / "cuda_stand_ins.py", folder / "stand-ins"], check=True)
    stamp.write_text(wanted)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: environment.py FOLDER [REQUIREMENTS]")
    main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
