"""Writes the corpus of the survey: for each case of registries.CASES and each variant NAME.headers.json.gz, NAME.rules.json
(the registry of the installed Megatron-Bridge, exported), and in survey.json what its own loading did with that checkpoint.

Usage: make_registries.py FOLDER [NAME ...]     (BV_EXPORT: folder of the package bridge_verify; else it is installed)
Same packages, same bytes. Needs the environment of `ci/do bridges`.
"""

import contextlib
import copy
import importlib
import io
import json
import os
import resource
import pathlib
import re
import sys
import types

sys.path[:0] = [os.environ.get("BV_EXPORT", str(pathlib.Path(__file__).resolve().parents[2] / "ci" / "export"))]

from bridge_verify import export, live, names, stand_ins
from make_published import FLOAT32, headers, packed
from registries import BROUGHT, CASES, FINDINGS
from real_outcome import drawn, exported_shapes, real_outcome

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "golden" / "hf"


def merged(config, changes):
    out = dict(config)
    for key, value in changes.items():
        out[key] = merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) \
            and not key.startswith("rope_") else value
    return out


def class_of(case):
    import transformers

    if case["class"] in {row[1] for row in BROUGHT.values()}:
        module = next(row[0] for row in BROUGHT.values() if row[1] == case["class"])
        return getattr(importlib.import_module(module), case["class"])
    return getattr(transformers, case["class"])


def by_transformers(case, config, fresh):
    """(config.json, name -> shape) as the class of transformers writes them of a new model."""
    import torch
    from transformers.core_model_loading import revert_weight_conversion

    cls = class_of(case)
    fields = {key: value for key, value in config.items() if value is not None or key in ("q_lora_rank", "audio_config")}
    fields.setdefault("pad_token_id", None)
    with contextlib.redirect_stderr(io.StringIO()), torch.device("meta"):
        model = cls(cls.config_class(**copy.deepcopy(fields)))
    written = json.loads(model.config.to_json_string())
    written.update({"architectures": [case["class"]], "dtype": "bfloat16", **case.get("extra", {})})
    written.setdefault("tie_word_embeddings", bool(getattr(model.config, "tie_word_embeddings", False)))
    written = {key: written[key] for key in sorted(written) if key != "transformers_version"}
    stored = {name: tensor for name, tensor in model.state_dict().items() if name not in model.all_tied_weights_keys}
    tensors = {name: list(tensor.shape) for name, tensor in revert_weight_conversion(model, stored).items()}
    if not fresh:
        tensors = {renamed(name, case.get("published", [])): shape for name, shape in tensors.items()}
    return written, tensors


def renamed(name, rules):
    for pattern, text in rules:
        name = re.sub(pattern, text, name)
    return name


def subject(library, case, changes):
    """(config, tensors, where the names come from)."""
    if golden := changes.get("golden", case.get("golden")):
        config, tensors = names.read_headers(GOLDEN / golden)
        changes = {key: value for key, value in changes.items() if key != "golden"}
        if not changes:
            return config, tensors, "transformers"
        case = {"class": config["architectures"][0], "config": {
            key: value for key, value in config.items() if key not in ("architectures", "transformers_version")}}
    changes = dict(changes)
    fresh = changes.pop("fresh", False)
    own = changes.pop("own", False) or case["class"] is None
    config = merged(case["config"], changes)
    if not own:
        return *by_transformers(case, config, fresh), "transformers"
    config = {"architectures": [case["class"]], "dtype": "bfloat16", **config, **case.get("extra", {})}
    return config, exported_shapes(
        library, bridge_class(library, case, config), config, case.get("provider", {})), "the bridge's own export"


def bridge_class(library, case, config):
    known = library.classes()
    return known[case["bridge"]] if "bridge" in case else library.for_architectures(config["architectures"])


def one(library, replaced, name, case, changes, folder):
    row = {}
    try:
        config, tensors, row["names"] = subject(library, case, changes)
    except Exception as error:
        return {"error": f"no checkpoint: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"}
    row["bridge_class"] = bridge_class(library, case, config).__name__
    content = export.export(library, bridge_class(library, case, config), config, tensors, "model", False, replaced)
    (folder / f"{name}.headers.json.gz").write_bytes(packed(headers(config, tensors)))
    export.write(content, str(folder / f"{name}.rules.json"))
    row["real"] = real_outcome(library, bridge_class(library, case, config), config, tensors)
    row["trouble"] = content["trouble"]
    return row


def cases(wanted):
    for base, case in CASES.items():
        for variant, changes in {"": {}, **case.get("variants", {})}.items():
            name = f"{base}.{variant}" if variant else base
            if not wanted or base in wanted or name in wanted:
                yield name, base, variant, case, changes


MEMORY_MAX = 14 << 30  # a provider that ignores a tiny config builds a full-size model


def main(folder, wanted):
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    folder.mkdir(parents=True, exist_ok=True)
    with live.quiet():
        replaced = stand_ins.install()
        library = live.Library()
    print(*library.trouble, sep="\n")
    notes = folder / "survey.json"
    rows = json.loads(notes.read_text())["rows"] if notes.exists() else {}
    for name, base, variant, case, changes in cases(wanted):
        try:
            with live.quiet():
                rows[name] = {"case": base, "variant": variant or "base", **one(library, replaced, name, case, changes, folder)}
        except Exception as error:
            rows[name] = {"case": base, "variant": variant or "base", "error": f"{type(error).__name__}: {error}"}
        row = rows[name]
        if name in FINDINGS:
            row["findings"] = FINDINGS[name]
        print(name, row.get("error") or row.get("real", "-"), *row.get("trouble", []), sep="  |  ", flush=True)
        notes.write_text(json.dumps({"schema": "bridge-survey-corpus/1", "packages": library.version(),
                                     "rows": dict(sorted(rows.items()))}, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: make_registries.py FOLDER [NAME ...]")
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
