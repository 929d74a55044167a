"""Each flag of each config class, turned round. The class of the real transformers says which tensors the model then has:
bridge-verify converts them, there and back with real values, or one verdict says of every tensor that it has no place in
Megatron, or of every Megatron parameter that the class has no tensor for it, and why. No such config is refused."""

import contextlib
import io
import json
import os
import re
import subprocess

import pytest
import torch
import transformers

from config_fields_test import FAMILY_NAMES, as_loaded, cannot_compute, check, config_of, dump, tensors_of
from odd_configs_test import ANSWERS, PARAMETERS_MAX, answer, filled, has_no_place

# They change what is computed or returned, never which tensors there are.
NO_TENSORS = {"use_cache", "output_hidden_states", "output_attentions", "return_dict", "is_encoder_decoder"}
NO_MODELS = {"rope_parameters", "rope_scaling", "id2label", "label2id", "quantization_config"}
# Both sides compute with a gate whatever the flag says, so a config that denies it belongs to another model.
DENIED = {"attn_output_gate"}
# Whole models that a flag brings in: their classes' own sizes are the published ones (7,048,147,256 parameters).
BROUGHT_IN = {"enable_audio_output": {
    "talker_config": {"embedding_size": 16, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
                      "num_key_value_heads": 1, "head_dim": 8},
    "token2wav_config": {"dit_config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "emb_dim": 8,
                                        "num_embeds": 65, "enc_emb_dim": 8, "enc_dim": 8, "enc_channels": [8, 8, 8, 8, 24],
                                        "enc_attention_channels": 4, "enc_se_channels": 4},
                         "bigvgan_config": {"upsample_initial_channel": 64}}}}
NO_PLACE = re.compile(r"ha(s|ve) no place in Megatron: .*Megatron")
NO_SOURCE = re.compile(r"ha(s|ve) no HF tensor \(.*\): .*Megatron")


def flags_of(value, above=()):
    for key, one in value.items():
        if isinstance(one, bool) and key not in NO_TENSORS:
            yield (*above, key), one
        if isinstance(one, dict) and key not in NO_MODELS:
            yield from flags_of(one, (*above, key))


def turned(config, path, value):
    out = json.loads(json.dumps(config))
    place = out
    for level in path[:-1]:
        place = place.setdefault(level, {})
    place[path[-1]] = value
    place.update(BROUGHT_IN.get(path[-1], {}) if value else {})
    return out


def variants(family):
    """(path, config, tensors) of each flag turned round that the class builds."""
    config = config_of(family)
    cls = getattr(transformers, config["architectures"][0])
    for path, value in flags_of(cls.config_class.from_dict(as_loaded(config)).to_dict()):
        changed = turned(config, path, not value)
        try:
            yield path, changed, tensors_of(changed)
        except Exception:  # whatever a class raises: it refuses the config
            continue


