"""Adapters that the real PEFT writes over every fixture that transformers has a class for: read, converted to Megatron and back
on two layouts byte for byte, and merged as PEFT merges them. Factors are small integers times powers of two, so that every order
of summation gives the same bits."""

import gc
import json
import pathlib
import re

import peft
import pytest
import torch
import transformers

from adapters_test import tensors
from command import fixture_names, run, run_failing, run_noting, split

FAMILIES = pathlib.Path(__file__).resolve().parents[2] / "core" / "families"
# transformers 5.12.1 has no such class: code of the model's own repository, or of Megatron-Bridge.
NO_CLASS = {"BailingMoeV2ForCausalLM", "DeciLMForCausalLM", "KimiK25ForConditionalGeneration", "MiMoForCausalLM",
            "MiMoV2FlashForCausalLM", "NemotronH_Nano_Omni_Reasoning_V3", "NemotronH_Nano_VL_V2", "Qwen3ASRForConditionalGeneration",
            "SarvamMLAForCausalLM", "SarvamMoEForCausalLM", "Step3p5ForCausalLM", "Step3p7ForConditionalGeneration"}
# The class reads no such storage (hf_folders_test), or cannot be built from such sizes of its tower.
NOT_READ = {"glm4_moe/packed_weight", "qwen3_vl_moe/per_expert", "llama4", "qwen2_audio", "qwen2_5_omni", "qwen3_omni_moe"}
# Modules that Megatron holds as a parameter or as its output layer: no adapter of Megatron is about them, nor about convolutions.
NOT_IN_MEGATRON = re.compile(r".*(\.shared_expert_gate|score)")
# PEFT refuses these modules of a Mamba model, and wrappers that are no linear layers.
NOT_IN_PEFT = {"falcon_h1": r".*mamba\.out_proj", "nemotron_h": r".*mixer\.out_proj", "gemma4": r".*(vision_tower|audio_tower|embed_vision).*"}
TYPICAL = r".*\.(?:[qkvo]_proj|(?:gate|up|down)_proj|in_proj\w*|out_proj|(?:kv_a|q_a|q_b|kv_b)_proj\w*|qkv_proj|query_key_value|fc[12]|c_(?:attn|fc|proj))"


def config_of(folder):
    config = json.loads((folder / "config.json").read_text())
    inner = config.get("thinker_config", config)
    return config, inner.get("text_config", inner.get("llm_config", inner))


def load(folder):
    """The model in F32, and the modules that the checkpoint does not have."""
    name = config_of(folder)[0]["architectures"][0]
    cls = getattr(transformers, name, None)
    if cls is None:
        assert name in NO_CLASS, name
        pytest.skip(f"transformers has no {name}")
    assert name not in NO_CLASS, f"transformers has {name} now: take it out of the list"
    model, info = cls.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    return model, {name.rpartition(".")[0] for name in info["missing_keys"]}


def layouts(folder):
    _, text = config_of(folder)
    layers = text.get("num_hidden_layers") or len(text.get("hybrid_override_pattern", "") or text["layers_block_type"])
    stages = next(n for n in (2, 3, 5, 1) if layers % n == 0)
    experts = ["--ep", 2, "--etp", 1] if any(text.get(key) for key in ("num_experts", "num_local_experts", "n_routed_experts")) else []
    return [["--tp", 1], ["--tp", 2, *split(text, layers, stages), *experts]]


def adapted(model, folder, **targets):
    """Writes an adapter of rank 4 with exact products; PEFT's model."""
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, **targets))
    numbers = torch.Generator().manual_seed(5)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            unit = 2**-4 if "lora_A" in name else 2**-3
            parameter.data = torch.randint(-3, 4, parameter.shape, generator=numbers).float() * unit
    wrapped.save_pretrained(folder)
    return wrapped


def same_after_megatron(base, adapter, tmp_path, *words):
    for number, layout in enumerate(layouts(base)):
        ranks, back = tmp_path / f"ranks{number}", tmp_path / f"back{number}"
        run("lora", "convert", "--to", "megatron", "--model", base, "--adapter", adapter, "--out", ranks, *layout, *words, "-q")
        said = run_noting("lora", "convert", "--to", "hf", "--model", base, "--adapter", ranks, "--out", back)
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            assert (back / file).read_bytes() == (adapter / file).read_bytes(), (layout, file, said)
        assert "is written anew" not in said and "is not byte for byte" not in said, said


