"""tie_word_embeddings of models that see or hear, at each level of config.json where it may stand, absent, false or true: which
one counts is up to each class of the real transformers. The names that the class then writes are green, and the forward
claim ties what the class ties, on two stages as well, where the last one has a copy of its own."""

import copy
import itertools
import os
import subprocess

import pytest

from config_fields_test import FAMILY_NAMES, config_of, dump, tensors_of

NESTED = [name for name in FAMILY_NAMES if {"text_config", "thinker_config"} & set(config_of(name))]
VALUES = (None, False, True)


def put(place, value):
    place.pop("tie_word_embeddings", None)
    if value is not None:
        place["tie_word_embeddings"] = value


def levels_of(config):
    thinker = config.get("thinker_config")
    return [config, *([thinker] if thinker else []), (thinker or config)["text_config"]]


@pytest.mark.parametrize("family", NESTED)
def test_the_level_that_counts_is_that_of_the_class(family, tmp_path):
    seen, wrong = 0, []
    for values in itertools.product(VALUES, repeat=len(levels_of(config_of(family)))):
        config = copy.deepcopy(config_of(family))
        for place, value in zip(levels_of(config), values):
            put(place, value)
        tensors = tensors_of(config)
        stages = next(count for count in (2, 3) if levels_of(config)[-1]["num_hidden_layers"] % count == 0)
        words = ["check", "--headers", dump(config, tensors, tmp_path / "model.headers.json"), "--only", "names,shapes,forward",
                 "--pp", str(stages), "--color", "never"]
        done = subprocess.run([os.environ["BV_COMMAND"], *map(str, words)], capture_output=True, text=True, timeout=300)
        seen += 1
        refused = done.returncode == 5 and "tie_word_embeddings is false, wanted true" in done.stdout + done.stderr  # Gemma 3 in Megatron
        if done.returncode != 0 and not refused:
            wrong.append(f"{values}: exit {done.returncode}\n{(done.stdout + done.stderr)[-1500:]}")
    assert seen >= 9
    assert not wrong, "\n".join(wrong)