def faults_of(path):
    words = [os.environ["BV_COMMAND"], "check", "--headers", path, "--only", "names", "--tp", "1", "--allow-partial", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    return [one for one in json.loads(done.stdout)["verdicts"] if one["outcome"] == "Refuted"]


def subjects_of(fault):
    return fault["subject"].get("all") or fault["subject"]["hf"] or [fault["subject"]["megatron"]]


def complaint(path, config, tensors, healthy, file):
    code, said = check(dump(config, tensors, file))
    flag = path[-1]
    if code == 0:
        return None
    if flag in DENIED:
        return None if code == 5 and flag in said and "Megatron" in said else f"exit {code}\n{said}"
    if code != 1:
        return f"exit {code}\n{said}"
    more, less = set(tensors) - set(healthy), set(healthy) - set(tensors)
    same = not more and not less  # the class ignores the flag, and Megatron builds by it
    told = set()
    for fault in faults_of(file):
        subjects = set(subjects_of(fault))
        if fault["code"] == "BV1001" and NO_PLACE.search(fault["title"]):
            told |= subjects
            if subjects - more:
                return f"these are as ever: {sorted(subjects - more)}"
        elif not (fault["code"] == "BV1004" and (less or same) and NO_SOURCE.search(fault["title"])):
            return f"{fault['code']}: {fault['title']}"
    return None if told or less or same else f"nothing is named\n{said}"


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_each_flag_is_converted_or_its_tensors_are_named(family, tmp_path):
    healthy, wrong, seen = tensors_of(config_of(family)), [], 0
    for path, config, tensors in variants(family):
        seen += 1
        found = complaint(path, config, tensors, healthy, tmp_path / "headers.json")
        if found:
            wrong.append(f"{'.'.join(path)}: {found[:1500]}")
    assert seen >= 1
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_what_a_flag_adds_goes_there_and_back(family, tmp_path):
    """The class writes real values; what Megatron holds comes back bit by bit, and the model computes the same."""
    healthy, wrong = set(tensors_of(config_of(family))), []
    for number, (path, config, tensors) in enumerate(variants(family)):
        if set(tensors) == healthy or path[-1] in DENIED:
            continue
        assert sum(torch.Size(shape).numel() for shape in tensors.values()) <= PARAMETERS_MAX, f"{'.'.join(path)}: no place in memory"
        folder = tmp_path / str(number)
        cls = getattr(transformers, config["architectures"][0])
        with contextlib.redirect_stderr(io.StringIO()):
            model = filled(cls(cls.config_class.from_dict(as_loaded(config))), torch.float32)
            model.save_pretrained(folder)
        code, said = answer("check", "--model", folder, "--level", "full", "--layouts", "quick")
        if has_no_place(code, said):
            continue  # held by the test above
        formless = code == 3 and set(re.findall(r"\[(BV\d{4})\]", said)) <= ANSWERS
        if code != 0 and not formless and not cannot_compute(config):
            wrong.append(f"{'.'.join(path)}: exit {code}\n{said[-1500:]}")
            continue
        code, said = answer("roundtrip", "--model", folder)
        if code != 0:
            wrong.append(f"{'.'.join(path)}: roundtrip {code}\n{said[-1500:]}")
    assert not wrong, "\n".join(wrong)


def test_a_head_that_the_class_does_not_tie_is_that_of_the_embedding_or_refuted(tmp_path):
    """Nemotron-H of transformers has a head of its own whatever tie_word_embeddings says; Megatron shares the embedding by it."""
    config = turned(config_of("nemotron_h"), ("tie_word_embeddings",), True)
    cls = getattr(transformers, config["architectures"][0])
    model = filled(cls(cls.config_class.from_dict(as_loaded(config))), torch.float32)
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    model.save_pretrained(tmp_path / "own")
    code, said = answer("check", "--model", tmp_path / "own", "--layouts", "quick")
    assert code == 1 and "lm_head.weight" in said and "backbone.embedding" in said, said
    with torch.no_grad():
        model.get_output_embeddings().weight.copy_(model.get_input_embeddings().weight)
    model.save_pretrained(tmp_path / "same")
    code, said = answer("check", "--model", tmp_path / "same", "--layouts", "quick")
    assert code == 0, said
    code, said = answer("roundtrip", "--model", tmp_path / "same")
    assert code == 0, said


def test_head_norms_that_the_class_of_glm45v_has_not(tmp_path):
    """GLM-4.5V of transformers has no norms of heads whatever use_qk_norm says; Megatron-Bridge builds them by it, converts those
    that a checkpoint has, and leaves them as they were where it has none."""
    config = turned(config_of("glm4v_moe"), ("text_config", "use_qk_norm"), True)
    tensors = tensors_of(config)
    text = config["text_config"]
    parameters = {f"language_model.decoder.layers.{layer}.self_attention.{side}_layernorm.weight"
                  for layer in range(text["num_hidden_layers"]) for side in "qk"}
    fault, = faults_of(dump(config, tensors, tmp_path / "none.json"))
    assert fault["code"] == "BV1004" and NO_SOURCE.search(fault["title"]) and set(subjects_of(fault)) == parameters, fault
    assert "use_qk_norm=false" in fault["title"], fault
    norms = {f"model.language_model.layers.{layer}.self_attn.{side}_norm.weight": [text["head_dim"]]
             for layer in range(text["num_hidden_layers"]) for side in "qk"}
    code, said = check(dump(config, {**tensors, **norms}, tmp_path / "some.json"))
    assert code == 0, said


def test_names_that_the_bare_class_of_minimax_m3_alone_writes_are_said_to_be_so(tmp_path):
    """The class with a head finds them all; rules and Megatron-Bridge read those of the published files, which that class writes."""
    config = {**config_of("minimax_m3"), "architectures": ["MiniMaxM3VLModel"]}
    code, said = check(dump(config, tensors_of(config), tmp_path / "headers.json"))
    flat = " ".join(said.split())
    assert code == 1 and "MiniMaxM3VLModel of transformers 5.12 alone writes such names" in flat, said
    assert "load it with MiniMaxM3SparseForConditionalGeneration" in flat, said
    bare = transformers.MiniMaxM3VLModel(transformers.MiniMaxM3VLModel.config_class.from_dict(as_loaded(config)))
    bare.save_pretrained(tmp_path / "bare")
    whole, told = transformers.MiniMaxM3SparseForConditionalGeneration.from_pretrained(tmp_path / "bare", output_loading_info=True)
    assert set(told["missing_keys"]) == {"lm_head.weight"} and not told["unexpected_keys"]
    whole.save_pretrained(tmp_path / "whole")
    code, said = answer("check", "--model", tmp_path / "whole", "--layouts", "quick")
    assert code == 0, said


def test_head_norms_of_command_r_have_no_place(tmp_path):
    """One weight a head, as in StableLM 2 12B; Phi's are one weight a layer, which Megatron-Core builds."""
    config = turned(config_of("cohere"), ("use_qk_norm",), True)
    tensors = tensors_of(config)
    norms = {name for name in tensors if "_norm." in name}
    assert norms and all(tensors[name] == [8 if "q_norm" in name else 4, 6] for name in norms), tensors
    fault, = faults_of(dump(config, tensors, tmp_path / "headers.json"))
    assert set(subjects_of(fault)) == norms and "Megatron-Core builds one query norm" in fault["title"], fault


STABLELM_2_12B = {"architectures": ["StableLmForCausalLM"], "model_type": "stablelm", "dtype": "bfloat16", "vocab_size": 100352,
                  "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 32,
                  "num_key_value_heads": 8, "qk_layernorm": True, "use_parallel_residual": True, "use_qkv_bias": False,
                  "tie_word_embeddings": False}


def test_stablelm_2_12b_has_a_verdict(tmp_path):
    """One norm a layer is converted; one norm a head has no place, and everything else is proved."""
    headers = dump(STABLELM_2_12B, tensors_of(STABLELM_2_12B), tmp_path / "headers.json")
    code, said = answer("check", "--headers", headers, "--tp", "1,2,8")
    flat = " ".join(said.split())
    assert code == 1 and "1,600 HF tensors" in flat and "have no place in Megatron: Megatron-Core builds one query norm" in flat, said
    fault, = faults_of(headers)
    assert len(subjects_of(fault)) == 40 * (32 + 8)
    assert all(re.fullmatch(r"model\.layers\.\d+\.self_attn\.[qk]_layernorm\.norms\.\d+\.weight", one) for one in subjects_of(fault))
    rest = [word for side in "qk" for word in ("--exclude", f"model.layers.*.self_attn.{side}_layernorm.norms.*.weight")]
    code, said = answer("check", "--headers", headers, "--tp", "1,2,8", "--only", "names,shapes,coverage,inverse,placement", *rest)
    assert code == 0, said
