"""Name patterns: `*` is digits, `**` anything; and the tensors of a checkpoint by their headers."""

import gzip
import json
import pathlib
import re
import struct

HEADER_MAX = 100_000_000


def expression(pattern):
    parts = re.split(r"(\*\*|\*)", pattern)
    return re.compile("".join("(.*)" if part == "**" else r"(\d+)" if part == "*" else re.escape(part) for part in parts) + r"\Z")


def filled(pattern, captures):
    """First every `**`, then every `*`, as Megatron-Bridge does it."""
    for capture in captures:
        for wildcard in ("**", "*"):
            if wildcard in pattern:
                pattern = pattern.replace(wildcard, capture, 1)
                break
    return pattern


def resolved(rule, tensors):
    """What the `hf` of a rule stands for in a checkpoint: names, or objects of names, without those that are not there."""
    hf = rule["hf"]
    first = hf if isinstance(hf, str) else next(iter(hf.values()))
    if "*" not in first:
        found = [()] if first in tensors else []
    else:
        form = expression(first)
        found = [match.groups() for name in tensors if (match := form.match(name))]
    for captures in found:
        yield filled(hf, captures) if isinstance(hf, str) else {key: filled(name, captures) for key, name in hf.items()}


def placed(rule, tensors):
    """(Megatron name, names) of a rule in a checkpoint. Experts of a stack have the number 0."""
    first = rule["hf"] if isinstance(rule["hf"], str) else next(iter(rule["hf"].values()))
    for hf in resolved(rule, tensors):
        name = hf if isinstance(hf, str) else next(iter(hf.values()))
        captures = expression(first).match(name).groups() if "*" in first else ()
        yield filled(rule["megatron"], captures).replace("**", "0").replace("*", "0"), hf


def first_names(rule):
    """(wildcard filler, names) of a rule at its first layers, whether they are there or not."""
    for number in ("0", "1"):
        hf = rule["hf"]
        fill = lambda name: name.replace("*", number)  # noqa: E731
        yield number, fill(hf) if isinstance(hf, str) else {key: fill(name) for key, name in hf.items()}


def read_headers(path):
    """(config or None, name -> shape) of a folder of safetensors, a *.headers.json(.gz) or an index file."""
    path = pathlib.Path(path)
    if path.is_dir():
        return _folder(path)
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    top = json.loads(data)
    if "weight_map" in top:
        return None, {name: None for name in top["weight_map"]}
    if top.get("schema") != "bridge-headers/1":
        raise ValueError(f"{path} is neither a headers dump (bridge-headers/1) nor an index of safetensors")
    return top["config"], {name: row[1] for name, row in top["tensors"].items()}


def _shards(path):
    """Those that the index names, else model.safetensors, else all: a folder may hold files that are no part of the model."""
    for index in sorted(path.glob("*.safetensors.index.json")):
        return sorted({path / file for file in json.loads(index.read_text())["weight_map"].values() if (path / file).exists()})
    single = path / "model.safetensors"
    return [single] if single.exists() else sorted(path.glob("*.safetensors"))


def _folder(path):
    config = json.loads((path / "config.json").read_text()) if (path / "config.json").exists() else None
    tensors = {}
    for shard in _shards(path):
        with shard.open("rb") as stream:
            size, = struct.unpack("<Q", stream.read(8))
            if size > HEADER_MAX:
                raise ValueError(f"{shard} is not a safetensors file: its header would have {size} bytes")
            header = json.loads(stream.read(size))
        tensors.update({name: row["shape"] for name, row in header.items() if name != "__metadata__"})
    if not tensors:
        for index in sorted(path.glob("*.index.json")):
            tensors.update(dict.fromkeys(json.loads(index.read_text())["weight_map"]))
    return config, tensors
