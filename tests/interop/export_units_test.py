"""The parts of the exporter that need no library."""

import json
import os
import struct
import subprocess
import sys

import pytest

from bridge_environment import PACKAGE

sys.path.insert(0, str(PACKAGE))

from bridge_verify import api, export, granted, known, lines, named_output, names, norms, places, registry, visible  # noqa: E402


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


def test_a_local_class_that_changes_the_export_is_judged_as_its_base_where_its_source_was_read(monkeypatch):
    cls = local("Forgiving", megatron_to_hf=lambda self: None)
    rule, = rules(cls("m", "h"))
    assert "kind" not in rule and rule["overrides"] == ["megatron_to_hf"]
    monkeypatch.setitem(known.METHODS, "Forgiving.megatron_to_hf", known.digest(cls.megatron_to_hf))
    rule, = registry.Registry([cls("m", "h")], STOCK, runs=False).rules()
    assert rule["kind"] == "AutoMapping" and rule["class"] == "Forgiving"
    monkeypatch.setitem(known.METHODS, "Forgiving.megatron_to_hf", "another source")
    assert "kind" not in registry.Registry([cls("m", "h")], STOCK, runs=False).rules()[0]


def test_a_class_of_an_author_has_no_line_of_the_library_s_class_of_its_name():
    cls = type("StackedExpertAutoMapping", (AutoMapping,), {"__module__": "my_bridge", "hf_to_megatron": lambda self: None})
    rule, = rules(cls("m", "h"))
    assert "kind" not in rule and rule["module"] == "my_bridge"


def test_a_local_class_that_was_read_and_is_another_now_is_named(monkeypatch):
    cls = local("_SqueezeBiasMapping", hf_to_megatron=lambda self: None)
    rule, = rules(cls("m", "h"))
    assert "layout" in rule and "differs" in rule and known.RELEASE in rule["differs"]
    monkeypatch.setattr(known, "digest", lambda thing: known.SOURCES["_SqueezeBiasMapping"])
    rule, = rules(cls("m", "h"))
    assert "layout" in rule and "differs" not in rule


def test_every_class_with_a_line_has_the_source_that_was_read():
    by_results = set(known.RESULTS)
    assert set(lines.LINES) | set(lines.PARTS) <= set(known.SOURCES) | by_results


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


def provider(**fields):
    return type("Provider", (), fields)()


def test_a_known_local_class_brings_its_line_with_the_sizes_of_the_provider():
    mapping = local("_FullDimQKNormMapping")("decoder.layers.*.self_attention.k_layernorm.weight", "k_norm.weight")
    rule, = registry.Registry([mapping], STOCK, provider(num_attention_heads=8, num_query_groups=4)).rules()
    assert rule["layout"] == "x[(g d)] -> x[(g *r d)] cut 0 by t"
    assert rule["axes"] == {"g": "4", "d": "s0d0 / 4", "r": "(t + 3) // 4"}
    rule, = registry.Registry([mapping], STOCK).rules()  # without a provider nobody knows the sizes
    assert "layout" not in rule


def test_published_names_are_found_by_their_ending_when_it_is_the_only_one():
    stored = {"language_model.model.layers.0.input_layernorm.weight": [8], "tower.layers.0.norm1.weight": [8],
              "language_model.model.norm.weight": [8]}
    assert norms._by_ending("model.language_model.layers.0.input_layernorm.weight", stored) == [
        "language_model.model.layers.0.input_layernorm.weight"]
    assert norms._by_ending("model.language_model.norm.weight", stored) == ["language_model.model.norm.weight"]
    assert norms._by_ending("model.layers.0.norm.weight", {"a.0.norm.weight": [8], "b.0.norm.weight": [8]}) == []


