"""HF folders that bridge-verify writes, loaded by the real transformers classes: golden checkpoints converted to
Megatron and back on several layouts, and fixtures."""

import json
import re

import pytest
import torch
import transformers
from safetensors import safe_open
from transformers.core_model_loading import revert_weight_conversion

from command import GOLDEN, LACKING, convert, fixture_names, hf_cases, run, split

# What no class of transformers 5.12.1 reads: stacks whose names end in .weight, and one tensor an expert in Qwen3-VL.
NOT_READ_BY_TRANSFORMERS = {"glm4_moe/packed_weight", "qwen3_vl_moe/per_expert"}
EXPERT = re.compile(r"(.*\.)(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight")
PART = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}


def text_config(folder):
    config = json.loads((folder / "config.json").read_text())
    return config, config.get("text_config", config)


def layouts_of(folder):
    """Three layouts that every case allows: none, a wide one, and a pipeline (with experts spread where there are)."""
    _, text = text_config(folder)
    layers = text["num_hidden_layers"]
    moe = any(text.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts"))
    stages = 2 if layers % 2 == 0 else 3
    experts = ["--ep", "4", "--etp", "1"] if moe else []
    pad = ["--make-vocab-size-divisible-by", "4"]
    return {"tp1": [], "tp4": ["--tp", "4", *pad], "pp": ["--tp", "2", *split(text, layers, stages), *experts, *pad]}


def tensors(folder):
    out = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            out.update({name: opened.get_tensor(name) for name in opened.keys()})
    return out


def load(folder):
    """The model in F32, which holds every value of the files, and what transformers says of the names."""
    config, _ = text_config(folder)
    cls = getattr(transformers, config["architectures"][0])
    model, info = cls.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return model, info


def check_names(folder, info):
    """No name is missing or of another shape; only MTP layers, which these classes do not have, are left over."""
    _, text = text_config(folder)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert not info.get("error_msgs") and not info.get("conversion_errors")
    for name in info["unexpected_keys"]:
        layer = re.match(r"model\.layers\.(\d+)\.", name)
        assert name.startswith("mtp.") or (layer and int(layer[1]) >= text["num_hidden_layers"]), name


def same_bits(ours, theirs):
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype and ours[name].shape == tensor.shape, name
        assert torch.equal(ours[name].contiguous().view(torch.uint8), tensor.contiguous().view(torch.uint8)), name


def same_models(a, b):
    assert set(a) == set(b) and a
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("layout", ["tp1", "tp4", "pp"])
@pytest.mark.parametrize("case", hf_cases())
def test_golden_comes_back_from_megatron_as_transformers_reads_it(case, layout, tmp_path):
    source = GOLDEN / "hf" / case
    convert("--to", "megatron", "--model", source, "--out", tmp_path / "mg", *layouts_of(source)[layout], "-q")
    convert("--to", "hf", "--model", tmp_path / "mg", "--out", tmp_path / "hf", "-q")
    same_bits(tensors(tmp_path / "hf"), wanted(tensors(source)))
    if case in LACKING:
        return
    ours, info = load(tmp_path / "hf")
    check_names(tmp_path / "hf", info)
    theirs, _ = load(source)
    same_models(ours.state_dict(), wanted(theirs.state_dict(), {n: t.dtype for n, t in tensors(source).items()}))


def wanted(stored, dtypes=None):
    """The tensors after the way there and back: only this norm changes its values, by minus one and plus one."""
    out = dict(stored)
    for name in stored:
        if name.endswith("linear_attn.norm.weight"):
            dtype = (dtypes or {}).get(name, stored[name].dtype)
            out[name] = ((stored[name].to(dtype) - 1) + 1).to(stored[name].dtype)
    return out


# Classes that build their towers and talkers in full size, beside a text model as small as it is: their names and shapes.
IN_FULL_SIZE = {
    "llama4": ("Llama4ForConditionalGeneration", "", ""),
    "qwen2_5_omni": ("Qwen2_5OmniThinkerForConditionalGeneration", "thinker_config", "thinker."),
    "qwen2_audio": ("Qwen2AudioForConditionalGeneration", "", ""),
    "qwen3_omni_moe": ("Qwen3OmniMoeThinkerForConditionalGeneration", "thinker_config", "thinker."),
}


@pytest.mark.parametrize("name", IN_FULL_SIZE)
def test_text_model_of_the_fixture_is_the_one_of_its_class(name, tmp_path):
    run("fixture", "make", "--family", name, "--out", tmp_path / "hf")
    cls, level, prefix = IN_FULL_SIZE[name]
    cls = getattr(transformers, cls)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    config = config[level] if level else {key: value for key, value in config.items() if key not in ("audio_config", "vision_config")}
    with torch.device("meta"):
        model = cls(cls.config_class.from_dict(config))
        written = revert_weight_conversion(model, model.state_dict())
    written = {name.replace("model.model.model.", "model.model."): tensor for name, tensor in written.items()}  # doubled for Qwen2-Audio
    is_text = re.compile(re.escape(prefix) + r"(language_model|model|lm_head)\.")
    text = {prefix + name: list(tensor.shape) for name, tensor in written.items() if is_text.match(prefix + name)}
    stored = {name: list(tensor.shape) for name, tensor in tensors(tmp_path / "hf").items() if is_text.match(name)}
    assert stored == text and text


@pytest.mark.parametrize("name", [name for name in fixture_names() if name.split("/")[0] not in LACKING | set(IN_FULL_SIZE)])
def test_fixture_is_a_checkpoint_of_its_class(name, tmp_path):
    run("fixture", "make", "--family", name, "--out", tmp_path / "hf", "--seed", "3")
    if name in NOT_READ_BY_TRANSFORMERS:
        _, info = load(tmp_path / "hf")
        assert info["missing_keys"], "transformers reads this storage now: check it like the others"
        return
    model, info = load(tmp_path / "hf")
    check_names(tmp_path / "hf", info)
    held = model.state_dict()
    held = {**held, **revert_weight_conversion(model, held)}  # names of the class, and of the files that it writes
    stored = tensors(tmp_path / "hf")
    compared = {name for name, tensor in stored.items() if holds(held, name, tensor.to(torch.float32))}
    left_out = {name for name in stored if name not in compared}
    assert left_out <= set(info["unexpected_keys"]) | ignored_names(tmp_path / "hf", stored), left_out


def ignored_names(folder, stored):
    """MTP layers: these classes do not have them, and drop some of their names without a word."""
    _, text = text_config(folder)
    behind = re.compile(r"model\.layers\.(\d+)\.")
    return {name for name in stored if name.startswith("mtp.")
            or ((layer := behind.match(name)) and int(layer[1]) >= text["num_hidden_layers"])}


def holds(held, name, tensor):
    """Whether the model has a place for the tensor; a place with other values fails."""
    expert = EXPERT.fullmatch(name)
    if expert and name not in held:
        part = PART.get(expert[3], expert[3])
        stack = next((held[key] for key in (expert[1] + "mlp.experts." + ("down_proj" if part == "down_proj" else "gate_up_proj"),)
                      if key in held), None)
        if stack is None:
            return False
        place = stack[int(expert[2])]
        rows = place.shape[0] // 2
        place = place if part == "down_proj" else place[:rows] if part == "gate_proj" else place[rows:]
    else:
        if name not in held and "block_sparse_moe.gate" in name:
            name = name.replace("block_sparse_moe.gate", "mlp.gate").replace("language_model.model.", "model.language_model.")
        name = name if name in held else name.replace("model.language_model.", "model.")
        place = held.get(name)
    if place is None:
        return False
    if place.shape != tensor.shape and place.ndim == 3:  # stacks with input rows first
        tensor = tensor.transpose(1, 2)
    assert torch.equal(place, tensor), name
    return True


def test_a_renamed_tensor_is_noticed(tmp_path):
    from safetensors.torch import save_file

    run("fixture", "make", "--family", "qwen2", "--out", tmp_path / "hf")
    stored = tensors(tmp_path / "hf")
    stored["model.layers.0.self_attn.q_project.weight"] = stored.pop("model.layers.0.self_attn.q_proj.weight")
    save_file(stored, tmp_path / "hf" / "model.safetensors", metadata={"format": "pt"})
    _, info = load(tmp_path / "hf")
    with pytest.raises(AssertionError):
        check_names(tmp_path / "hf", info)


def test_the_command_lists_every_fixture():
    assert [line.split()[0] for line in run("fixture", "list").splitlines() if not line.startswith(" ")] == fixture_names()
