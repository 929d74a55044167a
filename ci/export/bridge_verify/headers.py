"""Names, dtypes and shapes of a checkpoint on the HuggingFace hub, without its weights.

    python -m bridge_verify.headers ORG/NAME -o NAME.headers.json
    bridge-verify check --model NAME.headers.json

Reads the local HF cache when the model is there, else the hub, by range requests: some kB for each shard. Exit code: 0 written,
2 nothing written.
"""

import argparse
import gzip
import json
import os
import pathlib
import re
import struct
import sys
import urllib.error
import urllib.parse
import urllib.request

from . import named_output
from .visible import say

HEADER_MAX = 100_000_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
SHARD = re.compile(r"[A-Za-z0-9._-]+\.safetensors")


class Refused(Exception):
    """Something that a person can act on."""


class Cache:
    """A snapshot in the local cache of huggingface_hub."""

    def __init__(self, name, revision):
        home = pathlib.Path(os.environ.get("HF_HOME", pathlib.Path.home() / ".cache" / "huggingface"))
        folder = pathlib.Path(os.environ.get("HF_HUB_CACHE", home / "hub")) / ("models--" + name.replace("/", "--"))
        ref = folder / "refs" / revision
        commit = ref.read_text().strip() if ref.is_file() else revision
        self.folder = folder / "snapshots" / commit

    def __bool__(self):
        return (self.folder / "config.json").exists() and (
            any(self.folder.glob("*.safetensors")) or (self.folder / "model.safetensors.index.json").exists())

    def read(self, name, begin=0, size=None):
        try:
            with (self.folder / name).open("rb") as stream:
                stream.seek(begin)
                return stream.read(size)
        except FileNotFoundError:
            return None


class Hub:
    """Files of a model on the hub. HF_ENDPOINT names another one; HF_TOKEN is sent when it is set."""

    def __init__(self, name, revision):
        self.name = name
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        self.base = f"{endpoint}/{name}/resolve/{urllib.parse.quote(revision, safe='')}/"

    def read(self, name, begin=0, size=None):
        request = urllib.request.Request(self.base + urllib.parse.quote(name))
        request.add_header("User-Agent", "bridge-verify")
        if os.environ.get("HF_TOKEN"):
            request.add_unredirected_header("Authorization", "Bearer " + os.environ["HF_TOKEN"])
        if size is not None:
            request.add_header("Range", f"bytes={begin}-{begin + size - 1}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                if size is not None and answer.status != 206:
                    answer.read(begin)  # a server without ranges: what lies before is passed over
                return answer.read(HEADER_MAX + 1 if size is None else size)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise Refused(f"{self.name}: the hub answers {error.code} {error.reason} for {name}"
                          + ("; set HF_TOKEN for a gated model" if error.code in (401, 403) else "")) from error
        except (urllib.error.URLError, TimeoutError, OSError) as error:
            raise Refused(f"{self.name} is not in the local cache, and the hub cannot be reached: "
                          f"{getattr(error, 'reason', error)}") from error


def source_of(name, revision="main"):
    if not NAME.fullmatch(name):
        raise Refused(f"{name} is not the name of a model: ORG/NAME")
    cache = Cache(name, revision)
    if cache:
        return cache
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise Refused(f"{name} is not in the local cache, and HF_HUB_OFFLINE forbids to ask the hub")
    return Hub(name, revision)


def shards_of(source):
    index = source.read("model.safetensors.index.json")
    names = sorted(set(_json(index, "model.safetensors.index.json")["weight_map"].values())) if index else ["model.safetensors"]
    for name in names:
        if not SHARD.fullmatch(name):
            raise Refused(f"the index names {name!r}, which is no file of the model")
    return names


def _json(data, name):
    try:
        out = json.loads(data)
    except ValueError as error:
        raise Refused(f"{name} is not JSON: {error}") from error
    if not isinstance(out, dict):
        raise Refused(f"{name} is not a JSON object")
    return out


def header_of(source, shard):
    start = source.read(shard, 0, 8)
    if start is None:
        raise Refused(f"{shard} is not there; weights that are not safetensors cannot be read from afar")
    size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= size <= HEADER_MAX:
        raise Refused(f"{shard} is not a safetensors file: its header would have {size} bytes")
    data = source.read(shard, 8, size)
    if data is None or len(data) != size:
        raise Refused(f"{shard} ends inside its header")
    return _json(data, f"the header of {shard}")


def collect(source):
    """A bridge-headers/1 document. Raises Refused."""
    config = source.read("config.json")
    if config is None:
        raise Refused("the model has no config.json")
    rows = {}
    for shard in shards_of(source):
        for name, row in header_of(source, shard).items():
            if name == "__metadata__":
                continue
            if name in rows:
                raise Refused(f"{name} stands in {rows[name][2]} and in {shard}")
            try:
                rows[name] = [row["dtype"], row["shape"], shard, *row["data_offsets"]]
            except (KeyError, TypeError) as error:
                raise Refused(f"the header of {shard} has no proper entry for {name}") from error
    return {"schema": "bridge-headers/1", "config": _json(config, "config.json"), "tensors": dict(sorted(rows.items()))}


def write(document, out):
    text = json.dumps(document, separators=(",", ":")) + "\n"
    if out == "-":
        sys.stdout.write(text)
        return
    path = pathlib.Path(out)
    named_output.write(path, gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())


def main(words=None):
    parser = argparse.ArgumentParser(prog="python -m bridge_verify.headers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="ORG/NAME")
    parser.add_argument("--revision", default="main", help="branch, tag or commit (default: main)")
    parser.add_argument("-o", "--out", help="file, .json or .json.gz (default: NAME.headers.json)")
    options = parser.parse_args(words)
    out = options.out or options.model.split("/")[-1] + ".headers.json"
    try:
        document = collect(source_of(options.model, options.revision))
        write(document, out)
    except (Refused, OSError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    if out != "-":
        say(f"{len(document['tensors'])} tensors -> {out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
