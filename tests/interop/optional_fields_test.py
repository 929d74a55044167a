"""Flags and optional fields of the config classes of the real transformers, one changed at a time. Such a config is right: the
names and shapes that the class builds on the meta device are judged, and the forward claim either covers the value or
says that it has no form for it. It is never left undecided, and nobody is told to correct the field."""

import functools
import json
import os
import subprocess
import types
import typing

import pytest
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig

from command import LACKING
from config_fields_test import FAMILY_NAMES, cannot_compute, config_of, dump, tensors_of

# What every config has, and what changes how a model is trained or answers, not what its layers compute.
INERT = set(PreTrainedConfig().to_dict()) | {"use_cache", "pretraining_tp", "model_type", "keys_to_ignore_at_inference"}
INERT_PARTS = ("token_id", "token_index", "dropout", "initializer", "aux_loss", "output_", "_plan", "attribute_map", "default_theta")
ACTIVATIONS = {"hidden_act", "hidden_activation", "mlp_hidden_act"}


def inner_class(config):
    """The class of the text model's config, its path and its fields."""
    cls, path, at = getattr(transformers, config["architectures"][0]).config_class, [], config
    for level in ("thinker_config", "text_config"):
        if isinstance(at.get(level), dict) and level in (cls.sub_configs or {}):
            cls, at = cls.sub_configs[level], at[level]
            cls = CONFIG_MAPPING[at["model_type"]] if cls is transformers.AutoConfig else cls
            path.append(level)
    return cls, path, at


def other_values(field, kind, now):
    """Values of the same kind that the class takes, and that the config does not have."""
    kinds = set(typing.get_args(kind)) if typing.get_origin(kind) in (types.UnionType, typing.Union) else {kind}
    if bool in kinds:
        yield from (value for value in (True, False) if value is not now)
    if type(None) in kinds and now is not None:
        yield None
    if field in ACTIVATIONS:
        yield from (value for value in ("gelu", "relu", "gelu_pytorch_tanh") if value != now)


def variants(family):
    config = config_of(family)
    cls, path, text = inner_class(config)
    kinds = functools.reduce(lambda all_of, one: {**all_of, **getattr(one, "__annotations__", {})}, reversed(cls.__mro__), {})
    for field, kind in kinds.items():
        if (field in INERT and field != "tie_word_embeddings") or any(part in field for part in INERT_PARTS):
            continue
        for value in other_values(field, kind, text.get(field, getattr(cls, field, None))):
            changed = json.loads(json.dumps(config))
            functools.reduce(dict.__getitem__, path, changed)[field] = value
            yield f"{'.'.join([*path, field])} {json.dumps(value)}", changed


def checked(path):
    words = [os.environ["BV_COMMAND"], "check", "--headers", path, "--only", "names,shapes,forward", "--tp", "1",
             "--allow-partial", "--color", "never"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


# The class of 5.12 ties nothing and writes both; Megatron would share them.
REFUTED = {("nemotron_h", "tie_word_embeddings true")}


@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name not in LACKING])
def test_no_right_config_is_told_to_be_corrected(family, tmp_path):
    for name, config in variants(family):
        try:
            tensors = tensors_of(config)
        except Exception:  # whatever a class raises: it does not take the value
            continue
        code, said = checked(dump(config, tensors, tmp_path / "model.headers.json"))
        if code == 0:
            continue
        assert code in (3, 5) or (family, name) in REFUTED, f"{name}: {said}"  # no form, or no rules
        if "correct the field" in said or "undecided" in said:
            assert cannot_compute(config), f"{name}: {said}"
