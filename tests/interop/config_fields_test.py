"""Fields of config.json that are absent or null. The config classes and model classes of the real transformers, built
on the meta device, say which tensors such a config has: bridge-verify must resolve the same names and shapes. Where
they refuse the config, or build a model that they cannot compute with, bridge-verify refuses it too and names the
field."""

import contextlib
import functools
import io
import json
import os
import subprocess

import pytest
import torch
import transformers
from transformers.core_model_loading import revert_weight_conversion

from command import FIXTURES, LACKING

FAMILIES = FIXTURES.parent / "core" / "families"
REPORTS_NO_SIZE = {"architectures", "model_type"}  # they choose the family: ChooseFamily tests
# Names that transformers 5.12 renames twice when it writes a model that it did not load; published ones stand on the right.
RENAMED_TWICE = {"qwen2_audio": ("language_model.model.model.", "language_model.model.")}
# What the class of transformers 5.12 fails to compute with, published as it is: DeepseekV2Moe has no num_experts.
COMPUTED_WITH = {"deepseek_v2": {"topk_method": "greedy"}}
FAMILY_NAMES = sorted({path.stem for path in FAMILIES.glob("*.json")} - LACKING)


def config_of(family):
    return json.loads((FIXTURES / "configs" / f"{family}.json").read_text())["config"]


def read_json(name):
    return json.loads((FAMILIES / f"{name}.json").read_text())


def words_of(value):
    """Every text in it: the paths of fields are among them."""
    if isinstance(value, str):
        return {value}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return {word for part in parts for word in words_of(part)}


def tables_of(family):
    """What the family takes from tables, without symbols that it has its own of."""
    named = words_of([family.get("include", []), [section.get("use", []) for section in family["sections"]]])
    own = {table for table in named if table in family.get("tables", {})}
    for name in sorted(named - own):
        if (FAMILIES / "tables" / f"{name}.json").exists():
            table = read_json(f"tables/{name}")
            symbols = {symbol: row for symbol, row in table.get("symbols", {}).items() if symbol not in family["symbols"]}
            yield {**table, "symbols": symbols}


def fields_of(name):
    """Paths from the top of config.json, as "text_config/hidden_size", that the family reads."""
    family = read_json(name)
    level = family["config"]["level"]
    files = [family, *tables_of(family)]
    symbols = {symbol for file in files for symbol in file.get("symbols", {})}  # a name in an expression is no field
    words = words_of([{**file, "symbols": {}} for file in files]) - symbols
    words |= words_of([list(file.get("symbols", {}).values()) for file in files])
    return {word[1:] if word.startswith("/") else f"{level}/{word}".lstrip("/") for word in words}


def paths_in(config, above=""):
    for field, value in config.items():
        yield above + field
        if isinstance(value, dict):
            yield from paths_in(value, f"{above}{field}/")


def variants(family):
    """(name, config) with one field that the family reads taken out or null."""
    config, read = config_of(family), fields_of(family)
    for path in sorted(set(paths_in(config)) & read):
        *levels, field = path.split("/")
        if field in REPORTS_NO_SIZE:
            continue
        for value in ("absent", "null"):
            changed = json.loads(json.dumps(config))
            place = functools.reduce(dict.__getitem__, levels, changed)
            if value == "absent":
                del place[field]
            else:
                place[field] = None
            yield field, f"{path.replace('/', '.')} {value}", changed


def as_loaded(value):
    """Numbers that JSON has no word for, as transformers writes and reads them."""
    if isinstance(value, dict):
        return float(value["__float__"]) if set(value) == {"__float__"} else {key: as_loaded(one) for key, one in value.items()}
    return [as_loaded(one) for one in value] if isinstance(value, list) else value


def tensors_of(config):
    """Shapes by the names that transformers writes to disk."""
    cls = getattr(transformers, config["architectures"][0])
    with contextlib.redirect_stderr(io.StringIO()), torch.device("meta"):
        model = cls(cls.config_class.from_dict(as_loaded(config)))
        there = revert_weight_conversion(model, model.state_dict())
    twice, once = RENAMED_TWICE.get(config["model_type"], ("", ""))
    return {name.replace(twice, once) if twice else name: list(tensor.shape) for name, tensor in there.items()
            if name not in model.all_tied_weights_keys}