def test_files_that_are_no_part_of_the_model_are_not_read(tmp_path):
    def write(name, tensor):
        header = json.dumps({tensor: {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
        (tmp_path / name).write_bytes(struct.pack("<Q", len(header)) + header)

    write("model.safetensors", "w")
    write("outputs.safetensors", "logits")
    assert set(names.read_headers(tmp_path)[1]) == {"w"}
    write("a-1.safetensors", "v")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"v": "a-1.safetensors"}}')
    assert set(names.read_headers(tmp_path)[1]) == {"v"}


def test_an_exported_file_has_a_rule_a_line_and_is_the_same_json():
    content = {"schema": "bridge-rules/1", "rules": [{"id": f"r{i}", "hf": {"q": "a" * 40, "k": "b" * 40}} for i in range(3)],
               "model": {"parameters": [["x" * 50, [1, 2], "Linear", "row", "r0"]] * 4}, "trouble": []}
    text = export.text_of(content)
    assert json.loads(text) == content and sum(line.lstrip().startswith('{"id"') for line in text.splitlines()) == 3


def resolving(resolve, name="Offset", base=AutoMapping, **methods):
    return type(name, (base,), {"__module__": "megatron.bridge.models.x.x_bridge", "resolve": resolve, **methods})


def offset_of(number):
    def resolve(self, captures):
        layer, expert = captures
        return type(self)(names.filled(self.megatron_param, captures), names.filled(self.hf_param, (layer, str(int(expert) + number))))

    return resolve


def test_numbers_that_a_class_computes_are_written_as_arithmetic():
    mapping = resolving(offset_of(8))("l.*.local_experts.*.w", "h.*.e.*.w")
    rule, = rules(mapping)
    assert rule["hf"] == {"pattern": "h.{a}.e.{b}.w", "a": "c0", "b": "c1 + 8"} and rule["kind"] == "AutoMapping"
    rule, = rules(resolving(offset_of(0))("l.*.e.*.w", "h.*.e.*.w"))
    assert rule["hf"] == "h.*.e.*.w" and rule["kind"] == "AutoMapping"


def test_two_numbers_become_one_and_the_class_that_is_made_gives_the_kind():
    class Flat(MegatronParamMapping):
        def resolve(self, captures):
            return AutoMapping(names.filled(self.megatron_param, captures),
                               names.filled(self.hf_param, (str(int(captures[0]) * 3 + int(captures[1])),)))

    Flat.__module__ = "megatron.bridge.models.x.x_bridge"
    rule, = rules(Flat("mtp.layers.*.inner.*.w", "mtp.layers.*.w"))
    assert rule["hf"] == {"pattern": "mtp.layers.{a}.w", "a": "c0 * 3 + c1"} and rule["kind"] == "AutoMapping"
    assert rule["when"] == "mtp"


def test_what_is_no_arithmetic_stays_unjudged():
    odd = resolving(lambda self, captures: AutoMapping(names.filled(self.megatron_param, captures), f"h.{int(captures[0]) ** 2}.w"))
    renamed = resolving(lambda self, captures: AutoMapping("other", names.filled(self.hf_param, captures)))
    crashing = resolving(lambda self, captures: captures["layer"])
    changing = resolving(offset_of(8), hf_to_megatron=lambda self: None)
    for mapping in (odd("l.*.w", "h.*.w"), renamed("l.*.w", "h.*.w"), crashing("l.*.w", "h.*.w"), changing("l.*.e.*.w", "h.*.e.*.w")):
        rule, = rules(mapping)
        assert "kind" not in rule and rule["hf"] == mapping.hf_param, rule


def test_slices_and_parts_that_may_be_absent_are_said():
    row = local("_ConcatBiasMapping")("m", "h")
    for row._slice_name, index in (("text", 0), ("vision", 1)):
        rule, = rules(row)
        assert rule["parameters"] == {"slice": index} and rule["kind"] == "replicated"
    rule, = rules(local("_ReplicatedOptional")("m", "h"))
    assert rule["parameters"] == {"optional": "skip"}


def test_rules_say_what_setting_they_are_for():
    found = rules(AutoMapping("mtp.layers.*.norm", "a"), AutoMapping("l.mlp.local_experts.*.w", "b.*"), AutoMapping("mtpx.w", "c"))
    assert [rule.get("when") for rule in found] == ["mtp", "sequential", None]


def test_a_named_output_stays_what_it_is(tmp_path):
    real, link, pipe = tmp_path / "real.json", tmp_path / "link.json", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real.name)
    named_output.write(link, b"new")
    assert link.is_symlink() and real.read_text() == "new"
    (tmp_path / "dangling").symlink_to("later.json")
    named_output.write(tmp_path / "dangling", b"made")
    assert (tmp_path / "dangling").is_symlink() and (tmp_path / "later.json").read_text() == "made"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    named_output.write(pipe, b"through")
    assert reader.communicate(timeout=10)[0] == b"through" and pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "later.json", "link.json", "pipe", "real.json"]


