"""The reproductions of docs/findings: each command of each page says what the page says."""

import os
import pathlib
import re
import subprocess

import pytest

from bridge_environment import PACKAGE, PYTHON, needs_bridge

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "findings"


def commands():
    """(page, command, what it says) of all pages."""
    for page in sorted(PAGES.glob("D*.md"), key=lambda path: int(path.stem[1:])):
        text = page.read_text()
        lines = re.search(r"^```\n(.*?)^```", text, re.M | re.S)[1].splitlines()
        told = re.search(r"^Says: (.*)\.$", text, re.M)
        said = re.findall(r"`([^`]+)`", told[1]) if told else []
        for position, line in enumerate(lines):
            yield pytest.param(line, said[position] if len(said) == len(lines) else None, id=f"{page.stem}.{position}")


def test_every_page_says_what_its_commands_say():
    pages = {path.stem for path in PAGES.glob("D*.md")}
    rows = list(commands())
    assert {row.id.split(".")[0] for row in rows} == pages and len(rows) > len(pages)
    assert [row.id for row in rows if row.values[1] is None] == []


@needs_bridge
@pytest.mark.parametrize("command, said", commands())
def test_a_reproduction_says_what_its_page_says(command, said, tmp_path):
    (tmp_path / "bridge-verify").symlink_to(os.environ["BV_COMMAND"])
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {PYTHON} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    command = re.sub(r" -o (\S+)$", rf" -o {tmp_path}/\1", command)  # nothing is left in the repository
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=1800,
                          env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"})
    out = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert said in out, out[-3000:]
