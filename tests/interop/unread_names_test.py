"""Tensors that files hold and no class of transformers reads (_keys_to_ignore_on_load_unexpected): for every class of a family that names
some, a fixture with such tensors passes check, and no word of it is that loaders compute weights again. A new pattern has to be given names."""

import json
import pathlib
import re
import sys

import pytest
import safetensors.torch
import torch
import transformers

from command import fixture_names, run, run_noting

FAMILIES = pathlib.Path(__file__).resolve().parents[2] / "core" / "families"
MTP = re.compile(r"mtp")
LAYER = re.compile(r"^model\\\.layers\\\.\d+\.\*$")
# Files of these hold MTP layers under names of their own (vLLM reads them: ernie_mtp.py).
MTP_NAMES = {"ernie4_5_moe": ["model.mtp_block.0.self_attn.q_proj.weight", "model.mtp_emb_norm.0.weight", "model.mtp_linear_proj.0.weight"],
             "minimax_m3": ["mtp.layers.0.eh_proj.weight", "language_model.mtp.layers.0.eh_proj.weight"]}
# A text class that is loaded from files of the class with a tower: config.json of these names the other.
OF_ANOTHER_CLASS = {r"^model.visual.*"}
# The class copied the pattern of its text model, whose prefix its own names do not have.
NEVER_MATCHES = {"glm4v_moe"}


def classes(family):
    """Every class of the module that holds a class of the family, and what its files may hold."""
    found = {}
    for name in family.get("architectures", []):
        cls = getattr(transformers, name, None)
        module = sys.modules.get(cls.__module__) if cls else None
        for other in vars(module).values() if module else []:
            patterns = getattr(other, "_keys_to_ignore_on_load_unexpected", None) if isinstance(other, type) else None
            if patterns and other.__module__ == cls.__module__:
                found[other.__name__] = list(patterns)
    return found


def patterns_of(family):
    return sorted({pattern for patterns in classes(family).values() for pattern in patterns})


def read(name):
    return json.loads((FAMILIES / f"{name}.json").read_text())


WITH_PATTERNS = sorted(path.stem for path in FAMILIES.glob("*.json") if patterns_of(read(path.stem)))


def planted(name, pattern, config):
    """Names that the pattern takes, in the files of this family, and their shapes."""
    text = config.get("text_config", config)
    if pattern in OF_ANOTHER_CLASS or name in NEVER_MATCHES:
        return {}
    if MTP.search(pattern):
        names = MTP_NAMES.get(name, ["mtp.layers.0.input_layernorm.weight", "mtp.norm.weight"])
        assert all(re.search(pattern, one) for one in names)
        return {one: [8] for one in names}
    if LAYER.match(pattern):
        return {f"model.layers.{text['num_hidden_layers']}.eh_proj.weight": [8, 16]}
    if pattern in (r"attention.bias", r"attention.masked_bias"):
        return {"gpt_neox.layers.0." + pattern: [1, 1, 8, 8] if pattern.endswith(".bias") else []}
    raise AssertionError(f"{name}: what do files hold that {pattern!r} takes?")


def with_more(folder, more):
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    assert not set(more) & set(tensors), "the fixture holds it already"
    tensors |= {name: torch.ones(shape, dtype=torch.bfloat16) for name, shape in more.items()}
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})


def single_file(name, folder):
    run("fixture", "make", name, "--out", folder, "-q")
    if not (folder / "model.safetensors").exists():
        pytest.skip("several files")
    return folder


@pytest.mark.parametrize("name", WITH_PATTERNS)
def test_published_extras_are_taken(name, tmp_path):
    if name not in fixture_names():
        pytest.skip("no fixture of this family")
    folder = single_file(name, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    there = set(safetensors.torch.load_file(folder / "model.safetensors"))
    more = {}
    for pattern in patterns_of(read(name)):
        more |= planted(name, pattern, config)
    more = {one: shape for one, shape in more.items() if one not in there}
    if not more:
        return  # the fixture holds them, or no file does
    with_more(folder, more)
    said = run_noting("check", "--model", folder, "--drop-mtp", "--level", "headers")
    assert "every loader computes" not in said or name == "gpt_neox", said
    assert "changes nothing" not in said or name == "gpt_neox", said


@pytest.mark.parametrize("name", ["gemma4_text", "gemma4"])
def test_keys_of_layers_that_share_others(name, tmp_path):
    """The class lists them when it is built; a checkpoint with them loads without a word, here and there."""
    folder = single_file(name, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    text = config.get("text_config", config)
    there = safetensors.torch.load_file(folder / "model.safetensors")
    if text.get("num_kv_shared_layers"):
        first = text["num_hidden_layers"] - text["num_kv_shared_layers"]
        keys = re.compile(r"^(model\.layers\.)0(\.self_attn\.(?:k_proj|v_proj|k_norm)\.weight)$")
        with_more(folder, {f"{found.group(1)}{layer}{found.group(2)}": list(tensor.shape) for one, tensor in there.items()
                           for found in [keys.match(one)] if found for layer in range(first, text["num_hidden_layers"])})
    else:  # all layers have them: let the last ones read those of others
        text["num_kv_shared_layers"] = 2
        (folder / "config.json").write_text(json.dumps(config))
    _, info = getattr(transformers, config["architectures"][0]).from_pretrained(folder, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["missing_keys"], info
    said = run_noting("check", "--model", folder, "--level", "headers")
    assert "ignored 6" in said or "ignored 5" in said, said
    assert "num_kv_shared_layers" in said.partition("ignored")[2], said