def merged_alike(base, adapter, wrapped, tmp_path):
    """Our merge rounds once to what the file stores; PEFT's is made in F32 and rounded here. Parameters that the checkpoint does
    not have are random in each of the models."""
    run("lora", "merge", "--model", base, "--adapter", adapter, "--out", tmp_path / "merged", "-q")
    stored = getattr(torch, config_of(base)[0].get("dtype") or config_of(base)[1].get("dtype") or "bfloat16")
    theirs = wrapped.merge_and_unload().state_dict()
    merged, absent = load(tmp_path / "merged")
    ours = merged.state_dict()
    assert set(ours) == set(theirs)
    for name, wanted in theirs.items():
        same = torch.equal(ours[name], wanted) or torch.equal(ours[name], wanted.to(stored).to(wanted.dtype))
        assert same or name.rpartition(".")[0] in absent, name
    gc.collect()


@pytest.fixture
def base(request, tmp_path):
    if request.param in NOT_READ:
        pytest.skip("the class does not read this storage")
    run("fixture", "make", "--family", request.param, "--out", tmp_path / "base", "--seed", "3")
    return tmp_path / "base"


def excluded(base, absent, also=()):
    family = config_of(base)[0]["model_type"]
    patterns = [re.escape(name) for name in sorted(absent)] + list(also)
    patterns += [pattern for name, pattern in NOT_IN_PEFT.items() if family == name]
    return "|".join(f"(?:{pattern})" for pattern in patterns) or None


def not_in_megatron(model):
    convolutions = [re.escape(name) for name, module in model.named_modules() if getattr(getattr(module, "weight", None), "ndim", 0) > 2]
    return re.compile("|".join([NOT_IN_MEGATRON.pattern, *(rf"(?:.*\.)?{name}" for name in convolutions)]))


@pytest.mark.parametrize("base", fixture_names(), indirect=True)
def test_every_linear_layer(base, tmp_path):
    model, absent = load(base)
    no_form = not_in_megatron(model)
    targets = {"target_modules": "all-linear", "exclude_modules": excluded(base, absent)}
    wrapped = adapted(model, tmp_path / "all", **targets)
    outside = [name for name, module in wrapped.named_modules() if hasattr(module, "lora_A") and no_form.fullmatch(name)]
    if not outside:
        run("lora", "check", "--model", base, "--adapter", tmp_path / "all", "-q")
        same_after_megatron(base, tmp_path / "all", tmp_path)
    elif not outside[0].endswith("score"):
        said = run_failing(5, "lora", "convert", "--to", "megatron", "--model", base, "--adapter", tmp_path / "all", "--out", tmp_path / "no", "--tp", 1)
        assert "BV4012" in said
    merged_alike(base, tmp_path / "all", wrapped, tmp_path)
    if outside:
        model, _ = load(base)
        adapted(model, tmp_path / "in", target_modules="all-linear", exclude_modules=excluded(base, absent, [no_form.pattern]))
        run("lora", "check", "--model", base, "--adapter", tmp_path / "in", "-q")
        same_after_megatron(base, tmp_path / "in", tmp_path)


@pytest.mark.parametrize("base", [name for name in fixture_names() if "/" not in name], indirect=True)
def test_a_pattern_of_typical_names(base, tmp_path):
    """target_modules as a string: all of a path must match it."""
    model, absent = load(base)
    wrapped = adapted(model, tmp_path / "names", target_modules=TYPICAL,
                      exclude_modules=excluded(base, absent, [NOT_IN_MEGATRON.pattern]))
    run("lora", "check", "--model", base, "--adapter", tmp_path / "names", "-q")
    same_after_megatron(base, tmp_path / "names", tmp_path)
    merged_alike(base, tmp_path / "names", wrapped, tmp_path)


@pytest.mark.parametrize("base", fixture_names(), indirect=True)
def test_packed_experts_and_routers(base, tmp_path):
    """target_parameters: what is no module of its own."""
    model, absent = load(base)
    stacks = {".".join(name.split(".")[-2:]) for name, parameter in model.named_parameters() if parameter.ndim == 3 and ".experts." in name}
    if not stacks:
        pytest.skip("no packed experts")
    routers = {".".join(name.split(".")[-3:]) for name, parameter in model.named_parameters()
               if re.search(r"\.(gate|router)\.weight$", name) and parameter.ndim == 2}
    wrapped = adapted(model, tmp_path / "experts", target_modules=[], target_parameters=sorted(stacks | routers))
    run("lora", "check", "--model", base, "--adapter", tmp_path / "experts", "-q")
    same_after_megatron(base, tmp_path / "experts", tmp_path)
    merged_alike(base, tmp_path / "experts", wrapped, tmp_path)


