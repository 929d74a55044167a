"""Stands in for the CUDA libraries that the torch wheel of PyPI links and a CPU run never calls.

The wheel for Linux needs 1.7 GB of NVIDIA packages before `import torch` works, although every tensor of these tests
is on the CPU. This writes one small library for each of them: the names are there, and any call ends the process.
Real packages (cudart, cupti, cufile, nvshmem) are used where torch runs code of them at start-up.

Usage: cuda_stand_ins.py FOLDER     (needs gcc, nm and readelf; run by the interpreter of the environment)
"""

import pathlib
import re
import subprocess
import sys
import sysconfig

PREFIXES = ("cublas", "cusparse", "cufft", "curand", "nccl", "cudnn", "nvrtc", "cusolver", "nvJitLink")
REAL = re.compile(r"lib(cudart|cupti|cufile|nvshmem_host|cuda)\.so")


def needed(library):
    text = subprocess.run(["readelf", "-d", library], check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"NEEDED.*\[(lib(?:cu|nccl|nv)[^\]]*)\]", text))


def undefined(library):
    """Pairs of name and version; the loader asks for both."""
    text = subprocess.run(["nm", "-D", "--undefined-only", library], check=True, capture_output=True, text=True).stdout
    pairs = ((line.split()[-1] + "@").split("@")[:2] for line in text.splitlines())
    return {(name, version) for name, version in pairs if name.startswith(PREFIXES)}


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch = pathlib.Path(sysconfig.get_paths()["purelib"]) / "torch" / "lib"
    libraries = sorted(torch.glob("lib*.so"))
    sonames = {name for library in libraries for name in needed(library) if not REAL.match(name)}
    symbols = {pair for library in libraries for pair in undefined(library)}
    source = folder / "stand_in.c"
    source.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in sorted({n for n, _ in symbols})))
    versions = folder / "versions.map"
    nodes = sorted({version for _, version in symbols if version})
    versions.write_text("".join(
        f"{node} {{ global: {' '.join(sorted(n + ';' for n, v in symbols if v == node))} }};\n" for node in nodes))
    for soname in sorted(sonames):
        command = ["gcc", "-shared", "-fPIC", "-w", f"-Wl,-soname,{soname}", f"-Wl,--version-script={versions}",
                   "-o", folder / soname, source]
        subprocess.run(command, check=True)
    print(f"{len(sonames)} libraries, {len(symbols)} names in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: cuda_stand_ins.py FOLDER")
    main(pathlib.Path(sys.argv[1]))
