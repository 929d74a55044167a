import copy
import json
import os
import time

import pytest
from axe_playwright_python.sync_playwright import Axe

from conftest import command, told_again, with_rows

SIZES = [0, 1, 1000, 100000]
HOSTILE = "=1|</script><img src=x onerror=alert(1)>\"'`\x07\u202e\U0001f600 __proto__ " + "x" * 10000


def violations(page):
    found = Axe().run(page).response["violations"]
    return [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found]


def until(page, script):
    """Waits for a true value. Not wait_for_function: it evaluates text inside the page, which the page forbids."""
    for _ in range(200):
        if page.evaluate(script):
            return
        page.wait_for_timeout(50)
    raise AssertionError("never true: " + script)


def text(page, selector):
    return page.locator(selector).first.inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("rows", SIZES)
def test_opens_at_every_size_in_both_themes(report, open_page, rows, width, scheme):
    page = open_page(report(rows), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert text(page, "#verdicts output") == f"{rows:,} of {rows:,}"
    if "SCREENSHOTS" in os.environ:
        page.screenshot(path=f"{os.environ['SCREENSHOTS']}/{rows}-{width}-{scheme}.png", full_page=rows < 2)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_axe_finds_nothing(report, open_page, width, scheme):
    page = open_page(report(), width=width, scheme=scheme)
    assert violations(page) == []
    page.locator(".finding a").first.click()
    assert page.locator(".panel").is_visible()
    assert violations(page) == []


def test_axe_finds_nothing_in_an_empty_report(report, open_page):
    assert violations(open_page(report(0))) == []


def test_first_screen_shows_word_counts_model_and_first_finding(report, open_page):
    page = open_page(report(), width=1280, height=720)
    assert text(page, "h1") == "FAIL"
    assert "fixture:qwen3_5_moe" in text(page, ".model")
    for selector in ["h1", ".legend", ".finding h3", ".finding .picture svg"]:
        box = page.locator(selector).first.bounding_box()
        assert box["y"] + min(box["height"], 60) <= 720, selector


def test_a_hundred_thousand_rows_are_usable(report, open_page):
    began = time.time()
    page = open_page(report(100000))
    ready = time.time() - began
    print(f"100,000 rows: complete after {ready:.2f} s")
    nodes = page.evaluate("document.getElementsByTagName('*').length")
    assert nodes < 6000
    body = page.locator(".grid .body")
    body.evaluate("node => { node.scrollTop = node.scrollHeight; }")
    until(page, "[...document.querySelectorAll('.grid .row')].some(row => row.getAttribute('aria-rowindex') === '100001')")
    page.locator("#verdicts input").fill("s:refuted l:16 /weight\\d+$/")
    until(page, "document.querySelector('#verdicts output').textContent !== '100,000 of 100,000'")
    spent = page.evaluate("""() => { const test = bv.parseFilter('s:refuted l:17').test, began = performance.now();
                             for (let i = 0; i < bv.data.count; ++i) test(bv.data, i); return performance.now() - began; }""")
    print(f"one pass of the filter: {spent:.0f} ms")


def test_filter_words(report, open_page):
    page = open_page(report())
    count = lambda words: page.evaluate("words => { const p = bv.parseFilter(words); if (p.error) return p.error; let n = 0; for (let i = 0; i < bv.data.count; ++i) n += p.test(bv.data, i) ? 1 : 0; return n; }", words)
    total = count("")
    refuted = count("s:refuted")
    assert 0 < refuted < total
    assert count("!s:refuted") == total - refuted
    assert count("s:refuted s:held") == refuted + count("s:held")
    assert count("q:placement s:refuted") == refuted
    assert count("c:bv2006") == refuted == count("c:2006") == count("is:red")
    assert count('"decoder.layers.*.self_attention.in_proj.weight"') > 0
    assert count("ev:O") + count("ev:-O") == total
    assert count("/IN_PROJ\\.w/") > 0
    assert "no key" in count("zz:1")
    assert "regular expression" in count("/(/")
    assert "is:" in count("is:constructor")
    assert "no key" in count("constructor:1")


def test_links_open_what_they_name(report, open_page, failing):
    run = json.loads(failing.read_text())
    red = next(one for one in run["verdicts"] if one["outcome"] == "Refuted")
    page = open_page(report(), "#t=" + red["id"] + "&q=s:refuted")
    assert text(page, ".panel h3") == red["id"]
    assert page.locator("#verdicts input").input_value() == "s:refuted"
    page.keyboard.press("Escape")
    assert page.locator(".panel").is_hidden()
    page.go_back()
    page = open_page(report(), "#t=placement.nothing")
    assert "no verdict placement.nothing" in text(page, ".problem")


def test_keyboard_alone_opens_a_verdict_and_returns(report, open_page):
    page = open_page(report())
    page.keyboard.press("/")
    page.keyboard.type("s:refuted")
    until(page, "document.querySelector('#verdicts output').textContent.startsWith('36 ')")
    page.locator(".grid .body .row[tabindex='0']").focus()
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator(".panel").is_visible()
    assert page.locator(".panel .picture svg").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".panel").is_hidden()
    page.keyboard.press("n")
    assert page.evaluate("document.activeElement.classList.contains('finding')")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("t")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()


