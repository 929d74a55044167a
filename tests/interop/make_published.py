"""Writes fixtures/geometries/NAME.json and fixtures/headers/NAME.headers.json.gz of published.PUBLISHED: names and shapes
are those of the real transformers class on the meta device, at the sizes of a published model.

Usage: make_published.py FIXTURES [NAME ...]     (same input, same bytes)
Experts are stored one by one where that is few tensors, else in stacks, the two forms that transformers writes; one by one
where the stacks in memory stand under another prefix than the files.
"""

import contextlib
import gzip
import io
import json
import math
import pathlib
import sys

import torch
import transformers
from transformers.core_model_loading import revert_weight_conversion

from published_towers import PUBLISHED

TENSORS_MAX = 8000
# transformers 5.12.1 undoes the loader's renaming of this tensor twice; the published files have the name on the right.
AS_PUBLISHED = {"backbone.embedding.weight": "backbone.embeddings.weight"}
FLOAT32 = ("e_score_correction_bias", "mlp.expert_bias")


def built(name):
    """The class on the meta device, with config.json as it would be saved."""
    class_name, numbers, *_ = PUBLISHED[name]
    cls = getattr(transformers, class_name)
    with contextlib.redirect_stderr(io.StringIO()), torch.device("meta"):
        model = cls(cls.config_class(**{"pad_token_id": None, **numbers}))
    flat = {key: value for key, value in numbers.items() if not isinstance(value, dict)}
    config = {**json.loads(model.config.to_json_string()), **flat, "architectures": [class_name], "dtype": "bfloat16"}
    config.setdefault("tie_word_embeddings", getattr(model.config, "tie_word_embeddings", False))  # not in those of Omni
    return model, {key: config[key] for key in sorted(config) if key != "transformers_version"}


def tensors_of(model):
    """Shapes by name, experts one by one; in stacks where those are too many."""
    untied = {name: tensor for name, tensor in model.state_dict().items() if name not in model.all_tied_weights_keys}
    stored = {name: list(tensor.shape) for name, tensor in untied.items()}
    single = {name: list(tensor.shape) for name, tensor in revert_weight_conversion(model, dict(untied)).items()}
    single = {AS_PUBLISHED.get(name, name): shape for name, shape in single.items()}
    per_expert = len(single) <= TENSORS_MAX or len(single) == len(stored) or not stacks_fit(stored, single)
    return single if per_expert else renamed_alone(stored, single), "per_expert" if per_expert else "packed"


def stacks_fit(stored, single):
    """Whether the stacks stand under the prefix that the files have."""
    prefixes = {name.split("layers.")[0] for name in stored if ".experts." in name}
    return all(any(name.startswith(f"{prefix}layers.") for name in single) for prefix in prefixes)


def renamed_alone(stored, single):
    """Stacks as they are in memory; all other tensors under the names of the files."""
    stacks = {name: shape for name, shape in stored.items() if ".experts." in name}
    return {**{name: shape for name, shape in single.items() if ".experts." not in name}, **stacks}


def headers(config, tensors):
    rows, at = {}, 0
    for name, shape in sorted(tensors.items()):
        dtype, size = ("F32", 4) if name.endswith(FLOAT32) else ("BF16", 2)
        end = at + size * math.prod(shape)
        rows[name] = [dtype, shape, "model.safetensors", at, end]
        at = end
    return {"schema": "bridge-headers/1", "config": config, "tensors": rows}


def packed(value):
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9, mtime=0, filename="") as stream:
        stream.write(json.dumps(value, separators=(",", ":")).encode())
    return out.getvalue()


def main(fixtures, names):
    for name in names or PUBLISHED:
        class_name, _, parameters, *zeros = PUBLISHED[name]
        model, config = built(name)
        tensors, storage = tensors_of(model)
        elements = sum(math.prod(shape) for shape in tensors.values())
        geometry = {"doc": f"Tensors and elements by {class_name} of transformers {transformers.__version__} at these sizes; "
                           "Megatron parameters counted by hand.", "storage": {"experts": storage},
                    "identities": {"hf_tensors": len(tensors), "megatron_parameters": parameters, "elements": elements},
                    "config": config}
        if zeros:
            geometry["identities"]["megatron_elements"] = elements + zeros[0]
        (fixtures / "geometries" / f"{name}.json").write_text(json.dumps(geometry, indent=2) + "\n")
        data = packed(headers(config, tensors))
        (fixtures / "headers" / f"{name}.headers.json.gz").write_bytes(data)
        print(f"{name}: {len(tensors)} tensors, {elements} elements, {storage}, {len(data)} bytes")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: make_published.py FIXTURES [NAME ...]")
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
