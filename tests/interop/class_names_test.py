"""Modules that files name otherwise than transformers' class does: class_modules of the families against the library's own table."""

import json
import pathlib
import re

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
            if not pattern.startswith("^"):
                name = re.sub(pattern, target, name)
    return name


def renamed_by_family(name, class_modules):
    """Beginnings (^) and joined modules (+) are held by peft_families_test.py, with whole models."""
    for in_file, in_class in class_modules.items():
        if in_file.startswith("^") or "+" in in_file or "{e}" in in_file:
            continue
        renamed, times = re.subn(rf"(?<![^.]){re.escape(in_file)}(?![^.])", in_class, name, count=1)
        if times:
            return renamed
    return name


@pytest.mark.parametrize("path", sorted(FAMILIES.glob("*.json")), ids=lambda path: path.stem)
def test_class_modules_are_those_of_transformers(path):
    family = json.loads(path.read_text())
    tables = [json.loads(table.read_text()) for table in sorted((FAMILIES / "tables").glob("*.json"))]
    multimodal = "language_model" in family.get("prefixes", {}).get("HF", "")
    prefix = "model.language_model." if multimodal else "model."
    names = {name for name in hf_names([family, *tables], prefix) if name.startswith(prefix) and name.endswith(".weight") and ".experts." not in name}
    for model_type in family.get("model_types", []):
        for name in sorted(names):
            assert renamed_by_family(name, family.get("class_modules", {})) == renamed_by_library(name, model_type), model_type
