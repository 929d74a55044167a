"""The pre-commit hook on bridge files: a checkout made here, of which nothing is installed; a right bridge and wrong ones."""

import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

from command import run
from stub_test import TREE
from templates_test import COMMAND, PACKAGE, TEMPLATES, environment  # noqa: F401

PARTS = """
class QKVMapping(MegatronParamMapping):
    def __init__(self, megatron_param, q, k, v):
        super().__init__(megatron_param, {"q": q, "k": k, "v": v})

class GatedMLPMapping(MegatronParamMapping):
    def __init__(self, megatron_param, gate, up):
        super().__init__(megatron_param, {"gate": gate, "up": up})
"""
BRIDGE = """
import torch
from transformers import LlamaForCausalLM
from megatron.bridge.models.conversion.mapping_registry import MegatronMappingRegistry
from megatron.bridge.models.conversion.model_bridge import MegatronModelBridge
from megatron.bridge.models.conversion.param_mapping import AutoMapping, GatedMLPMapping, QKVMapping

class LlamaBridge(MegatronModelBridge):
    SOURCE_NAME = "LlamaForCausalLM"

    def mapping_registry(self):
        m, h = "decoder.layers.*.", "model.layers.*."
        return MegatronMappingRegistry(
            AutoMapping("embedding.word_embeddings.weight", "model.embed_tokens.weight"),
            AutoMapping("decoder.final_layernorm.weight", "model.norm.weight"),
            AutoMapping("output_layer.weight", "lm_head.weight"),
            AutoMapping(m + "self_attention.linear_qkv.layer_norm_weight", h + "input_layernorm.weight"),
            AutoMapping(m + "self_attention.linear_proj.weight", h + "self_attn.o_proj.weight"),
            AutoMapping(m + "mlp.linear_fc1.layer_norm_weight", h + "post_attention_layernorm.weight"),
            AutoMapping(m + "mlp.linear_fc2.weight", h + "mlp.down_proj.weight"),
            QKVMapping(m + "self_attention.linear_qkv.weight", h + "self_attn.q_proj.weight", h + "self_attn.k_proj.weight",
                       h + "self_attn.v_proj.weight"),
            GatedMLPMapping(m + "mlp.linear_fc1.weight", gate=h + "mlp.gate_proj.weight", up=h + "mlp.up_proj.weight"))
"""
WRONG = [("gate=h + \"mlp.gate_proj.weight\", up=h + \"mlp.up_proj.weight\"", "gate=h + \"mlp.up_proj.weight\", up=h + \"mlp.gate_proj.weight\"",
          "BV2006"),
         ("model.norm.weight", "model.final_norm.weight", "BV1001"),
         ("def mapping_registry(self):", "def mapping_registry(self):\n        import nothing_of_the_sort", "nothing_of_the_sort")]


@pytest.fixture
def checkout(tmp_path):
    """A folder with a Megatron-Bridge of one bridge and the checkpoints to check it on; the bridge's file."""
    folder = tmp_path / "checkout"
    base = folder / "src" / "megatron" / "bridge"
    for name, text in TREE.items():
        if "tiny_bridge" not in name:
            (base / name).parent.mkdir(parents=True, exist_ok=True)
            (base / name).write_text(text + (PARTS if name.endswith("param_mapping.py") else ""))
    file = base / "models" / "llama" / "llama_bridge.py"
    file.parent.mkdir()
    (file.parent / "__init__.py").write_text("raise SystemExit('not to be run')\n")
    file.write_text(BRIDGE)
    (folder / "headers").mkdir(parents=True)
    run("fixture", "make", "--family", "llama", "--out", folder / "headers" / "llama")
    return folder, file


def hook(environment, folder, *files):  # noqa: F811
    return subprocess.run([sys.executable, "-m", "bridge_verify.bridge_files", "--models", "headers", *map(str, files)], cwd=folder,
                          env=environment, capture_output=True, text=True)


def test_a_right_bridge_passes_and_says_what_it_was_checked_on(environment, checkout):  # noqa: F811
    folder, file = checkout
    done = hook(environment, folder, file)
    assert done.returncode == 0, done.stdout + done.stderr
    # The mapping classes of this checkout are no release's, so that what they do is not known without running them.
    assert "LlamaBridge on headers/llama: nothing is refuted, and some claims are not decided by stub mode" in done.stdout


