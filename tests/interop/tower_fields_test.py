"""Towers for pictures and sounds. Each size, flag and list of their configs is changed in its turn: bridge-verify must
resolve the names and shapes that the class of the real transformers then builds, and the tensors of the config as it was
must not pass for those of the changed one."""

import json

import pytest
import transformers

from config_fields_test import FAMILY_NAMES, as_loaded, check, complaint, config_of, dump, tensors_of

TOWERS = ("vision_config", "audio_config")
# What no size depends on, beside every field that all configs have.
WITHOUT_SIZE = {"model_type", *transformers.PretrainedConfig().to_dict()}
# Extents that a family reads off the checkpoint: its config says them in a way that no expression reaches.
READ_OFF_THE_TENSORS = {("gemma4", "subsampling_conv_channels")}


def towers_of(config, above=()):
    """(path, whole config) of each tower, with the defaults of its class."""
    for field, value in config.items():
        if field in TOWERS and isinstance(value, dict):
            yield (*above, field), value
        elif field == "thinker_config":
            yield from towers_of(value, (*above, field))


def whole(config):
    return getattr(transformers, config["architectures"][0]).config_class.from_dict(as_loaded(config)).to_dict()


def others(value):
    """Other values of the same sort."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value * 2, value + 1]
    if isinstance(value, list) and all(isinstance(one, int) for one in value):
        return [value[:1], [], [*value, 1]]
    return []


def variants(config):
    for path, tower in towers_of(whole(config)):
        for field, value in sorted(tower.items()):
            for other in others(value) if field not in WITHOUT_SIZE else []:
                changed = json.loads(json.dumps(config))
                place = changed
                for step in path:
                    place = place.setdefault(step, {})
                if place.get(field, value) == other:
                    continue
                place[field] = other
                yield field, f"{'.'.join(path)}.{field}={other}", changed


WITH_TOWERS = [name for name in FAMILY_NAMES if any(tower in config_of(name) for tower in (*TOWERS, "thinker_config"))]


def test_families_with_towers_are_found():
    assert len(WITH_TOWERS) >= 15


@pytest.mark.parametrize("family", WITH_TOWERS)
def test_changed_fields_mean_what_transformers_takes_them_for(family, tmp_path):
    path, wrong, told_apart = tmp_path / "headers.json", [], set()
    healthy = tensors_of(config_of(family))
    for field, what, config in variants(config_of(family)):
        try:
            tensors = tensors_of(config)
        except ValueError as refusal:  # the class says why
            code, text = check(dump(config, healthy, path))
            if code == 0:
                wrong.append(f"{what}: transformers refuses it ({refusal}) and the command does not\n{text[:800]}")
            continue
        except Exception:  # whatever else a class of transformers runs into
            continue
        found = complaint(field, config, path, healthy)
        if found:
            wrong.append(f"{what}: {found}")
        if tensors == healthy:
            continue
        code, text = check(dump(config, healthy, path))
        if code == 0 and (family, field) not in READ_OFF_THE_TENSORS:
            wrong.append(f"{what}: the tensors of another config pass\n{text[:800]}")
        told_apart.add(field)
    assert len(told_apart) >= 4
    assert not wrong, "\n".join(wrong)
