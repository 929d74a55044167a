"""Names in the source of transformers: modules that files name otherwise than the class does, and fields that give a bias."""

import json
import pathlib
import re
import sys

import pytest

conversion_mapping = pytest.importorskip("transformers.conversion_mapping")

FAMILIES = pathlib.Path(__file__).resolve().parents[2] / "core" / "families"
TABLE = conversion_mapping._build_checkpoint_conversion_mapping()
SAME_AS = conversion_mapping._MODEL_TO_CONVERSION_PATTERN


def hf_names(node, prefix):
    """HF names of all rules below a node, for layer 0 and expert 0."""
    if isinstance(node, dict):
        hf = node.get("hf")
        for name in [hf] if isinstance(hf, str) else hf.values() if isinstance(hf, dict) else []:
            filled = name.replace("{L}", prefix + "layers.0.").replace("{HF}", prefix).replace("{V}", "model.visual.")
            yield re.sub(r"\{[^}]*\}", "0", filled)
        for value in node.values():
            yield from hf_names(value, prefix)
    elif isinstance(node, list):
        for value in node:
            yield from hf_names(value, prefix)


def renamed_by_library(name, model_type):
    """By plain renamings inside the name; prefixes and packed experts are found by other means."""
    for entry in TABLE.get(model_type) or TABLE.get(SAME_AS.get(model_type, ""), []):
        if type(entry).__name__ != "WeightRenaming":
            continue
        for pattern, target in zip(entry.source_patterns, entry.target_patterns):
            if not pattern.startswith("^") and not target.startswith("language_model."):
                name = re.sub(pattern, target, name)
    return name


def is_turned(name, model_type):
    """The library transposes it, and names it by that entry: held by peft_families_test.py too."""
    return any([type(step).__name__ for step in getattr(entry, "operations", None) or []] == ["Transpose"]
               and any(re.search(re.escape(pattern) + "$", name) for pattern in entry.source_patterns)
               for entry in TABLE.get(model_type) or TABLE.get(SAME_AS.get(model_type, ""), []))


def renamed_by_family(name, class_modules):
    """Beginnings (^) and joined modules (+) are held by peft_families_test.py, with whole models."""
    for in_file, in_class in sorted(class_modules.items(), key=lambda row: -len(row[0])):
        if in_file.startswith("^") or "+" in in_file or "{e}" in in_file:
            continue
        renamed, times = re.subn(rf"(?<![^.]){re.escape(in_file)}(?![^.])", in_class, name, count=1)
        if times:
            return renamed
    return name


@pytest.mark.parametrize("path", sorted(FAMILIES.glob("*.json")), ids=lambda path: path.stem)
def test_class_modules_are_those_of_transformers(path):
    family = json.loads(path.read_text())
    used = set(re.findall(r'"(\w+)"', path.read_text()))
    tables = [json.loads(table.read_text()) for table in sorted((FAMILIES / "tables").glob("*.json")) if table.stem in used]
    multimodal = "language_model" in family.get("prefixes", {}).get("HF", "")
    prefix = "model.language_model." if multimodal else "model."
    names = {name for name in hf_names([family, *tables], prefix) if name.startswith(prefix) and name.endswith(".weight") and ".experts." not in name}
    types = family.get("model_types", [])
    known = [one for one in types if one in TABLE or one in SAME_AS]  # not names that the model had before the library had it
    for model_type in known or types:
        for name in sorted(name for name in names if not is_turned(name, model_type)):
            assert renamed_by_family(name, family.get("class_modules", {})) == renamed_by_library(name, model_type), model_type


@pytest.mark.parametrize("path", sorted(FAMILIES.glob("*.json")), ids=lambda path: path.stem)
def test_every_field_that_gives_a_bias_is_read_by_the_family(path):
    """By a rule, or to say that the family has none: a bias that nobody thought of would be called superfluous."""
    import transformers

    text = path.read_text()
    used = set(re.findall(r'"(\w+)"', text))
    known = text + "".join(table.read_text() for table in (FAMILIES / "tables").glob("*.json") if table.stem in used)
    for name in json.loads(text)["architectures"]:
        if hasattr(transformers, name):
            module = sys.modules[getattr(transformers, name).__module__]
            source = pathlib.Path(module.__file__).read_text()
            fields = set(re.findall(r"\bbias\s*=\s*(?:self\.)?config\.(\w+)", source))
            fields -= {"multimodal_projector_bias"}  # of what is carried as it is
            assert sorted(field for field in fields if field not in known) == [], name