LIBRARY = """
import os
from a.b import helper
from megatron.bridge.other import shared

SIZES: dict = {"x": 1}


class Base:
    def name(self, text: str) -> str:
        \"\"\"Cuts it.\"\"\"
        return helper(text)  # here

    @staticmethod
    def cast(one):
        return one


class Child(Base):
    kept = 2
"""


@pytest.mark.parametrize("before, after", [
    ("# here", "# there"), ('"""Cuts it."""', '"""Other words."""'), ("text: str) -> str", "text)"), (": dict = {", " = {"),
    ("        return one\n", "\n\n        return one\n"), ('"x"', "'x'")])
def test_what_is_no_code_has_the_digest_of_the_release(before, after):
    assert before in LIBRARY
    wanted, found = (granted.parts(text) for text in (LIBRARY, LIBRARY.replace(before, after)))
    assert {name: part.digest for name, part in wanted.items()} == {name: part.digest for name, part in found.items()}


@pytest.mark.parametrize("before, after, other", [
    ("return helper(text)", "return helper(text).strip()", {"Base.name"}), ("    @staticmethod\n", "", {"Base.cast"}),
    ("import helper", "import other as helper", {"helper"}), ("Child(Base)", "Child(object)", {"Child"}), ("kept = 2", "kept = 3", {"Child.kept"}),
    ('"x": 1', '"x": 2', {"SIZES"}), ("def name(self, text", "def name(self, other, text", {"Base.name"}),
    ("\n\nclass Child", "\n\nBase.name = shared\n\n\nclass Child", {"<statements>"}), ("    kept = 2", "    kept = 2\n    print(kept)", {"Child.<statements>"}),
    ("\n\nclass Child", "\n\ndef shared():\n    pass\n\n\nclass Child", {"shared"})])
def test_each_piece_of_code_is_told_apart(before, after, other):
    assert before in LIBRARY
    wanted, found = (granted.parts(text) for text in (LIBRARY, LIBRARY.replace(before, after)))
    assert {name for name in {*wanted, *found} if name not in wanted or name not in found or wanted[name].digest != found[name].digest} == other


def released(tmp_path, monkeypatch, text):
    """The one file of a library, of which LIBRARY is the release; its differences."""
    file = "models/conversion/model_bridge.py"
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    wanted = {name: part.digest for name, part in granted.parts(LIBRARY).items()}
    monkeypatch.setattr(granted, "releases", lambda: {"library 1": {"files": {file: "another"}, "parts": {file: wanted}}})
    granted.in_files.cache_clear()
    found = granted.in_files(tmp_path)[1]
    granted.in_files.cache_clear()
    return [(one.name, one.line, one.what) for one in found]


@pytest.mark.parametrize("before, after, told", [
    ("", "", []), ("kept = 2", "kept = 2\n\n    def own(self):\n        pass", []), ("import os\n", "import os\nimport re\n", []),
    ("        return one\n", "        return -one\n", [("Base.cast", 15, "is not that of library 1")]),
    ("    kept = 2\n", "    pass\n", [("Child.kept", 1, "is not there; library 1 has it")]),
    ("kept = 2", "kept = 2\n\n    def name(self, text):\n        return text", [("Child.name", 22, "is new since library 1")]),
    ("kept = 2", "kept = 2\n\n    def __getattribute__(self, name):\n        return 1", [("Child.__getattribute__", 22, "is new since library 1")]),
    ("import os\n", "import os\nfrom x import *\n", [("<statements>", 3, "is new since library 1")]),
    ("import os\n", "import os\nfrom x import sorted\n", [("sorted", 3, "is new since library 1")])])
