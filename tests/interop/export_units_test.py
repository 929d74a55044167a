"""The parts of the exporter that need no library."""

import json
import struct
import sys

import pytest

from bridge_environment import PACKAGE

sys.path.insert(0, str(PACKAGE))

from bridge_verify import names, places, registry  # noqa: E402


def test_one_star_is_digits_and_two_are_anything():
    assert names.expression("a.*.b").match("a.12.b") and not names.expression("a.*.b").match("a.x.b")
    assert names.expression("visual.**").match("visual.a.0.b") and not names.expression("a.*").match("a.1.weight")


def test_double_stars_take_the_first_captures():
    assert names.filled("x.*.**", ("deep.name", "3")) == "x.3.deep.name"


def test_a_rule_is_resolved_for_the_tensors_that_are_there():
    rule = {"hf": {"q": "l.*.q", "k": "l.*.k"}}
    assert list(names.resolved(rule, {"l.0.q": None, "l.1.q": None, "other": None})) == [
        {"q": "l.0.q", "k": "l.0.k"}, {"q": "l.1.q", "k": "l.1.k"}]
    assert list(names.resolved({"hf": "absent"}, {"l.0.q": None})) == []


def test_headers_are_read_without_the_tensors(tmp_path):
    header = json.dumps({"__metadata__": {}, "w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (tmp_path / "config.json").write_text('{"architectures": ["X"]}')
    assert names.read_headers(tmp_path) == ({"architectures": ["X"]}, {"w": [2, 3]})


def test_a_header_of_absurd_size_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 60))
    with pytest.raises(ValueError, match="is not a safetensors file"):
        names.read_headers(tmp_path)


class MegatronParamMapping:
    def __init__(self, megatron_param, hf_param):
        self.megatron_param, self.hf_param = megatron_param, hf_param


class AutoMapping(MegatronParamMapping):
    permute_dims = None

    def hf_to_megatron(self):
        return "stock"

    def megatron_to_hf(self):
        return "stock"


def local(name, **methods):
    return type(name, (AutoMapping,), {"__module__": "megatron.bridge.models.x.x_bridge", **methods})


STOCK = type(sys)("megatron.bridge.models.conversion.param_mapping")
STOCK.MegatronParamMapping = MegatronParamMapping
MegatronParamMapping.__module__ = AutoMapping.__module__ = STOCK.__name__


def rules(*mappings):
    return registry.Registry(list(mappings), STOCK).rules()


def test_a_local_class_that_changes_the_export_alone_is_judged_as_its_base():
    rule, = rules(local("Forgiving", megatron_to_hf=lambda self: None)("m", "h"))
    assert rule["kind"] == "AutoMapping" and rule["class"] == "Forgiving" and rule["overrides"] == ["megatron_to_hf"]


def test_a_local_class_that_changes_the_import_keeps_its_own_name():
    for method in ("hf_to_megatron", "resolve", "_detect_parallelism_type", "some_helper"):
        rule, = rules(local("Other", **{method: lambda self: None})("m", "h"))
        assert "kind" not in rule and rule["class"] == "Other" and rule["bases"] == ["AutoMapping"]


def test_a_mixin_counts_as_the_local_class():
    mixin = type("Mixin", (), {"__module__": "megatron.bridge.models.x.x_bridge", "hf_to_megatron": lambda self: None})
    cls = type("Mixed", (mixin, AutoMapping), {"__module__": "megatron.bridge.models.x.x_bridge"})
    rule, = rules(cls("m", "h"))
    assert "kind" not in rule and rule["overrides"] == ["hf_to_megatron"]


def test_a_rule_made_in_a_loop_points_at_its_own_text(tmp_path):
    source = tmp_path / "some_bridge.py"
    source.write_text('def mapping_registry():\n    table = {\n        "a.weight": "x",\n        "b.weight": "y",\n    }\n'
                      '    for m, h in table.items():\n        make(m, h)\n')
    assert places.line_of(str(source), 7, 1, "b.weight") == 4
    assert places.line_of(str(source), 7, 1, "prefix.b.weight") == 4
    assert places.line_of(str(source), 7, 1, "nowhere.else") == 7
