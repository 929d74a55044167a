"""The committed headers and configs of published sizes are those of the classes that there are, built on the meta device."""

import gzip
import json

import pytest
import torch
import transformers

import make_published
from command import FIXTURES
from published_towers import PUBLISHED


def committed(name):
    with gzip.open(FIXTURES / "headers" / f"{name}.headers.json.gz") as stream:
        dump = json.load(stream)
    return dump["config"], {tensor: entry[1] for tensor, entry in dump["tensors"].items()}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_headers_are_those_of_the_class(name):
    model, config = make_published.built(name)
    tensors, storage = make_published.tensors_of(model)
    held, shapes = committed(name)
    assert shapes == {tensor: list(shape) for tensor, shape in tensors.items()}
    geometry = json.loads((FIXTURES / "geometries" / f"{name}.json").read_text())
    assert held == geometry["config"] == json.loads(json.dumps(config))
    assert geometry["storage"]["experts"] == storage and geometry["identities"]["megatron_parameters"] == PUBLISHED[name][2]


def on_meta(cls, **numbers):
    with torch.device("meta"):
        model = cls(cls.config_class(**numbers))
    return {tensor: list(value.shape) for tensor, value in make_published.revert_weight_conversion(model, dict(model.state_dict())).items()}


def under(shapes, prefix):
    return {tensor.removeprefix(prefix): shape for tensor, shape in shapes.items() if tensor.startswith(prefix)}


def test_the_text_model_of_kimi_is_that_of_deepseek():
    config, shapes = committed("kimi-k2.5")
    text = {key: value for key, value in config["text_config"].items() if key not in ("model_type", "moe_layer_freq")}
    assert under(shapes, "language_model.") == on_meta(transformers.DeepseekV3ForCausalLM, pad_token_id=None, **text)


def test_sarvam_mla_has_the_modules_of_deepseek():
    config, shapes = committed("sarvam-105b")
    same = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "kv_lora_rank", "v_head_dim",
            "qk_nope_head_dim", "qk_rope_head_dim", "moe_intermediate_size", "first_k_dense_replace")
    assert shapes == on_meta(transformers.DeepseekV3ForCausalLM, pad_token_id=None, q_lora_rank=None, n_group=1, topk_group=1,
                             n_routed_experts=config["num_experts"], n_shared_experts=config["num_shared_experts"],
                             num_key_value_heads=config["num_attention_heads"], **{key: config[key] for key in same})


def test_the_sounds_of_omni_are_those_of_parakeet():
    config, shapes = committed("nemotron-3-nano-omni-30b-a3b")
    sounds = {key: value for key, value in config["sound_config"].items() if key not in ("model_type", "projection_hidden_size")}
    real = on_meta(transformers.ParakeetEncoder, attention_bias=False, convolution_bias=False, **sounds)
    held = under(shapes, "sound_encoder.encoder.")
    assert {tensor: shape for tensor, shape in held.items() if not tensor.startswith("feature_extractor.")} == real


def test_the_text_models_of_vl_and_omni_are_those_of_nemotron_h():
    for name, words in (("nemotron-nano-12b-v2-vl", {"M": "mamba", "*": "attention", "-": "mlp"}),
                        ("nemotron-3-nano-omni-30b-a3b", {"M": "mamba", "*": "attention", "E": "moe"})):
        config, shapes = committed(name)
        text = {key: value for key, value in config["llm_config"].items()
                if key not in ("model_type", "hybrid_override_pattern", "num_hidden_layers", "use_bias")}
        pattern = [words[letter] for letter in config["llm_config"]["hybrid_override_pattern"]]
        real = on_meta(transformers.NemotronHForCausalLM, pad_token_id=None, layers_block_type=pattern, **text)
        real = {make_published.AS_PUBLISHED.get(tensor, tensor): shape for tensor, shape in real.items()}
        assert under(shapes, "language_model.") == real, name
