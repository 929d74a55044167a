"""Reports read by those who read them: junitparser, the SARIF model of pydantic, readers of CSV and YAML, what GitLab and CTRF ask for."""

import collections
import csv
import datetime
import io
import json

import pytest

from command import FIXTURES, run_failing

junitparser = pytest.importorskip("junitparser")
sarif_pydantic = pytest.importorskip("sarif_pydantic")
yaml = pytest.importorskip("yaml")

HIDDEN = "a\x1b[31m\nb\x85\u200b\u202ec\u2066\U000e0041<&>'\"]]>,;=|`@`"
WAIVER = """[[waiver]]
issue = "https://example.org/1"
subject = "decoder.layers.*.mlp.linear_fc1.weight"
code = "BV2006"
reason = "known"
expires = {day}
"""
QWEN3 = ["--model", "fixture:qwen3", "--tp", "1"]


def named_badly(folder):
    rules = json.loads((FIXTURES / "rules/qwen3.rules.json").read_text())
    for at, rule in enumerate(rules["rules"]):
        rule.update({"id": f"r{at}{HIDDEN}", "source": {"file": f"{HIDDEN}.py", "line": at}})
        if at % 3 == 0:
            rule["megatron"] += HIDDEN
    (folder / "named.rules.json").write_text(json.dumps(rules))
    return folder / "named.rules.json"


RUNS = {
    "green": (0, lambda folder: QWEN3),
    "refuted": (1, lambda folder: [*QWEN3, "--rules", FIXTURES / "broken/swapped_gate_up.rules.json"]),
    "open": (3, lambda folder: [*QWEN3, "--rules", FIXTURES / "broken/unknown_kind.rules.json"]),
    "left out": (0, lambda folder: [*QWEN3, "--rules", FIXTURES / "broken/unknown_kind.rules.json", "--fail-on", "refuted"]),
    "waived": (0, lambda folder: [*QWEN3, "--rules", FIXTURES / "broken/swapped_gate_up.rules.json", "--waivers", folder / "waivers.toml"]),
    "unreadable": (5, lambda folder: ["--model", folder / HIDDEN.replace("\n", "").replace("/", "")]),
    "named badly": (1, lambda folder: [*QWEN3, "--rules", named_badly(folder)]),
}
FORMATS = ("junit", "sarif", "ctrf", "csv", "card", "gitlab", "json", "jsonl", "markdown", "html", "text", "plain", "github")


@pytest.fixture(scope="module", params=RUNS)
def written(request, tmp_path_factory):
    """(exit code, format -> text) of one run."""
    folder = tmp_path_factory.mktemp("formats")
    (folder / "waivers.toml").write_text(WAIVER.format(day=datetime.date.today() + datetime.timedelta(days=9)))
    code, words = RUNS[request.param]
    run_failing(code, "check", *words(folder), *(word for name in FORMATS for word in ("--report", f"{name}={folder / name}")))
    with_breaks = {}
    for name in FORMATS:
        with (folder / name).open(newline="") as stream:
            with_breaks[name] = stream.read()
    return code, with_breaks


def test_junitparser_counts_what_the_file_says(written):
    code, texts = written
    suites = junitparser.JUnitXml.fromstring(texts["junit"].encode())
    said = suites.tests, suites.failures, suites.errors, suites.skipped
    suites.update_statistics()
    assert said == (suites.tests, suites.failures, suites.errors, suites.skipped) and suites.tests > 0
    assert (suites.failures + suites.errors > 0) == (code != 0)


def test_the_sarif_model_takes_the_log(written):
    code, texts = written
    log = sarif_pydantic.Sarif.model_validate_json(texts["sarif"])
    results = log.runs[0].results or []
    suppressed = [bool(one.get("suppressions")) for one in json.loads(texts["sarif"])["runs"][0]["results"]]
    assert any(not off and one.level.value == "error" for one, off in zip(results, suppressed, strict=True)) == (code != 0)
    rules = [rule.id for rule in log.runs[0].tool.driver.rules or []]
    assert all(one.rule_id in rules and one.message.text for one in results) and len(rules) == len(set(rules))


def test_the_counts_of_ctrf_are_those_of_its_tests(written):
    code, texts = written
    results = json.loads(texts["ctrf"])["results"]
    counts = collections.Counter(one["status"] for one in results["tests"])
    assert {key: results["summary"][key] for key in ("passed", "failed", "skipped", "pending", "other")} == {
        key: counts.get(key, 0) for key in ("passed", "failed", "skipped", "pending", "other")}
    assert results["summary"]["tests"] == len(results["tests"]) > 0
    assert (counts["failed"] > 0) == (code != 0)


def test_gitlab_gets_the_fields_that_it_asks_for(written):
    code, texts = written
    rows = json.loads(texts["gitlab"])
    assert all(row["description"] and row["fingerprint"] and row["severity"] in ("info", "minor", "major", "critical", "blocker")
               and row["location"]["path"] and row["location"]["lines"]["begin"] >= 1 for row in rows)
    assert len({row["fingerprint"] for row in rows}) == len(rows) and (code == 0 or rows)


def test_csv_has_a_cell_for_each_column_and_the_card_is_yaml(written):
    _, texts = written
    rows = list(csv.reader(io.StringIO(texts["csv"])))
    assert {len(row) for row in rows} == {19} and not any(cell[:1] in tuple("=+-@") for row in rows[1:] for cell in row)
    card = yaml.safe_load(texts["card"])
    assert set(card) == {"bridge_verify"} and card["bridge_verify"]["result"] in texts["text"]


def test_no_format_hides_a_character_or_turns_a_line(written):
    _, texts = written
    for name, text in texts.items():
        hidden = [one for one in text if one in HIDDEN and not one.isprintable() and one != "\n"]
        assert hidden == [], name
    assert "\\u202e" not in texts["html"]