def test_replay_lines_and_issue_texts_are_copied(report, open_page):
    page = open_page(report())
    page.evaluate("window.copied = []; bv.copy = async (text) => { window.copied.push(text); }; 0")
    page.locator(".replay button").first.click()
    page.get_by_role("button", name="Copy for an issue").first.click()
    copied = page.evaluate("window.copied")
    assert copied[0].startswith("bridge-verify check --model fixture:qwen3_5_moe --rules ")
    assert copied[1].startswith("**BV2006") and copied[0] in copied[1]


def test_saved_csv_has_the_filtered_rows_and_no_formula(report, open_page):
    page = open_page(report(), "#q=s:refuted")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    lines = open(download.value.path(), newline="").read().split("\r\n")
    assert len(lines) == 36 + 2
    assert not any(line.startswith(("=", "+", "-", "@")) for line in lines)


def test_hostile_names_stay_text(report, open_page, failing):
    run = with_rows(failing, 3)
    for verdict in run["verdicts"]:
        for key in ("title", "found", "wanted", "help", "replay", "why"):
            verdict[key] = HOSTILE
        verdict["facts"] = [HOSTILE, "rank " + HOSTILE + " wanted  q[0:4]", "rank tp0 wanted  </svg>[0:4]", "rank tp0 found   <b>[0:4]"]
        verdict["subject"] = {"megatron": HOSTILE, "hf": [HOSTILE]}
    run["model"]["ref"] = HOSTILE
    for width in (400, 1600):
        page = open_page(report(copy.deepcopy(run)), width=width)
        page.on("dialog", lambda dialog: pytest.fail("a script ran"))
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator(".finding a").first.click()
        assert page.locator(".panel").is_visible()


def test_without_scripts_the_findings_are_there(report, open_page):
    page = open_page(report(), script=False)
    assert text(page, "h1") == "FAIL"
    assert page.locator(".finding").count() >= 1
    assert "rank tp0 wanted" in text(page, ".facts-block")
    assert "need scripts" in page.content()


def test_prints(report, open_page):
    page = open_page(report())
    assert len(page.pdf()) > 10000


def test_changes_since_an_earlier_run(open_page, tmp_path, failing):
    green = json.loads(failing.read_text())
    for verdict in green["verdicts"]:
        if verdict["outcome"] == "Refuted":
            verdict.update(outcome="Proved", code=None, severity=None, refuted_cases=0, evidence="P-O----")
    before = tmp_path / "before.json"
    before.write_text(json.dumps(told_again(green)))
    page_file = tmp_path / "report.html"
    command("report", "html", failing, "--baseline", before, "--out", page_file)
    page = open_page(page_file)
    assert "36 verdicts changed" in text(page, "#diff .lead")
    assert page.locator("#diff tbody tr").count() == 36
    assert violations(page) == []


def test_the_kill_matrix_is_shown(open_page, tmp_path):
    source, page_file = tmp_path / "mutate.json", tmp_path / "mutate.html"
    source.write_text(command("mutate", "llama", "--operators", "SWAP", "--json", ok=(0, 1)))
    command("report", "html", source, "--out", page_file)
    page = open_page(page_file)
    assert "planted faults are seen" in text(page, "#strength .lead")
    assert page.locator("#strength tbody tr").count() == 3
    assert violations(page) == []
