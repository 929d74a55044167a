"""Makes an environment of tests/interop: environment.py FOLDER [REQUIREMENTS]. Does nothing when it is there and up to date."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def main(folder, listed="requirements.txt"):
    requirements = (HERE / listed).read_text()
    wanted = requirements + (HERE / "cuda_stand_ins.py").read_text()
    stamp = folder / "made-from.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        print(f"{folder} is up to date")
        return
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Every package is listed: nothing is taken in that is not.
    subprocess.run([*pip, "--no-deps", "--requirement", HERE / listed], check=True)
    subprocess.run([python, HERE / "cuda_stand_ins.py", folder / "stand-ins"], check=True)
    stamp.write_text(wanted)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: environment.py FOLDER [REQUIREMENTS]")
    main(pathlib.Path(sys.argv[1]), *sys.argv[2:])
