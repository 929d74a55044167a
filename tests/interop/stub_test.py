"""The exporter's mode stub: bridge files run with stand-ins, on a tree made here and on the released one where it is installed."""

import json
import os
import subprocess
import sys

import pytest

from bridge_environment import PACKAGE, PYTHON, needs_bridge
from command import FIXTURES, run

CORPUS = FIXTURES / "registries"

TREE = {
    "package_info.py": "MAJOR = 9\nMINOR = 8\nPATCH = 7\n",
    "__init__.py": "raise SystemExit('not to be run')\n",
    "models/__init__.py": "import torch\nfrom megatron.bridge.models.conversion.param_mapping import AutoMapping\nraise SystemExit('not to be run')\n",
    "models/tiny/__init__.py": "raise SystemExit('not to be run')\n",
    "models/tiny/tiny_provider.py": "raise SystemExit('not to be run')\n",
    "models/hf_pretrained/state.py": "raise SystemExit('not to be run')\n",
    "models/tiny/common.py": "ENDS = {'embedding.word_embeddings.weight': 'model.embed_tokens.weight'}\n",
    "models/conversion/mapping_registry.py":
        "class MegatronMappingRegistry:\n    def __init__(self, *mappings):\n        self.mappings = list(mappings)\n",
    "models/conversion/param_mapping.py": """
import torch
from abc import ABC
from typing import Dict, Generic, TypeVar
from torch.distributed._tensor import DTensor
from megatron.core import mpu

WeightType = TypeVar("WeightType", torch.Tensor, Dict[str, torch.Tensor])

class MegatronParamMapping(ABC, Generic[WeightType]):
    def __init__(self, megatron_param, hf_param):
        if torch.distributed.is_initialized():
            raise RuntimeError
        self.megatron_param, self.hf_param = megatron_param, hf_param

    @torch.no_grad()
    def hf_to_megatron(self, weights: torch.Tensor | DTensor | None):
        return weights

class AutoMapping(MegatronParamMapping):
    def __init__(self, megatron_param, hf_param, permute_dims=None):
        super().__init__(megatron_param, hf_param)
        self.permute_dims = permute_dims
""",
    "models/conversion/model_bridge.py": """
import torch
from dataclasses import dataclass
from megatron.core.transformer.module import MegatronModule
from megatron.bridge.models.tiny.tiny_provider import TinyProvider

@dataclass(frozen=True)
class Task:
    dtype: torch.dtype = torch.bfloat16

class MegatronModelBridge:
    SOURCE_NAME = "TinyForCausalLM"

    def provider_bridge(self, pretrained):
        kwargs = {"num_layers": pretrained.config.num_hidden_layers}
        return TinyProvider(**{key: value for key, value in kwargs.items() if key in TinyProvider.__dataclass_fields__})

    def maybe_modify_loaded_hf_weight(self, name, state):
        return state[name]
""",
    "models/tiny/tiny_bridge.py": """
import torch
from transformers import TinyForCausalLM
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.bridge.models import AutoMapping
from megatron.bridge.models.conversion.mapping_registry import MegatronMappingRegistry
from megatron.bridge.models.conversion.model_bridge import MegatronModelBridge
from megatron.bridge.models.tiny.common import ENDS
from megatron.core.utils import version_check, FLAG, LIST
from megatron.core.transformer.transformer_config import TransformerConfig

class TinyBridge(MegatronModelBridge):
    def mapping_registry(self):
        rules = [AutoMapping(m, h) for m, h in ENDS.items()]
        rules.append(AutoMapping("decoder.layers.*.mlp.linear_fc2.weight", "model.layers.*.mlp.down_proj.weight"))
        BODY
        return MegatronMappingRegistry(*rules)
""",
}
CONFIG = {"architectures": ["TinyForCausalLM"], "model_type": "tiny", "num_hidden_layers": 2, "tie_word_embeddings": False}


