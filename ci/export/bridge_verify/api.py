"""`check`: what bridge-verify says of a model or of a bridge's rules, as objects."""

import contextlib
import dataclasses
import json
import pathlib
import types

from . import command, kept
from .visible import visible

GREEN = ("Proved", "Held", "Waived")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One claim about one rule on one layout."""

    id: str
    claim: str
    outcome: str  # Proved, Held, Waived, Refuted, Inconclusive, Unsupported, Broken
    code: str | None  # BV...., None when it is green
    rule: str  # its id, "" when it is not about one rule
    source: str | None  # "file.py:257"
    layout: str | None  # "tp2pp1ep1etp1", None when the claim is about the model
    megatron: str
    hf: tuple
    title: str
    found: str
    wanted: str
    help: str
    replay: str | None

    @property
    def green(self):
        return self.outcome in GREEN

    def text(self):
        """What a person reads: the finding, where it comes from, and the line that shows it again."""
        lines = [f"{self.outcome} {self.code or ''} {self.title or self.id}".replace("  ", " ")]
        rows = (("rule", " ".join(filter(None, (self.rule, self.source)))), ("parameter", self.megatron), ("layout", self.layout),
                ("found", self.found), ("wanted", self.wanted), ("help", self.help), ("replay", self.replay))
        return visible("\n".join(lines + [f"  {name:9} {value}" for name, value in rows if value]))

    def check(self):
        """Raises AssertionError when it is not green. An undecided verdict is not green."""
        if not self.green:
            raise AssertionError(self.text())


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """A whole run. It passed only when everything that was asked was decided and green."""

    word: str  # PASS, FAIL, INCOMPLETE, BROKEN, INPUT
    exit_code: int
    undecided: tuple  # why the word is not PASS although nothing is refuted
    verdicts: tuple
    document: dict  # verdicts.json

    @property
    def passed(self):
        return self.word == "PASS"

    @property
    def refuted(self):
        return tuple(one for one in self.verdicts if one.outcome in ("Refuted", "Broken"))

    @property
    def unjudged(self):
        return tuple(one for one in self.verdicts if one.outcome in ("Inconclusive", "Unsupported"))

    def __iter__(self):
        return iter(self.verdicts)

    def __len__(self):
        return len(self.verdicts)

    def text(self):
        bad = [one.text() for one in self.verdicts if not one.green]
        return "\n".join([self.word, *bad, *map(visible, self.undecided)])

    def check(self):
        """Raises AssertionError unless the run passed."""
        if not self.passed:
            raise AssertionError(self.text())


def _rows(document):
    """Entries of verdicts.json, one a layout: green ones that differ in nothing else share an entry there."""
    sets = document.get("layout_sets") or []
    for row in document["verdicts"]:
        if row["layout"] is None and row.get("layouts") is not None:
            for layout in sets[row["layouts"]]:
                yield {**row, "id": f"{row['id']}.{layout}", "layout": layout}
        else:
            yield row


def _verdict(row):
    rule, subject = row["rule"] or {}, row["subject"] or {}
    source = rule.get("source")
    place = None if not source else f"{source['file']}:{source['line']}" if source.get("line") else source["file"]
    return Verdict(row["id"], row["claim"], row["outcome"], row["code"], rule.get("id") or "", place, row["layout"],
                   subject.get("megatron") or "", tuple(subject.get("hf") or ()), row["title"] or "", row["found"] or "",
                   row["wanted"] or "", row["help"] or "", row["replay"])


def from_document(document):
    """The objects of a verdicts.json that is there already."""
    result = document["result"]
    return Verdicts(result["word"], result["exit_code"], tuple(result.get("undecided") or ()),
                    tuple(_verdict(row) for row in _rows(document)), document)


@contextlib.contextmanager
def _rules_file(rules, model):
    """(path, what keeps it): a path as it is; rules as a dict, or a bridge class of Megatron-Bridge, in a file."""
    if rules is None or isinstance(rules, (str, pathlib.Path)):
        yield rules, None
        return
    name = "rules" if isinstance(rules, dict) else getattr(rules, "__name__", "rules")
    if not isinstance(rules, dict):
        from . import export

        rules = export.of_class(rules, model)
    made, asked = kept.Rules(name, json.dumps(rules)), types.SimpleNamespace(keep=False)
    try:
        yield made.path, asked
    finally:
        if not asked.keep:
            made.drop()


def _layout_words(layouts):
    if layouts is None:
        return []
    if isinstance(layouts, str):
        return ["--layouts", layouts] if layouts in ("auto", "quick", "all") else ["--layout", layouts]
    if isinstance(layouts, dict):
        return [word for axis, sizes in layouts.items() for word in (
            f"--{axis}", ",".join(map(str, sizes)) if isinstance(sizes, (list, tuple)) else str(sizes))]
    return [word for layout in layouts for word in ("--layout", layout)]


def _error_text(error):
    return visible("\n".join(str(value) for value in (error["message"], *(f"  {key:9} {error[key]}" for key in (
        "where", "found", "wanted", "help") if error.get(key)))))


def check(model, rules=None, layouts=None, *, level=None, only=None, skip=None, waivers=None, options=(), timeout=None):
    """Verdicts of `bridge-verify check`.

    model: a folder, a headers dump, fixture:FAMILY, or ORG/NAME of the local HF cache. rules: a rules file, its content as a
    dict, or a bridge class of Megatron-Bridge (exported on the spot); None checks the built-in family. layouts: "auto", "quick",
    "all", a layout id, a list of ids, or {"tp": [1, 2], "ep": 2}. level: "headers", "data" or "full". options: further words of
    the command line. Raises command.CommandError for unusable input, with the command's message.
    """
    words = ["check", "--model", str(model), *_layout_words(layouts)]
    for flag, value in (("--level", level), ("--waivers", waivers)):
        words += [flag, str(value)] if value is not None else []
    for flag, value in (("--only", only), ("--skip", skip)):
        words += [flag, value if isinstance(value, str) else ",".join(value)] if value else []
    with _rules_file(rules, model) as (path, made):
        words += ["--rules", str(path)] if path is not None else []
        document = command.run([*words, *options], timeout)
        if made is not None:
            made.keep = any(row["replay"] for row in document["verdicts"])
    if document["result"]["word"] == "INPUT":
        raise command.CommandError("\n".join(_error_text(one) for one in document["input_errors"]), document["result"]["exit_code"])
    return from_document(document)
