"""The HTML report in headless Chromium. BRIDGE_VERIFY is the command, CHROMIUM the browser; both must be there."""
import json
import os
import pathlib
import subprocess

import pytest
from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMAND = os.environ.get("BRIDGE_VERIFY", str(ROOT / "build/release/bin/bridge-verify"))
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


def command(*words, ok=(0,)):
    done = subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode in ok, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def failing(tmp_path_factory):
    """verdicts.json of a real run that fails: rows on the wrong rank."""
    path = tmp_path_factory.mktemp("runs") / "failing.json"
    path.write_text(command("check", "--model", "fixture:qwen3_5_moe", "--rules", "fixtures/broken/gdn_concat.rules.json",
                            "--json", ok=(1,)))
    return path


def with_rows(source, count):
    """The same run with `count` verdicts, each of a name of its own."""
    run = json.loads(source.read_text())
    sets = run.pop("layout_sets", [])
    given = []
    for verdict in run["verdicts"]:
        for layout in sets[verdict["layouts"]] if "layouts" in verdict else [verdict["layout"]]:
            given.append({**{k: v for k, v in verdict.items() if k != "layouts"}, "layout": layout})
    red = [one for one in given if one["outcome"] == "Refuted"]
    green = [one for one in given if one["outcome"] != "Refuted"]
    rows = []
    for i in range(count):
        one = dict(red[i % len(red)] if i % 100 == 0 else green[i % len(green)])
        one["rule"] = {**one["rule"], "id": f"r{i}"}
        one["subject"] = {"megatron": f"decoder.layers.{i % 96}.mlp.experts.linear_fc1.weight{i // 96}",
                          "hf": [f"model.layers.{i % 96}.mlp.experts.{i // 96}.gate_proj.weight"]}
        rows.append(one)
    run["verdicts"] = rows
    return told_again(run)


def told_again(run):
    """What a run says of its verdicts, counted again: the command refuses a file that disagrees with itself."""
    sets = run.get("layout_sets", [])
    times = [len(sets[one["layouts"]]) if "layouts" in one else 1 for one in run["verdicts"]]
    for name in run["result"]["counts"]:
        run["result"]["counts"][name] = sum(many for one, many in zip(run["verdicts"], times) if one["outcome"].lower() == name)
    run["claims"] = []  # no table says more than the verdicts
    if not run["verdicts"]:
        run["layouts"] = []
        run["result"].update(word="INCOMPLETE", exit_code=3, undecided=["no claim was checked"])
    elif run["result"]["counts"]["refuted"] == 0:
        run["result"].update(word="PASS", exit_code=0)
    elif not any(one["outcome"] in ("Proved", "Held") for one in run["verdicts"]):
        run["result"]["undecided"] = ["no claim had anything to check"]
    return run


@pytest.fixture(scope="session")
def report(tmp_path_factory, failing):
    """report(rows) -> path of report.html; None: the run as it is; a dict: that run."""
    folder = tmp_path_factory.mktemp("reports")
    made = {}

    def make(rows=None):
        key = json.dumps(rows) if isinstance(rows, dict) else rows
        if key not in made:
            run = json.loads(failing.read_text()) if rows is None else rows if isinstance(rows, dict) else with_rows(failing, rows)
            source = folder / f"{len(made)}.json"
            source.write_text(json.dumps(run))
            made[key] = folder / f"{len(made)}.html"
            command("report", "html", source, "--out", made[key])
        return made[key]

    return make


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield one
        one.close()


@pytest.fixture
def open_page(browser):
    """open_page(path, hash="", width=, scheme=) -> a page that is complete; at the end: no error, no request."""
    faults, pages = [], []

    def opened(path, hash="", width=1280, height=720, scheme="light", script=True):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme,
                                      java_script_enabled=script, reduced_motion="reduce")
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if not request.url.startswith(("file:", "blob:", "data:")) else None)
        page.goto(path.as_uri() + hash)
        if script:
            page.wait_for_selector("html[data-complete]", state="attached", timeout=30000)
        pages.append(context)
        return page

    yield opened
    for context in pages:
        context.close()
    assert faults == []