@pytest.fixture
def stub(tmp_path):
    """Exports the registry of a TinyBridge with these lines in it; what the command says, and the file."""

    def made(body="pass", before="", code=0, config=CONFIG, tensors=("lm_head.weight",)):
        for name, text in TREE.items():
            path = tmp_path / "tree" / "src" / "megatron" / "bridge" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("BODY", body).replace("class TinyBridge(MegatronModelBridge):", before or
                                                               "class TinyBridge(MegatronModelBridge):"))
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "index.json").write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "x")}))
        words = ["--mode", "stub", "--bridge-repo", tmp_path / "tree", "--bridge", "TinyBridge", "--config", tmp_path / "config.json",
                 "--headers", tmp_path / "index.json", "-o", tmp_path / "out.rules.json"]
        done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE)!r}); from bridge_verify.export "
                               "import main; code = main(sys.argv[1:]); assert not {'numpy'} & {m for m in sys.modules if "
                               "getattr(sys.modules[m], '__file__', None)}; sys.exit(code)", *map(str, words)],
                              capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return json.loads((tmp_path / "out.rules.json").read_text()) if code == 0 else done.stderr

    return made


def test_a_registry_is_made_without_a_library_and_says_what_stood_in(stub):
    content = stub(tensors=["lm_head.weight"])
    assert [(rule["class"], rule["megatron"], rule["hf"]) for rule in content["rules"]] == [
        ("AutoMapping", "embedding.word_embeddings.weight", "model.embed_tokens.weight"),
        ("AutoMapping", "decoder.layers.*.mlp.linear_fc2.weight", "model.layers.*.mlp.down_proj.weight")]
    assert content["trouble"] == [] and content["facts"] == {"num_layers": 2}
    assert any(row["name"] == "AutoMapping.hf_to_megatron" and "is not there" in row["what"] for row in content["hooks"]["base"])
    assert content["producer"]["mode"] == "stub" and {"torch", "megatron.core", "transformers"} <= set(content["producer"]["stand_ins"])
    assert "megatron.bridge.models.tiny.tiny_provider" in content["producer"]["stand_ins"]
    assert content["producer"]["packages"] == {"megatron-bridge": "9.8.7"}
    source = content["rules"][1]["source"]
    text = TREE["models/tiny/tiny_bridge.py"].splitlines()[source["line"] - 1]
    assert source["file"] == "megatron/bridge/models/tiny/tiny_bridge.py" and "linear_fc2" in text


@pytest.mark.parametrize("words", [[], ["--bridge", "BrokenBridge"]])
def test_a_bridge_file_that_cannot_be_imported_is_said_where_its_bridge_is_looked_for(stub, tmp_path, words):
    stub()
    tree = tmp_path / "tree" / "src" / "megatron" / "bridge" / "models" / "broken"
    tree.mkdir()
    (tree / "__init__.py").write_text("")
    (tree / "broken_bridge.py").write_text("import transformers\nNEW = transformers.__version__ >= (4, 50)\nclass BrokenBridge: pass\n")
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["BrokenForCausalLM"]}))
    done = subprocess.run([sys.executable, "-m", "bridge_verify.export", "--mode", "stub", "--bridge-repo", tmp_path / "tree", *words, "--config",
                           tmp_path / "config.json", "-o", tmp_path / "x.json"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(PACKAGE)})
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "broken_bridge cannot be imported: TypeError: '>=' not supported" in done.stderr, done.stderr
    assert ("BrokenBridge" if words else "BrokenForCausalLM") in done.stderr.splitlines()[0]


def test_names_of_tensors_decide_as_with_the_library(stub):
    body = 'rules = rules[:1] if "lm_head.weight" in self.hf_pretrained.state.source.get_all_keys() else rules'
    assert len(stub(body, tensors=["lm_head.weight"])["rules"]) == 1
    assert len(stub(body, tensors=["other.weight"])["rules"]) == 2


@pytest.mark.parametrize("body, said", [
    ("if version_check(): rules.pop()", "calls megatron.core.utils.version_check"),
    ("if FLAG: rules.pop()", "branches on megatron.core.utils.FLAG"),
    ("for one in LIST: rules.pop()", "megatron.core.utils.LIST is looped over"),
    ('if FLAG == "yes": rules.pop()', "compares with megatron.core.utils.FLAG"),
    ('if "head_gate" in TransformerConfig.__dataclass_fields__: rules.pop()', "head_gate is looked for in megatron.core.transformer"),
    ("rules.append(GPTModel.config(1, 2))", "calls megatron.core.models.gpt.gpt_model.GPTModel.config"),
])
def test_what_only_the_library_knows_is_an_error_and_never_a_guess(stub, body, said):
    told = stub(body, code=2)
    assert said in told and "--mode live" in told and "Traceback" not in told


