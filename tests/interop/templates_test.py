"""What ci/templates does, run here as far as it goes without its service."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "ci" / "templates"
COMMAND = pathlib.Path(os.environ["BV_COMMAND"])
FIXTURES = pathlib.Path(os.environ["BV_FIXTURES"])
PACKAGE = ROOT / "ci" / "export"


@pytest.fixture
def environment(tmp_path):
    """The command on PATH and the package importable, as after `pip install bridge-verify`."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bridge-verify").symlink_to(COMMAND)
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    return {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(PACKAGE),
            "XDG_CACHE_HOME": str(tmp_path / "cache")}


def variables_and_script(text):
    """The lists of a GitLab job, read as plainly as they are written."""
    variables = dict(re.findall(r"^    ([A-Z]+): \"?(.*?)\"?$", text, re.M))
    script = text.split("  script:\n")[1].split("  artifacts:")[0]
    return variables, [line.strip()[2:] for line in script.splitlines() if line.strip()]


@pytest.mark.parametrize("rules, code", [("", 0), ("broken/swapped_gate_up.rules.json", 1)])
def test_the_gitlab_job_gates_by_its_exit_code_and_leaves_what_gitlab_reads(environment, tmp_path, rules, code):
    variables, script = variables_and_script((TEMPLATES / "gitlab" / "bridge-verify.yml").read_text())
    variables["MODEL"] = "fixture:qwen3"
    variables["RULES"] = str(FIXTURES / rules) if rules else ""
    done = subprocess.run(["sh", "-e", "-c", "\n".join(script)], cwd=tmp_path, env={**environment, **variables}, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    quality = json.loads((tmp_path / "out" / "gl-code-quality.json").read_text())
    assert len(quality) >= code and all({"description", "fingerprint", "location", "severity"} <= row.keys() for row in quality)
    assert (tmp_path / "out" / "junit.xml").read_text().startswith("<?xml")


def github(environment, tmp_path, **inputs):
    outputs = tmp_path / "outputs"
    given = {"MODEL": "fixture:qwen3", "RULES": "", "BRIDGE": "", "LAYOUTS": "auto", "LEVEL": "headers", "WAIVERS": "",
             "FAIL_ON": "inconclusive", "OUT": str(tmp_path / "out"), "GITHUB_OUTPUT": str(outputs),
             "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "GITHUB_ACTIONS": "true", **inputs}
    done = subprocess.run(["bash", str(TEMPLATES / "github-action" / "check.sh")], cwd=tmp_path, env={**environment, **given},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in outputs.read_text().splitlines()), done


@pytest.mark.parametrize("rules, code, word", [("", "0", "PASS"), ("broken/swapped_gate_up.rules.json", "1", "FAIL")])
def test_the_step_of_the_github_action_keeps_the_exit_code_for_the_gate(environment, tmp_path, rules, code, word):
    said, done = github(environment, tmp_path, RULES=str(FIXTURES / rules) if rules else "")
    assert (said["exit-code"], said["result"]) == (code, word)
    assert word in (tmp_path / "summary").read_text()
    assert ("::error" in done.stderr) == (code == "1")
    for name in ("verdicts.json", "report.html", "junit.xml", "results.sarif"):
        assert (tmp_path / "out" / name).exists(), name


def test_a_model_that_is_not_there_ends_the_github_action_with_5(environment, tmp_path):
    said, _ = github(environment, tmp_path, MODEL=str(tmp_path / "none"))
    assert (said["exit-code"], said["result"]) == ("5", "INPUT")


def test_a_check_that_leaves_no_verdicts_is_no_pass(environment, tmp_path):
    """Not even where an earlier step left some, and whatever ended the command with 0."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "verdicts.json").write_text('{"result": {"word": "PASS"}}')
    (tmp_path / "bin" / "bridge-verify").unlink()
    (tmp_path / "bin" / "bridge-verify").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "bin" / "bridge-verify").chmod(0o755)
    for name in ("report.html", "junit.xml", "results.sarif"):
        (tmp_path / "out" / name).write_text("of an earlier step")
    said, _ = github(environment, tmp_path)
    assert (said["exit-code"], said["result"]) == ("5", "INPUT")
    assert list((tmp_path / "out").iterdir()) == []  # nothing old is uploaded


@pytest.mark.parametrize("name", ["BRIDGE_VERIFY_VERSION", "BRIDGE_VERIFY_HELP"])
def test_a_variable_does_not_answer_in_place_of_the_check(environment, tmp_path, name):
    said, _ = github({**environment, name: "1"}, tmp_path, RULES=str(FIXTURES / "broken/swapped_gate_up.rules.json"))
    assert said["exit-code"] not in ("0", "")


def test_the_inputs_of_the_action_are_those_that_its_step_reads():
    action = (TEMPLATES / "github-action" / "action.yml").read_text()
    read = set(re.findall(r"\$\{?([A-Z_]+)\}?", (TEMPLATES / "github-action" / "check.sh").read_text()))
    given = set(re.findall(r"^        ([A-Z_]+): \$\{\{", action, re.M))
    assert read - {"GITHUB_OUTPUT", "BRIDGE"} <= given | {"BRIDGE"}, read - given


@pytest.mark.parametrize("words", [
    ["vendor.github-actions", "github-action/action.yml"],
    ["vendor.gitlab-ci", "gitlab/bridge-verify.yml", "--data-transform", "gitlab-ci"]])
def test_the_services_own_schemas_accept_the_templates(words, tmp_path):
    pytest.importorskip("check_jsonschema")
    schema, file, *more = words
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *more]
    text = re.sub(r"\.bridge-verify\b(?=:|$)", "bridge-verify-base", (TEMPLATES / file).read_text(), flags=re.M)  # else it is not looked at
    right, broken = tmp_path / "right.yml", tmp_path / "broken.yml"
    right.write_text(text)
    done = subprocess.run([*check, right], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    broken.write_text(text.replace("  using: composite", "  using: nothing").replace("when: always", "when: sometimes"))
    assert subprocess.run([*check, broken], capture_output=True, text=True).returncode == 1


def test_the_container_recipe_installs_what_ci_does_and_leaves_builds_out():
    recipe = (TEMPLATES / "container" / "Dockerfile").read_text()
    listed = re.search(r"^base=\"(.*)\"$", (ROOT / "ci" / "do").read_text(), re.M)[1]
    build, final = recipe.split("FROM debian:12-slim")
    assert set(re.search(r"--no-install-recommends \\\n +(.*?) &&", build)[1].split()) == set(listed.split()) - {"ccache"}
    assert "-DBV_STATIC=ON" in build and "RUN" not in final  # the image needs no package: the command has all but glibc
    assert "build" in (TEMPLATES / "container" / "Dockerfile.dockerignore").read_text().splitlines()


def installed(recipe):
    """Packages that the recipe names, and its commands, a list of words each."""
    steps = re.findall(r"^RUN (.*?)(?=^\S)", recipe.replace("\\\n", ""), re.M | re.S)
    commands = [part.split() for step in steps for part in step.strip().split("&&")]
    install = next(words for words in commands if "install" in words and "apt-get" in words)
    return [word for word in install[install.index("install") + 1:] if not word.startswith("-")], commands


def test_the_container_recipe_names_what_this_tree_has():
    recipe = (TEMPLATES / "container" / "Dockerfile").read_text()
    _, commands = installed(recipe)
    words = [word for command in commands for word in command if command[0] == "cmake"]
    presets = [one["name"] for one in json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]]
    assert words[words.index("--preset") + 1] in presets
    listed = "".join(path.read_text() for path in [ROOT / "CMakeLists.txt", *ROOT.glob("*/CMakeLists.txt"), *ROOT.glob("*/*/CMakeLists.txt"),
                                                   *ROOT.glob("ci/cmake/*.cmake")])
    options = [word[2:].partition("=")[0] for word in words if word.startswith("-D")]
    assert options and all(re.search(rf"option\({option}\b|set\({option}\b[^)]* CACHE ", listed) for option in options), options
    target = words[words.index("--target") + 1]
    assert re.search(rf"add_executable\({target}\b", listed)
    component = words[words.index("--component") + 1]
    assert re.search(rf"install\(TARGETS {target}\b[^)]*COMPONENT {component}\b", listed)
    binary = re.search(r"^COPY --from=build (\S+) (\S+)$", recipe, re.M)
    assert binary[1] == binary[2] == f"{words[words.index('--prefix') + 1]}/bin/bridge-verify"
    install = re.search(r"apt-get install (.*?) \"", (ROOT / "ci" / "do").read_text())[1].split()  # as `ci/do run` of the README does
    assert [word for word in next(one for one in commands if "install" in one and "apt-get" in one) if word.startswith("-")] == \
        [word for word in install if word.startswith("-")]
    assert "bash ci/do run" in (ROOT / "README.md").read_text()


@pytest.mark.skipif(shutil.which("apt-cache") is None or "VERSION_ID=\"12\"" not in pathlib.Path("/etc/os-release").read_text(),
                    reason="no Debian 12, whose packages the recipe installs")
def test_every_package_of_the_container_recipe_is_one_of_debian_12():
    packages, _ = installed((TEMPLATES / "container" / "Dockerfile").read_text())
    assert len(packages) > 5
    for package in [*packages, "no-such-package-of-debian"]:
        found = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True).stdout
        known = re.search(r"Candidate: (?!\(none\))\S+", found) is not None
        assert known == (package in packages), package


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
@pytest.mark.parametrize("rules, code", [("rules/qwen3.rules.json", 0), ("broken/wildcard_count.rules.json", 1)])
def test_the_pre_commit_hook_runs_on_rules_files_that_are_committed(environment, tmp_path, rules, code):
    pytest.importorskip("pre_commit")
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.copy(TEMPLATES / "pre-commit-config.yaml", repository / ".pre-commit-config.yaml")
    shutil.copy(FIXTURES / rules, repository / "mine.rules.json")
    (repository / "other.json").write_text("{}")
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=repository, check=True)
    done = subprocess.run([sys.executable, "-m", "pre_commit", "run", "--all-files"], cwd=repository, capture_output=True, text=True,
                          env={**environment, "PRE_COMMIT_HOME": str(tmp_path / "cache")})
    assert done.returncode == code, done.stdout + done.stderr
    assert "rules of a checkpoint bridge" in done.stdout
    assert ("BV1009" in done.stdout) == (code == 1)