def test_a_library_is_held_against_the_release(tmp_path, monkeypatch, before, after, told):
    assert released(tmp_path, monkeypatch, LIBRARY.replace(before, after) if before else LIBRARY) == told


def test_a_method_that_was_read_is_read_with_what_it_calls(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = "def halved(x):\n    return x / 2\n\n\ndef apart(x):\n    return x\n\n\nclass Bridge:\n    def hook(self, x):\n        return halved(x)\n"

    def seen(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return known.digest(__import__(name).Bridge.hook)

    wanted = seen("bridge_a", text)
    assert seen("bridge_b", text.replace("return x\n", "return -x\n")) == wanted
    assert seen("bridge_c", text.replace("x / 2", "x / 3")) != wanted
    import bridge_a

    bridge_a.Bridge.hook = lambda self, x: x
    assert known.digest(bridge_a.Bridge.hook) != wanted


def test_the_table_has_what_tensors_pass_through_and_no_quantised_forms_or_adapters():
    content, = granted.releases().values()
    names = {name for parts in content["parts"].values() for name in parts}
    assert {"MegatronModelBridge.load_weights_hf_to_megatron", "MegatronModelBridge.maybe_modify_converted_hf_weight", "HFWeightTuple.iter_finalized",
            "MegatronParamMapping.resolve", "MegatronParamMapping.gather_from_ep_ranks", "MegatronMappingRegistry.megatron_to_hf_lookup",
            "QKVMapping.hf_to_megatron", "merge_qkv_weights", "SafeTensorsStateSource.load_tensors", "get_module_and_param_from_name",
            "_megatron_local_name_to_global", "AutoMapping._MODULE_TYPE_REGISTRY"} <= names
    assert not [name for name in names if "quant" in name.lower() or "adapter" in name.split(".")[-1]]
    assert set(content["files"]) == set(content["parts"]) == set(granted.FILES)


HIDDEN = "a\x1b[31mb\x85c\xadd\u200be\u202ef\u2066g\u2028h\ufeffi\U000e0041j\udcffk"


def test_names_of_others_are_said_without_what_a_terminal_obeys(capsys):
    visible.say(HIDDEN + "\nö\t")
    said = capsys.readouterr().out
    assert said == "a\\x1b[31mb\\u{85}c\\u{ad}d\\u{200b}e\\u{202e}f\\u{2066}g\\u{2028}h\\u{feff}i\\u{e0041}j\\xffk\nö\t\n"
    row = {"id": "i", "claim": "names", "outcome": "Refuted", "code": "BV1001", "rule": {"id": HIDDEN}, "layout": None, "layouts": None,
           "subject": {"megatron": HIDDEN, "hf": [HIDDEN]}, "title": HIDDEN, "found": HIDDEN, "wanted": HIDDEN, "help": HIDDEN, "replay": HIDDEN}
    run = api.from_document({"result": {"word": "FAIL", "exit_code": 1, "undecided": [HIDDEN]}, "verdicts": [row]})
    for text in (run.text(), run.verdicts[0].text(), api._error_text({"message": HIDDEN, "where": HIDDEN})):
        assert text == visible.visible(text) and "\\u{202e}" in text
    assert run.verdicts[0].megatron == HIDDEN  # the object has the name as it is


def test_the_exporter_says_names_visibly_and_writes_them_as_json(tmp_path, capsys):
    content = {"rules": [], "trouble": [HIDDEN], "upstream": {"bridge_class": HIDDEN}, "hooks": {"base": [dict.fromkeys(("file", "line", "name", "what"), HIDDEN)]}}
    export.told(content, HIDDEN)
    export.write(content, str(tmp_path / "x.json"))
    for text in (capsys.readouterr().err, (tmp_path / "x.json").read_text()):
        assert text == visible.visible(text) and text.count("202e") >= 3
