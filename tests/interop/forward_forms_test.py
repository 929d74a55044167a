"""The forward oracles in their HF form against the real classes of transformers: every sample of fixtures/configs whose class
transformers has and whose family has a form, with numbers drawn for each tensor, everything in float64. Settings that a
tiny config leaves without effect (windows, multipliers, clips) get values that have one; and each number of the
config that the form reads is changed in turn: the logits must then differ."""

import json
import os
import subprocess

import pytest
import torch
import transformers
from safetensors.torch import save_file

from command import FIXTURES, LACKING
from config_fields_test import COMPUTED_WITH, as_loaded
from make_checkpoints import drawn
from make_forward import lift_islands

IDS = [[3, 58, 42, 5, 33, 13, 9, 30, 50]]  # none of them stands for an image or a sound
SAME = 1e-9
SEEN = 1e-7
# Values with an effect on nine tokens.
TELLING = {"sliding_window": 3, "attention_chunk_size": 4, "floor_scale": 2, "attn_scale": 0.7, "clip_qkv": 0.3, "router_jitter_noise": 0.3, "residual_multiplier": 0.7, "embedding_multiplier": 3.0,
           "attention_multiplier": 0.4, "logits_scaling": 2.5, "logit_scale": 0.3, "attn_logit_softcapping": 0.5,
           "final_logit_softcapping": 0.4, "routed_scaling_factor": 2.5, "attention_in_multiplier": 0.7, "attention_out_multiplier": 1.3, "key_multiplier": 0.6,
           "lm_head_multiplier": 1.7, "ssm_in_multiplier": 0.8, "ssm_out_multiplier": 1.2, "ssm_multipliers": [0.9, 1.1, 1.2, 0.8, 1.3],
           "mlp_multipliers": [0.7, 1.4]}
# Fields that the samples have at null.
ALSO_TELLING = {"gemma4_text": {"final_logit_softcapping": 0.4}}
# Classes that take the window only where use_sliding_window says so, each in layers of its own.
WINDOWED = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1, "layer_types": None}
# What a form multiplies, divides or counts by; and the factor of the change.
PLANTED = {"rms_norm_eps": 1e5, "layer_norm_eps": 1e5, "norm_eps": 1e5, "norm_epsilon": 1e5, "residual_multiplier": 1.1,
           "embedding_multiplier": 1.1, "attention_multiplier": 1.1, "logits_scaling": 1.1, "logit_scale": 1.1,
           "routed_scaling_factor": 1.1, "router_scaling_factor": 1.1, "clip_qkv": 0.5, "attn_logit_softcapping": 0.5,
           "final_logit_softcapping": 0.5, "query_pre_attn_scalar": 2, "sliding_window": 2, "attention_chunk_size": 0.5,
           "attn_scale": 1.5, "layer_norm_epsilon": 1e5, "attention_in_multiplier": 1.1,
           "attention_out_multiplier": 1.1, "key_multiplier": 1.1, "lm_head_multiplier": 1.1, "ssm_in_multiplier": 1.1, "ssm_out_multiplier": 1.1}
PLANTED_COUNTS = ("num_experts_per_tok", "top_k_experts", "moe_k", "moe_topk", "index_topk", "index_topk_blocks")
PLANTED_FLAGS = ("norm_topk_prob", "use_parallel_residual")
# Fields that the class does not read.
WITHOUT_EFFECT = {"deepseek_v2": {"norm_topk_prob"}, "dots1": {"sliding_window"}, "qwen2_moe": {"sliding_window"}}


# Families without a form; kKnownWithout of tests/properties/forward_claim_test.cpp lists their samples.
WITHOUT_FORM = set()


# Models whose text part alone has a form: what sees and hears in them takes no part. Not here: llama4, whose vision tower has its
# published size in the fixture, and qwen2_audio, which transformers 5.12 writes under names that nobody reads.
WRAPPERS = {"ernie4_5_vl_moe", "exaone4_5", "gemma4", "gemma3_vl", "glm4v_moe", "minimax_m3", "mistral3", "qwen2_5_vl", "qwen2_vl"}


def form_of(path):
    return json.loads(path.read_text())["config"]


def text_of(config):
    return config.get("text_config", config)


def samples():
    """Names of samples, one for each config."""
    known = []
    for path in sorted((FIXTURES / "configs").glob("*.json")):
        config = form_of(path)
        words_alone = "ForCausalLM" in config["architectures"][0] or path.name.split(".")[0] in WRAPPERS
        if words_alone and path.name.split(".")[0] not in LACKING | WITHOUT_FORM and config not in known:
            known.append(config)
            yield path.name.removesuffix(".json")


def model_of(config):
    cls = getattr(transformers, config["architectures"][0])
    torch.manual_seed(0)
    model = cls._from_config(cls.config_class.from_dict(as_loaded(config)), attn_implementation="eager", experts_implementation="eager",
                             dtype=torch.float64).eval().double()
    for name, tensor in model.state_dict().items():  # its numbers lie in the model
        wide = 4.0 if tensor.ndim > 1 else 1.0  # scores that differ between tokens
        tensor.copy_(drawn(name, tensor) * wide)
    return model