@pytest.mark.parametrize("base", fixture_names(), indirect=True)
def test_stacks_that_peft_takes_as_they_are_stored(base, request):
    """`peft_stacks` of a family: the class keeps [E, in, out], and its module has no is_transposed."""
    model, absent = load(base)
    config = config_of(base)[1]
    hidden = config.get("moe_latent_size") or config["hidden_size"]
    unmarked = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            out = name == "down_proj" or path.endswith("output_linear")  # of the hidden state
            if parameter.ndim == 3 and out and path not in absent and ".visual." not in path:
                assert parameter.shape[1] != parameter.shape[2], "square: give the fixture another size"
                assert hidden in parameter.shape[1:]
                unmarked.add(parameter.shape[2] == hidden and not getattr(module, "is_transposed", False))
    if not unmarked:
        pytest.skip("no stacks of experts")
    name = request.node.callspec.params["base"].split("/")[0]
    family = json.loads((FAMILIES / f"{name}.json").read_text())
    assert unmarked == {family.get("peft_stacks") == "as_stored"}


@pytest.mark.parametrize("words", [[], ["--canonical"]], ids=["fused", "canonical"])
@pytest.mark.parametrize("base", ["glm4", "minimax_m3", "phi3"], indirect=True)
def test_layers_that_are_one_in_the_class_keep_their_magnitudes_and_projections(base, words, tmp_path):
    """Canonical LoRA has a pair for each projection of Megatron's layer, the class one linear layer."""
    model, _ = load(base)
    adapted(model, tmp_path / "dora", use_dora=True, target_modules=r".*\.(?:gate_up_proj|qkv_proj)")
    assert any(name.endswith("lora_magnitude_vector") for name in tensors(tmp_path / "dora" / "adapter_model.safetensors"))
    run("lora", "check", "--model", base, "--adapter", tmp_path / "dora", "-q")
    same_after_megatron(base, tmp_path / "dora", tmp_path, *words)


@pytest.mark.parametrize("base", ["ernie4_5_vl_moe", "gemma3_vl", "mistral3"], indirect=True)
def test_a_pair_on_a_tower_of_hf_is_whole_on_every_rank(base, tmp_path):
    """Megatron-Bridge wraps a plain nn.Linear in LinearAdapter, which nothing cuts: a rank that TP does not divide has a form."""
    model, absent = load(base)
    peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=6, target_modules=r".*vision_tower.*\.(?:fc[12]|[qkv]_proj)",
                                               exclude_modules=excluded(base, absent))).save_pretrained(tmp_path / "tower")
    pairs = len(tensors(tmp_path / "tower" / "adapter_model.safetensors"))
    run("lora", "check", "--model", base, "--adapter", tmp_path / "tower", "--tp", 2, "-q")
    run("lora", "convert", "--to", "megatron", "--model", base, "--adapter", tmp_path / "tower", "--out", tmp_path / "ranks", "--tp", 2, "-q")
    ranks = [tensors(file) for file in sorted((tmp_path / "ranks").glob("*.safetensors"))]
    assert len(ranks) == 2 and len(ranks[0]) == pairs and ranks[0].keys() == ranks[1].keys()
    for name, value in ranks[0].items():
        assert torch.equal(value, ranks[1][name])
        assert value.shape[0 if "linear_in" in name else 1] == 3, name
    run("lora", "convert", "--to", "hf", "--model", base, "--adapter", tmp_path / "ranks", "--out", tmp_path / "back", "-q")
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "back" / file).read_bytes() == (tmp_path / "tower" / file).read_bytes()


SCALES = {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"k_proj": 16, "up_proj": 4}}  # q and gate 2, k and v 4, up 1


def merged_tensors(base, adapter, out):
    run("lora", "merge", "--model", base, "--adapter", adapter, "--out", out, "-q")
    return tensors(next(out.glob("*.safetensors")))


@pytest.mark.parametrize("base", ["llama", "qwen3_next", "minimax_m3"], indirect=True)
def test_projections_of_several_scales_are_one_layer_of_megatron(base, tmp_path):
    """Scales that differ by a power of two: B takes it in, and gives it back. Without what adapter.json says of the pairs, those
    of one scale come back, and their merge is the same."""
    model, absent = load(base)
    wrapped = adapted(model, tmp_path / "two", target_modules=["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"],
                      exclude_modules=excluded(base, absent, [NOT_IN_MEGATRON.pattern, r".*experts.*"]), **SCALES)
    run("lora", "check", "--model", base, "--adapter", tmp_path / "two", "--tp", 2, "-q")
    same_after_megatron(base, tmp_path / "two", tmp_path)
    file = tmp_path / "ranks0" / "adapter.json"
    record = json.loads(file.read_text())
    assert any(len(block) == 4 for layer in record["layers"].values() for block in layer["blocks"])
    for layer in record["layers"].values():
        del layer["blocks"]
    record["config"] = ""
    file.write_text(json.dumps(record))
    run("lora", "convert", "--to", "hf", "--model", base, "--adapter", tmp_path / "ranks0", "--out", tmp_path / "one", "-q")
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    wanted, found = merged_tensors(base, tmp_path / "two", tmp_path / "wanted"), merged_tensors(base, tmp_path / "one", tmp_path / "found")
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert torch.equal(value, found[name]), (name, config)
    merged_alike(base, tmp_path / "two", wrapped, tmp_path)