@pytest.mark.parametrize("right, wrong, said", WRONG)
def test_a_wrong_bridge_fails_with_its_fault(environment, checkout, right, wrong, said):  # noqa: F811
    folder, file = checkout
    assert right in BRIDGE
    file.write_text(BRIDGE.replace(right, wrong))
    done = hook(environment, folder, file)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout and "Traceback" not in done.stdout + done.stderr


def lines_to_run(text):
    """Every line that a text of the hook shows to see a finding again."""
    return [line.split("= replay ")[1] for line in text.splitlines() if "= replay " in line]


def test_the_lines_that_show_a_finding_again_can_be_run_after_the_hook(environment, checkout, tmp_path):  # noqa: F811
    folder, file = checkout
    cache = tmp_path / "cache"
    file.write_text(BRIDGE.replace(*WRONG[0][:2]))
    done = hook({**environment, "XDG_CACHE_HOME": str(cache)}, folder, file)
    assert done.returncode == 1 and "BV2006" in done.stdout
    lines = lines_to_run(done.stdout)
    assert lines
    for line in lines:
        again = subprocess.run([COMMAND, *shlex.split(line)[1:]], cwd=tmp_path, capture_output=True, text=True)
        assert again.returncode in (1, 3), line + again.stdout + again.stderr
    file.write_text(BRIDGE)
    kept = list((cache / "bridge-verify" / "rules").iterdir())
    assert hook({**environment, "XDG_CACHE_HOME": str(cache)}, folder, file).returncode == 0
    assert list((cache / "bridge-verify" / "rules").iterdir()) == kept  # a right registry leaves no file


def test_where_nothing_can_be_kept_at_home_the_lines_can_be_run_too(environment, checkout, tmp_path):  # noqa: F811
    folder, file = checkout
    (tmp_path / "file").write_text("")
    file.write_text(BRIDGE.replace(*WRONG[0][:2]))
    done = hook({**environment, "XDG_CACHE_HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}, folder, file)
    assert lines_to_run(done.stdout)
    for line in lines_to_run(done.stdout):
        again = subprocess.run([COMMAND, *shlex.split(line)[1:]], cwd=tmp_path, capture_output=True, text=True)
        assert again.returncode in (1, 3), line + again.stdout + again.stderr


def test_a_bridge_that_nothing_checks_is_not_green(environment, checkout):  # noqa: F811
    folder, file = checkout
    shutil.rmtree(folder / "headers" / "llama")
    done = hook(environment, folder, file)
    assert done.returncode == 1 and "LlamaForCausalLM" in done.stdout and "bridge_verify.headers" in done.stdout
    stray = folder / "stray_bridge.py"
    shutil.copy(file, stray)
    (folder / "src").rename(folder / "elsewhere")
    assert "in no checkout" in hook(environment, folder, stray).stdout


def test_a_bridge_file_that_cannot_be_run_is_not_green(environment, checkout):  # noqa: F811
    folder, file = checkout
    file.write_text("import nothing_of_the_sort\n" + BRIDGE)
    done = hook(environment, folder, file)
    assert done.returncode == 1 and "stub mode finds no such bridge" in done.stdout and "nothing_of_the_sort" in done.stdout
    file.write_text("def (")
    assert hook(environment, folder, file).returncode == 2


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
@pytest.mark.parametrize("right, wrong, code", [("", "", 0), (*WRONG[0][:2], 1)])
def test_the_hook_of_the_template_runs_on_bridge_files_that_are_committed(environment, checkout, tmp_path, right, wrong, code):  # noqa: F811
    pytest.importorskip("pre_commit")
    folder, file = checkout
    file.write_text(BRIDGE.replace(right, wrong) if right else BRIDGE)
    shutil.copy(TEMPLATES / "pre-commit-config.yaml", folder / ".pre-commit-config.yaml")
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    done = subprocess.run([sys.executable, "-m", "pre_commit", "run", "--all-files"], cwd=folder, capture_output=True, text=True,
                          env={**environment, "PRE_COMMIT_HOME": str(tmp_path / "cache")})
    assert done.returncode == code, done.stdout + done.stderr
    assert "registries of checkpoint bridges" in done.stdout and ("BV2006" in done.stdout) == (code == 1)


def test_both_hook_files_run_the_same_module():
    root = pathlib.Path(__file__).resolve().parents[2]
    for text in ((root / ".pre-commit-hooks.yaml").read_text(), (TEMPLATES / "pre-commit-config.yaml").read_text()):
        assert "-m bridge_verify.bridge_files" in text and r"files: _bridge\.py$" in text
    assert (PACKAGE / "bridge_verify" / "bridge_files.py").is_file()
