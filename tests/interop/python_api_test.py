"""The package bridge_verify: verdict objects, headers without weights, and the pytest plugin, against the real command."""

import gzip
import http.server
import json
import os
import pathlib
import shlex
import subprocess
import sys
import threading

import pytest

from bridge_environment import PACKAGE
from command import FIXTURES, GOLDEN, run

sys.path.insert(0, str(PACKAGE))

import bridge_verify  # noqa: E402
from bridge_verify import headers, kept  # noqa: E402

pytest_plugins = ["pytester"]
LLAMA = GOLDEN / "hf" / "llama"
RULES = FIXTURES / "rules" / "llama.rules.json"


def swapped():
    """The right rules of Llama with gate and up exchanged."""
    content = json.loads(RULES.read_text())
    for rule in content["rules"]:
        if isinstance(rule["hf"], dict) and set(rule["hf"]) == {"gate", "up"}:
            rule["hf"] = {"gate": rule["hf"]["up"], "up": rule["hf"]["gate"]}
    return content


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, bridge_verify; print(sorted({'torch', 'transformers', 'numpy', 'pytest', 'megatron'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(PACKAGE)})
    assert done.stdout == "[]\n"


def test_a_right_model_passes_with_every_layout_a_verdict():
    verdicts = bridge_verify.check(LLAMA, rules=RULES, layouts={"tp": [1, 2]})
    assert verdicts.passed and verdicts.word == "PASS" and verdicts.exit_code == 0
    assert verdicts.refuted == () == verdicts.unjudged and verdicts.undecided == ()
    assert {one.layout for one in verdicts if one.claim == "placement"} == {"tp1pp1ep1etp1", "tp2pp1ep1etp1"}
    counts = verdicts.document["result"]["counts"]
    assert len(verdicts) == counts["proved"] + counts["held"]
    assert len({one.id for one in verdicts}) == len(verdicts)
    verdicts.check()


def test_rules_as_a_dict_are_refuted_with_what_was_found():
    verdicts = bridge_verify.check(LLAMA, rules=swapped(), layouts=["tp2pp1ep1etp1"])
    assert not verdicts.passed and verdicts.word == "FAIL" and verdicts.refuted
    first = verdicts.refuted[0]
    assert first.megatron.endswith("linear_fc1.weight") and first.code.startswith("BV") and not first.green
    with pytest.raises(AssertionError, match=first.code):
        first.check()
    with pytest.raises(AssertionError, match="FAIL"):
        verdicts.check()


def test_an_undecided_run_has_not_passed():
    content = json.loads(RULES.read_text())
    content["rules"][0] = {**content["rules"][0], "kind": "NobodyKnowsThis"}
    verdicts = bridge_verify.check(LLAMA, rules=content)
    assert verdicts.word == "INCOMPLETE" and verdicts.exit_code == 3 and not verdicts.passed and verdicts.unjudged


def test_unusable_input_is_an_error_with_the_message_of_the_command(tmp_path):
    with pytest.raises(bridge_verify.CommandError) as caught:
        bridge_verify.check(tmp_path / "nowhere")
    assert caught.value.exit_code == 5 and "nowhere" in str(caught.value)


def test_a_command_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("BV_COMMAND", "/nowhere/bridge-verify")
    with pytest.raises(bridge_verify.CommandError, match="/nowhere/bridge-verify") as caught:
        bridge_verify.check(LLAMA)
    assert caught.value.exit_code is None


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Where rules are kept that a line of a finding names."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "bridge-verify" / "rules"


def test_the_line_of_a_finding_can_be_run_when_the_rules_were_an_object(cache):
    bridge_verify.check(LLAMA, rules=json.loads(RULES.read_text()))
    assert list(cache.iterdir()) == []  # nothing was said that names it
    verdicts = bridge_verify.check(LLAMA, rules=swapped())
    lines = {one.replay for one in verdicts.refuted}
    assert lines and None not in lines
    for line in lines:
        again = subprocess.run([os.environ["BV_COMMAND"], *shlex.split(line)[1:]], capture_output=True, text=True)
        assert again.returncode == 1, line + again.stdout + again.stderr


def test_rules_are_not_kept_for_ever(cache):
    for number in range(kept.KEPT + 5):
        last = kept.Rules("rules", json.dumps({"n": number}))
    assert len(list(cache.iterdir())) == kept.KEPT and last.path.exists()


SUITE = """
import pytest

@pytest.mark.bridge_verify(model={model!r}, rules={rules!r}, layouts={{"tp": [1, 2]}})
def test_bridge(verdict):
    verdict.check()
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE))

    def made(rules, *words, model=LLAMA):
        path = pytester.path / "under_test.rules.json"
        path.write_text(json.dumps(rules))
        pytester.makepyfile(SUITE.format(model=str(model), rules=str(path)))
        return pytester.runpytest_subprocess("-p", "bridge_verify.pytest_plugin", "-p", "no:cacheprovider", *words)

    return made


def test_each_verdict_is_a_test_of_the_bridge(suite):
    result = suite(json.loads(RULES.read_text()), "-v")
    outcome = result.parseoutcomes()
    assert set(outcome) == {"passed"} and outcome["passed"] > 50
    result.stdout.fnmatch_lines(["*test_bridge[[]placement.*.tp2pp1ep1etp1]*PASSED*", "*test_bridge[[]run]*PASSED*"])


def test_a_planted_fault_fails_its_own_tests_and_the_run(suite):
    result = suite(swapped())
    outcome = result.parseoutcomes()
    assert outcome["failed"] >= 2 and outcome["passed"] > 20
    result.stdout.fnmatch_lines(["*Refuted BV*", "*found *", "*wanted *", "*replay *bridge-verify check*", "*test_bridge[[]run]*"])


def test_what_cannot_be_judged_fails(suite):
    content = json.loads(RULES.read_text())
    content["rules"][0] = {**content["rules"][0], "kind": "NobodyKnowsThis"}
    result = suite(content)
    assert result.parseoutcomes()["failed"] == 2
    result.stdout.fnmatch_lines(["*Unsupported BV1016*"])


def test_bad_input_fails_the_run(suite):
    result = suite({"schema": "other"})
    assert result.parseoutcomes() == {"failed": 1}
    result.stdout.fnmatch_lines(["*is not a rules file*"])


@pytest.mark.parametrize("arguments, said", [
    ('modle="fixture:llama"', "modle: did you mean model?"), ("", "missing a required argument: 'model'"),
    ('model="fixture:llama", layout="tp2"', "layout: did you mean layouts?"), ('model="fixture:llama", layouts=3', "layouts=3"),
    ('model="fixture:llama", rules=42', "rules=42"), ('model="fixture:llama", timeout="long"', "timeout='long'"),
    ('"fixture:llama", None, None, "headers"', "too many positional arguments")])
def test_a_mistyped_mark_fails_its_test_alone_with_its_usage(pytester, monkeypatch, arguments, said):
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE))
    pytester.makepyfile(f"""
import pytest

@pytest.mark.bridge_verify({arguments})
def test_typo(verdict):
    verdict.check()

def test_other():
    pass
""")
    result = pytester.runpytest_subprocess("-p", "bridge_verify.pytest_plugin", "-p", "no:cacheprovider")
    assert result.parseoutcomes() == {"failed": 1, "passed": 1}
    text = result.stdout.str()
    assert said in text and "::test_typo" in text and "bridge_verify" in text, text


def test_a_marked_test_without_the_fixture_fails_alone(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE))
    pytester.makepyfile("""
import pytest

@pytest.mark.bridge_verify(model="fixture:llama")
def test_forgets():
    pass

def test_other():
    pass
""")
    result = pytester.runpytest_subprocess("-p", "bridge_verify.pytest_plugin", "-p", "no:cacheprovider")
    outcome = result.parseoutcomes()
    assert outcome == {"passed": 1, "errors": 1} or outcome == {"passed": 1, "failed": 1}, result.stdout.str()
    result.stdout.fnmatch_lines(["*test_forgets*takes the fixture `verdict`*"])


def test_a_missing_command_fails_unless_it_is_optional(suite, monkeypatch):
    monkeypatch.setenv("BV_COMMAND", "/nowhere")
    assert suite(swapped()).parseoutcomes() == {"failed": 1}
    assert suite(swapped(), "--bridge-verify-optional").parseoutcomes() == {"skipped": 1}


class _Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub that is asked: files of one model, in ranges."""

    ranges = True
    asked = []

    def do_GET(self):
        prefix = "/ORG/llama/resolve/main/"
        path = LLAMA / self.path.removeprefix(prefix)
        if not self.path.startswith(prefix) or not path.is_file():
            self.send_error(404)
            return
        data, wanted = path.read_bytes(), self.headers.get("Range")
        if wanted and self.ranges:
            begin, end = map(int, wanted.removeprefix("bytes=").split("-"))
            data = data[begin:end + 1]
        self.asked.append((path.name, len(data)))
        self.send_response(206 if wanted and self.ranges else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except ConnectionError:
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    _Hub.asked, _Hub.ranges = [], True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no_cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield _Hub
    server.shutdown()


def dumped(tmp_path):
    run("inspect", "--model", LLAMA, "--dump-headers", tmp_path / "ours.headers.json")
    return json.loads((tmp_path / "ours.headers.json").read_text())


@pytest.mark.parametrize("ranges", [True, False])
def test_headers_from_the_hub_are_those_of_the_files(hub, tmp_path, ranges):
    hub.ranges = ranges
    out = tmp_path / "theirs.headers.json"
    assert headers.main(["ORG/llama", "-o", str(out)]) == 0
    assert json.loads(out.read_text()) == dumped(tmp_path)
    if ranges:
        shards = {row[2] for row in json.loads(out.read_text())["tensors"].values()}
        weights = sum((LLAMA / shard).stat().st_size for shard in shards)
        fetched = sum(size for name, size in hub.asked if name.endswith(".safetensors"))
        tensors = sum(row[4] - row[3] for row in json.loads(out.read_text())["tensors"].values())
        assert fetched == weights - tensors  # headers alone
    assert run("check", "--model", out)


def test_headers_come_from_the_cache_where_it_has_the_model(monkeypatch, tmp_path):
    snapshot = tmp_path / "hub" / "models--ORG--llama" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(LLAMA)
    (tmp_path / "hub" / "models--ORG--llama" / "refs").mkdir()
    (tmp_path / "hub" / "models--ORG--llama" / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    out = tmp_path / "cached.headers.json.gz"
    assert headers.main(["ORG/llama", "-o", str(out)]) == 0
    assert json.loads(gzip.decompress(out.read_bytes())) == dumped(tmp_path)
    assert run("check", "--model", out)


def test_a_model_that_is_nowhere_leaves_no_file(hub, tmp_path, capsys, monkeypatch):
    assert headers.main(["ORG/other", "-o", str(tmp_path / "x.json")]) == 2
    assert "has no config.json" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert headers.main(["ORG/other", "-o", str(tmp_path / "x.json")]) == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert headers.main(["ORG/other", "-o", str(tmp_path / "x.json")]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert headers.main(["../../etc/passwd", "-o", str(tmp_path / "x.json")]) == 2
    assert not list(tmp_path.glob("x.json*"))


@pytest.mark.parametrize("content, said", [(b"\xff" * 64, "is not a safetensors file"), (b"short", "is not a safetensors file"),
                                           (b"\x40" + b"\0" * 7 + b"{}", "ends inside its header"),
                                           (b"\x04" + b"\0" * 7 + b"null", "is not a JSON object")])
def test_hostile_shards_are_refused_by_name(tmp_path, monkeypatch, capsys, content, said):
    snapshot = tmp_path / "models--ORG--bad" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(content)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert headers.main(["ORG/bad", "-o", str(tmp_path / "x.json")]) == 2
    error = capsys.readouterr().err
    assert "model.safetensors" in error and said in error


def test_an_index_that_leaves_the_folder_is_refused(tmp_path, monkeypatch, capsys):
    snapshot = tmp_path / "models--ORG--bad" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../../../etc/passwd"}}))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert headers.main(["ORG/bad", "-o", str(tmp_path / "x.json")]) == 2
    assert "is no file of the model" in capsys.readouterr().err