def write(folder, name, changes=()):
    config = form_of(FIXTURES / "configs" / f"{name}.json")
    config |= COMPUTED_WITH.get(config["model_type"], {})
    text = text_of(config)
    text |= ALSO_TELLING.get(text.get("model_type"), {}) | dict(changes)
    text |= {key: value for key, value in TELLING.items() if text.get(key) is not None}
    if "clip_qkv" in getattr(transformers, config["architectures"][0]).config_class().to_dict():
        config["clip_qkv"] = TELLING["clip_qkv"]
    model = model_of(config)
    model.save_pretrained(folder)
    with torch.no_grad():
        logits = model(torch.tensor(IDS), use_cache=False).logits
    assert logits.dtype == torch.float64
    save_file({"input_ids": torch.tensor(IDS), "logits": logits.contiguous()}, folder / "forward.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return config


def answers(folders):
    """What bv_forward_vectors says of each folder."""
    done = subprocess.run([os.environ["BV_FORWARD_VECTORS"], *map(str, folders)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split(" ", 1)[1] for line in done.stdout.splitlines()]


def changed(config, key):
    if key in PLANTED_FLAGS:
        return not config[key]
    if key in PLANTED_COUNTS:
        return config[key] + 1
    value = config[key] * PLANTED[key]
    return round(value) if isinstance(config[key], int) else value


def turned_faster(rope):
    """Every base ten times as large, also those of single kinds of layers."""
    inner = {key: turned_faster(value) for key, value in rope.items() if isinstance(value, dict)}
    return {**rope, "rope_theta": 10 * (rope.get("rope_theta") or 10000.0), **inner}


def faults_of(text):
    """Text configs that say something else, by what they say."""
    for key in (*PLANTED, *PLANTED_COUNTS, *PLANTED_FLAGS):
        if text.get(key) is not None:
            yield key, {**text, key: changed(text, key)}
    rope = text.get("rope_parameters")
    if rope:
        yield "rope_theta", {**text, "rope_parameters": turned_faster(rope)}
    inner = {key: {**value, "partial_rotary_factor": 0.5} for key, value in (rope or {}).items()
             if isinstance(value, dict) and value.get("partial_rotary_factor", 0.5) != 0.5}
    if inner:
        yield "partial_rotary_factor", {**text, "rope_parameters": {**rope, **inner}}
    if rope and rope.get("partial_rotary_factor", 1.0) != 1.0:
        yield "partial_rotary_factor", {**text, "rope_parameters": {**rope, "partial_rotary_factor": 1.0}}


def planted(folder, config):
    """Folders of the same checkpoint whose config says something else."""
    for key, text in faults_of(text_of(config)):
        place = folder / f"planted_{key}"
        place.mkdir()
        for file in folder.glob("*.safetensors"):
            (place / file.name).symlink_to(file)
        (place / "config.json").write_text(json.dumps({**config, "text_config": text} if "text_config" in config else text))
        yield key, place


@pytest.fixture(scope="module", autouse=True)
def float64():
    undo = lift_islands()
    yield
    undo()  # the other files of a run have the torch that they ask for


@pytest.mark.parametrize("name", list(samples()))
def test_form_computes_what_the_class_computes(name, tmp_path):
    write(tmp_path, name)
    difference, unread = answers([tmp_path])[0].split("\t")
    assert float(difference) < SAME
    wrapper = name.split(".")[0] in WRAPPERS
    towers = ("vision", "visual", "audio", "multi_modal_projector", "patch_merge_mlp", "resampler", "weight_1") if wrapper else ()
    assert not [one for one in unread.split() if not any(tower in one for tower in towers)]


@pytest.mark.parametrize("name", list(samples()))
def test_form_sees_every_number_of_the_config(name, tmp_path):
    config = write(tmp_path, name)
    faults = list(planted(tmp_path, config))
    found = answers([place for _, place in faults])
    for (key, _), answer in zip(faults, found, strict=True):
        if key not in WITHOUT_EFFECT.get(text_of(config).get("model_type"), ()):
            refused = answer.startswith(("BV7010", "BV7014"))  # the form says that it has none for this
            assert refused or float(answer.split("\t")[0]) > SEEN, f"{key}: {answer}"


@pytest.mark.parametrize("name", ["qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3"])
def test_form_slides_where_the_class_slides(name, tmp_path):
    config = write(tmp_path, name, WINDOWED)
    (tmp_path / "unused").mkdir()
    for file in tmp_path.glob("*.safetensors"):
        (tmp_path / "unused" / file.name).symlink_to(file)
    (tmp_path / "unused" / "config.json").write_text(json.dumps({**config, "use_sliding_window": False}))
    same, other = (float(answer.split("\t")[0]) for answer in answers([tmp_path, tmp_path / "unused"]))
    assert same < SAME
    assert other > SEEN


# What the class builds and computes with where a flag is turned, beyond the samples.
TURNED = [("falcon_h1", "attention_bias", True), ("falcon_h1", "mlp_bias", True), ("gemma4_text", "attention_bias", True),
          ("hy_v3", "attention_bias", True), ("phi", "qk_layernorm", True), ("qwen2_moe", "qkv_bias", False),
          ("qwen3_5", "attention_bias", True), ("qwen3_5_moe", "attention_bias", True), ("qwen3_next", "attention_bias", True),
          ("stablelm", "use_parallel_residual", True)]


@pytest.mark.parametrize(("name", "flag", "value"), TURNED)
def test_form_has_what_a_turned_flag_adds(name, flag, value, tmp_path):
    write(tmp_path, name, {flag: value})
    difference, unread = answers([tmp_path])[0].split("\t")
    assert float(difference) < SAME and not unread.split()