def test_a_config_field_that_is_not_there_is_told(stub):
    content = stub('rules = rules[:1] if getattr(self.hf_config, "num_nextn_predict_layers", 0) == 0 else rules')
    assert len(content["rules"]) == 1
    assert "num_nextn_predict_layers" in content["trouble"][0] and "another default" in content["trouble"][0]


def test_a_provider_that_asks_the_library_states_no_facts(stub):
    content = stub(before="class TinyBridge(MegatronModelBridge):\n    def provider_bridge(self, pretrained):\n"
                   "        provider = super().provider_bridge(pretrained)\n        self.gated = bool(FLAG)\n        return provider\n")
    assert content["facts"] == {}
    assert "FLAG" in content["trouble"][0] and "it noted gated" in content["trouble"][0]


def test_a_hook_that_was_not_tried_leaves_its_rules_open(stub):
    content = stub(before="class TinyBridge(MegatronModelBridge):\n    def maybe_modify_loaded_hf_weight(self, name, state):\n"
                   "        return -state[name]\n")
    assert content["hooks"]["maybe_modify_loaded_hf_weight"] == "TinyBridge" and content["hooks"]["changes"] is None


def released():
    site = subprocess.run([PYTHON, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], capture_output=True, text=True)
    return site.stdout.strip()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Every row of the corpus by stub mode: rows of the export, folder."""
    out = tmp_path_factory.mktemp("stub")
    folder = tmp_path_factory.mktemp("headers")
    for path in CORPUS.glob("*.headers.json.gz"):
        (folder / path.name).write_bytes(path.read_bytes())
    done = subprocess.run([sys.executable, "-m", "bridge_verify.export", "--mode", "stub", "--bridge-repo", released(), "--all", folder,
                           "-o", out], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(PACKAGE)})
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads((out / "export.json").read_text())["rows"]}, out


@needs_bridge
def test_stub_mode_gives_the_rules_of_the_library_or_says_why_not(corpus):
    rows, out = corpus
    assert set(rows) == {path.name.split(".headers.json")[0] for path in CORPUS.glob("*.headers.json.gz")}
    other = {}
    for name, row in rows.items():
        assert "error" not in row, row
        ours, theirs = (json.loads((folder / f"{name}.rules.json").read_text()) for folder in (out, CORPUS))
        if ours["upstream"]["bridge_class"] != theirs["upstream"]["bridge_class"]:
            continue  # the corpus names a class that its architecture does not
        wrong = {key: value for key, value in ours["facts"].items() if theirs["facts"].get(key, value) != value}
        assert wrong == {}, name
        tried = ours["hooks"]["changes"] is not None
        plain = [[{key: value for key, value in rule.items() if tried or key not in ("layout", "axes")} for rule in content["rules"]]
                 for content in (ours, theirs)]
        if plain[0] != plain[1]:
            other[name] = row["trouble"]
    assert all(any("which stub mode does not run" in line for line in trouble) for trouble in other.values()), other
    assert set(other) <= {"step35", "step37"}  # their layout depends on the version of Megatron-Core


@needs_bridge
def test_rules_of_stub_mode_refute_a_planted_fault(corpus, tmp_path):
    _, out = corpus
    headers = CORPUS / "llama.headers.json.gz"
    run("check", "--model", headers, "--rules", out / "llama.rules.json")
    content = json.loads((out / "llama.rules.json").read_text())
    rule = next(rule for rule in content["rules"] if rule["class"] == "GatedMLPMapping")
    rule["hf"] = {"gate": rule["hf"]["up"], "up": rule["hf"]["gate"]}
    (tmp_path / "swapped.rules.json").write_text(json.dumps(content))
    done = subprocess.run([os.environ["BV_COMMAND"], "check", "--model", headers, "--rules", tmp_path / "swapped.rules.json"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "BV2006" in done.stdout and rule["source"]["file"] in done.stdout