def test_scales_that_no_power_of_two_parts_are_refused_or_canonical(tmp_path):
    run("fixture", "make", "--family", "llama", "--out", tmp_path / "base", "--seed", "3")
    adapted(load(tmp_path / "base")[0], tmp_path / "three", target_modules=["q_proj", "k_proj", "v_proj"], alpha_pattern={"k_proj": 24})
    said = run_failing(5, "lora", "convert", "--to", "megatron", "--model", tmp_path / "base", "--adapter", tmp_path / "three", "--out",
                       tmp_path / "no", "--tp", 2)
    assert "power of two" in said and "--canonical" in said and "k_proj.weight: 6" in said
    same_after_megatron(tmp_path / "base", tmp_path / "three", tmp_path, "--canonical")


PATTERNS = {
    r".*\.mlp\.experts\.\w*_proj": True,
    r".*(?:[qkvo]_proj|experts.*\.(?:gate|up|down)_proj)": True,
    r"model\.layers\.0\.self_attn\.q_proj": False,  # the last component is what counts: q_proj of every layer
    r".*\.(?:q_proj|down_proj)": True,
    "all-linear": True,
    r".*self_attn\.[qk]_proj": False,
}


@pytest.mark.parametrize("family", ["qwen3_moe", "olmoe", "dots1"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_of_a_file_is_resolved_as_peft_does(family, pattern, tmp_path):
    """A class whose experts PEFT moves: a pattern of the file becomes a list of last components, and experts parameters."""
    run("fixture", "make", "--family", family, "--out", tmp_path / "base", "--seed", "3")
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model, _ = load(base)
    wrapped = adapted(model, adapter, target_modules=pattern)
    held = tensors(adapter / "adapter_model.safetensors")
    assert any(".experts." in name for name in held) == PATTERNS[pattern]
    config = json.loads((adapter / "adapter_config.json").read_text())
    config.update(target_modules=pattern, target_parameters=None, rank_pattern={}, alpha_pattern={})
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    again = peft.PeftModel.from_pretrained(load(base)[0], adapter)
    loaded = {name: value for name, value in again.state_dict().items() if ".lora_" in name}
    assert loaded.keys() == {name: 0 for name in wrapped.state_dict() if ".lora_" in name}.keys()
    run("lora", "check", "--model", base, "--adapter", adapter, "-q")
    merged_alike(base, adapter, again, tmp_path)


def test_a_pattern_with_the_number_of_an_expert_moves_none(tmp_path):
    """The class has no such path, and PEFT asks for none with a number: it drops those keys without an error."""
    run("fixture", "make", "--family", "qwen3_moe", "--out", tmp_path / "base", "--seed", "3")
    model, _ = load(tmp_path / "base")
    adapted(model, tmp_path / "adapter", target_modules=r".*\.mlp\.experts\.\w*_proj|.*\.q_proj")
    file = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(file.read_text())
    config.update(target_modules=r".*\.mlp\.experts\.\d+\.\w*_proj|.*\.q_proj", target_parameters=None, rank_pattern={}, alpha_pattern={})
    file.write_text(json.dumps(config))
    again = peft.PeftModel.from_pretrained(load(tmp_path / "base")[0], tmp_path / "adapter")
    assert not any(".experts." in name for name in again.state_dict() if ".lora_" in name)
    said = run_failing(5, "lora", "check", "--model", tmp_path / "base", "--adapter", tmp_path / "adapter")
    assert "rank 8" in said  # twice the config's, which nothing says then


def test_a_wrong_factor_is_noticed(tmp_path):
    """The comparisons of this file can fail: one element of one factor is changed behind PEFT's back."""
    from safetensors.torch import save_file

    run("fixture", "make", "--family", "llama", "--out", tmp_path / "base", "--seed", "3")
    wrapped = adapted(load(tmp_path / "base")[0], tmp_path / "adapter", target_modules="all-linear")
    stored = tensors(tmp_path / "adapter" / "adapter_model.safetensors")
    next(tensor for name, tensor in stored.items() if "lora_B" in name)[0, 0] += 1
    save_file(stored, tmp_path / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AssertionError):
        merged_alike(tmp_path / "base", tmp_path / "adapter", wrapped, tmp_path)