def dump(config, tensors, path):
    """bridge-headers/1 in BF16."""
    rows, at = {}, 0
    for name, shape in sorted(tensors.items()):
        size = 2 * torch.Size(shape).numel()
        rows[name] = ["BF16", shape, "model.safetensors", at, at + size]
        at += size
    path.write_text(json.dumps({"schema": "bridge-headers/1", "config": config, "tensors": rows}))
    return path


def check(path):
    words = [os.environ["BV_COMMAND"], "check", "--headers", path, "--only", "names,shapes", "--tp", "1",
             "--allow-partial", "--color", "never"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def image_inputs(model):
    """One picture of the least size, where the model takes pictures."""
    config = model.config
    vision = getattr(config, "vision_config", None)
    known = vision is not None and hasattr(config, "image_token_id")
    if not known or any(not hasattr(vision, field) for field in ("spatial_merge_size", "in_channels", "temporal_patch_size")):
        return {"input_ids": torch.tensor([[1, 2]])}
    side = vision.spatial_merge_size
    width = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    words = torch.tensor([[getattr(config, "vision_start_token_id", None) or 1, config.image_token_id, 1]])
    return {"input_ids": words, "mm_token_type_ids": torch.tensor([[0, 1, 0]]),
            "pixel_values": torch.zeros(side * side, width), "image_grid_thw": torch.tensor([[1, side, side]])}


def cannot_compute(config):
    """Why a model of this config, filled with zeros, computes nothing; nothing where it does."""
    cls = getattr(transformers, config["architectures"][0])
    config = {**config, **COMPUTED_WITH.get(config["model_type"], {})}
    try:
        with contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
            with torch.device("meta"):
                model = cls(cls.config_class.from_dict(as_loaded(config))).float()
            model = getattr(model, "thinker", model).to_empty(device="cpu").eval()
            for tensor in [*model.parameters(), *model.buffers()]:
                tensor.zero_()
            model(**image_inputs(model))
    except Exception as failure:  # whatever torch raises
        return f"{type(failure).__name__}: {str(failure)[:200]}"
    return None


def complaint(field, config, path, healthy):
    """What bridge-verify and transformers disagree about; nothing where they agree. `healthy` are the tensors that lie
    beside a config that transformers refuses."""
    try:
        tensors = tensors_of(config)
    except Exception as refusal:  # whatever a class of transformers raises
        code, text = check(dump(config, healthy, path))
        if code == 0 or field not in text:
            return f"transformers refuses it ({type(refusal).__name__}: {str(refusal)[:200]}); exit {code}\n{text[:800]}"
        return None
    code, text = check(dump(config, tensors, path))
    if code == 0 or (code in (1, 5) and field in text and ("Megatron" in text or cannot_compute(config))):
        return None  # what Megatron cannot build is refused with the reason, or its tensors are refuted by name
    return f"transformers builds it; exit {code}\n{text[:2500]}"


@pytest.mark.parametrize("family", sorted(LACKING))
def test_transformers_still_lacks_the_class(family):
    assert not hasattr(transformers, config_of(family)["architectures"][0])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_absent_and_null_fields_mean_what_transformers_takes_them_for(family, tmp_path):
    seen, wrong, healthy = 0, [], tensors_of(config_of(family))
    assert cannot_compute(config_of(family)) is None
    for field, what, config in variants(family):
        seen += 1
        found = complaint(field.split(".")[-1], config, tmp_path / "headers.json", healthy)
        if found:
            wrong.append(f"{what}: {found}")
    assert seen >= 10
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_whole_configs_are_as_transformers_builds_them(family, tmp_path):
    config = config_of(family)
    tensors = tensors_of(config)
    assert complaint("", config, tmp_path / "headers.json", tensors) is None
    carried = [prefix for one in json.loads((FAMILIES / f"{family}.json").read_text()).get("carried", []) for prefix in one["hf"]]
    # The comparison sees one wrong number; a tensor that goes as it is has the shape that it has.
    name = next(name for name in sorted(tensors) if not name.startswith(tuple(carried)))
    tensors[name] = [size + 1 for size in tensors[name]]
    code, text = check(dump(config, tensors, tmp_path / "headers.json"))
    assert code == 1 and name in text
