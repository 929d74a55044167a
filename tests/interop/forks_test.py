"""Forks of Megatron-Bridge: copies of the released library with one edit below the bridges, exported and checked. What the exporter
takes for granted of the library is then not so, and the run says where; an edit that changes no code changes no verdict."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from bridge_environment import PACKAGE, PYTHON, needs_bridge
from command import GOLDEN

pytestmark = needs_bridge

MODEL = GOLDEN / "hf" / "llama"
BRIDGE, MAPPING, REGISTRY = (f"models/conversion/{name}.py" for name in ("model_bridge", "param_mapping", "mapping_registry"))
LLAMA = "models/llama/llama_bridge.py"
FIRST = "        if not isinstance(megatron_model, list):\n"
CLASS = "class LlamaBridge(MegatronModelBridge):\n"

# name -> (file, what is edited, what it becomes, what the run says), by what can see it: a text, or the library at work.
HARMLESS = {
    "a comment": (BRIDGE, FIRST, "        # as one list\n" + FIRST),
    "a text": (MAPPING, '"""Create a new mapping with resolved wildcards.\n', '"""A new mapping with resolved wildcards.\n'),
    "an annotation": (BRIDGE, "def _unwrap_name(self, name: str) -> str:", "def _unwrap_name(self, name: object):"),
    "a new function": (MAPPING, "def merge_qkv_biases(", "def own_helper(tensor):\n    return tensor\n\n\ndef merge_qkv_biases("),
    "a new class": (MAPPING, "class QKVGMapping(", "class OwnMapping(AutoMapping):\n    pass\n\n\nclass QKVGMapping("),
}
IN_FILES = {
    "names": (BRIDGE, 'while name.startswith("module."):', 'while name.startswith("modul"):', "MegatronModelBridge._unwrap_name is not that"),
    "global names": (BRIDGE, "local_layer_number = int(", "local_layer_number = 1 + int(", "_megatron_local_name_to_global is not that"),
    "tasks": (BRIDGE, "        tasks = [None] * len(", "        tasks = 2 * [None] * len(", "MegatronModelBridge.build_conversion_tasks is not that"),
    "loading": (BRIDGE, "task.param_weight.copy_(converted_weights)", "task.param_weight.copy_(converted_weights * 2)",
                "MegatronModelBridge.load_weights_hf_to_megatron is not that"),
    "writing": (BRIDGE, "source_tensor = self.weight.detach()", "source_tensor = self.weight.detach() * 2", "HFWeightTuple.iter_finalized is not that"),
    "lookup": (REGISTRY, "        for pattern, mapping in self._compiled_patterns:", "        for pattern, mapping in self._compiled_patterns[::-1]:",
               "MegatronMappingRegistry.megatron_to_hf_lookup is not that"),
    "scatter": (MAPPING, "        if self.tp_rank == src_rank and splits:", "        splits = splits and splits[::-1]\n        if self.tp_rank == src_rank and splits:",
                "MegatronParamMapping.scatter_to_tp_ranks is not that"),
    "gather": (MAPPING, "        global_expert_number = extract_expert_number_from_param(self.megatron_param)\n        local_expert_number = global",
               "        global_expert_number = 1 + extract_expert_number_from_param(self.megatron_param)\n        local_expert_number = global",
               "MegatronParamMapping.gather_from_ep_ranks is not that"),
    "reading": ("models/hf_pretrained/state.py", "        loaded_tensors = {}\n", "        loaded_tensors, keys_to_load = {}, keys_to_load[::-1]\n",
                "SafeTensorsStateSource.load_tensors is not that"),
    "a method of a stock class": (MAPPING, "class QKVGMapping(", "class _Resolves:\n    pass\n\n\nQKVMapping.resolve = AutoMapping.resolve\n\n\nclass QKVGMapping(",
                                  "<statements> is new since"),
    "a new method": (MAPPING, '        """Get shard indices for the given config."""\n        ...\n',
                     '        """Get shard indices for the given config."""\n        ...\n\n    def resolve(self, captures):\n        return self\n',
                     "ChunkedMapping.resolve is new since"),
    "an import": (BRIDGE, "from megatron.core.utils import get_pg_size\n", "from megatron.core.utils import get_pg_rank as get_pg_size\n", "get_pg_size is not that"),
    "a type of module": (MAPPING, '            "RowParallelLinear",\n', '            "RowParallelLinear",\n            "OwnLinear",\n', "AutoMapping._MODULE_TYPE_REGISTRY is not that"),
    "a method of the bridge": (LLAMA, CLASS, f"{CLASS}    def _unwrap_name(self, name):\n        return name\n\n",
                               "LlamaBridge._unwrap_name stands in place of MegatronModelBridge._unwrap_name"),
    "a registry of its own": (LLAMA, "@MegatronModelBridge.register", "class Backwards(MegatronMappingRegistry):\n    def megatron_to_hf_lookup(self, name):\n"
                              "        return None\n\n\nMegatronMappingRegistry = Backwards\n\n\n@MegatronModelBridge.register", "Backwards.megatron_to_hf_lookup stands in place of"),
}
AT_WORK = {
    "replaced by the bridge's file": (LLAMA, "@MegatronModelBridge.register",
                                      "import functools\nreal = MegatronModelBridge.load_weights_hf_to_megatron\n\n\n@functools.wraps(real)\n"
                                      "def twice(self, *args):\n    real(self, *args)\n    return real(self, *args)\n\n\n"
                                      "MegatronModelBridge.load_weights_hf_to_megatron = twice\n\n\n@MegatronModelBridge.register",
                                      "MegatronModelBridge.load_weights_hf_to_megatron was replaced by what stands in"),
    "put there by the bridge's file": (LLAMA, "@MegatronModelBridge.register",
                                       "QKVMapping.gather_from_tp_ranks = lambda self, tensor: []\n\n\n@MegatronModelBridge.register",
                                       "QKVMapping.gather_from_tp_ranks was put there"),
    "an imported function": (LLAMA, "@MegatronModelBridge.register", "import megatron.bridge.models.conversion.model_bridge as library\n\n\ndef get_module_and_param_from_name(models, "
                             "param_name, vp_stage=None):\n    return None, None\n\n\nlibrary.get_module_and_param_from_name = get_module_and_param_from_name\n\n\n"
                             "@MegatronModelBridge.register", "get_module_and_param_from_name was replaced"),
    "a list that grows": (LLAMA, "        return MegatronMappingRegistry(*mapping_list)\n",
                          "        made = MegatronMappingRegistry(*mapping_list)\n        made.mappings.reverse()\n        return made\n",
                          "LlamaBridge.mapping_registry changes the list of mappings"),
    "the load hook of the base": (BRIDGE, "            hf_weights = hf_state_dict[hf_param]\n", "            hf_weights = -hf_state_dict[hf_param]\n",
                                  "maybe_modify_loaded_hf_weight of MegatronModelBridge"),
    "loading": IN_FILES["loading"], "names": IN_FILES["names"], "scatter": IN_FILES["scatter"], "a registry of its own": IN_FILES["a registry of its own"],
}


def released():
    found = subprocess.run([PYTHON, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], capture_output=True, text=True, check=True)
    return pathlib.Path(found.stdout.strip()) / "megatron" / "bridge"


@pytest.fixture
def fork(tmp_path):
    """The released library with one edit, exported; how the command ends on its rules, and what was said."""

    def made(mode, file, before, after):
        top = tmp_path / "fork" / "src" / "megatron" / "bridge"
        shutil.copytree(released(), top, copy_function=os.symlink, ignore=shutil.ignore_patterns("__pycache__"))
        text = (top / file).read_text()
        assert before in text, "the edit is one of another release"
        (top / file).unlink()
        (top / file).write_text(text.replace(before, after, 1))
        out = tmp_path / "fork.rules.json"
        done = subprocess.run([PYTHON, "-m", "bridge_verify.export", "--mode", mode, "--bridge-repo", tmp_path / "fork", "--model", MODEL, "-o", out],
                              capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONDONTWRITEBYTECODE": "1"})
        assert done.returncode == 0, done.stderr[-3000:]
        ended = subprocess.run([os.environ["BV_COMMAND"], "check", "--model", MODEL, "--rules", out], capture_output=True, text=True, timeout=300)
        return ended.returncode, " ".join((ended.stdout + ended.stderr).split()), json.loads(out.read_text())["hooks"].get("base", [])

    return made


@pytest.mark.parametrize("name", HARMLESS)
def test_an_edit_that_changes_no_code_of_the_library_changes_no_verdict(fork, name):
    code, out, base = fork("stub", *HARMLESS[name])
    assert (code, base) == (0, []), out


@pytest.mark.parametrize("name", IN_FILES)
def test_an_edit_below_the_bridges_leaves_the_run_open_and_says_where(fork, name):
    *edit, said = IN_FILES[name]
    code, out, base = fork("stub", *edit)
    assert code == 3 and said in out, out
    assert all(row["file"].startswith("megatron/bridge/models/") and row["line"] >= 1 for row in base)
    assert f"{pathlib.Path(edit[0]).name}:{base[0]['line']}" in out


@pytest.mark.parametrize("name", AT_WORK)
def test_a_library_at_work_is_held_against_its_files(fork, name):
    *edit, said = AT_WORK[name]
    code, out, _ = fork("live", *edit)
    assert code == 3 and said in out, out


def test_a_module_that_the_library_cuts_otherwise_than_megatron_is_named(fork):
    edit = ('AutoMapping._MODULE_TYPE_REGISTRY["row"].discard("TERowParallelLinear")\n'
            'AutoMapping.register_module_type("TERowParallelLinear", "column")\n\n\n@MegatronModelBridge.register')
    code, out, _ = fork("model", LLAMA, "@MegatronModelBridge.register", edit)
    assert code == 3 and "linear_proj.weight as column, and Megatron as row" in out, out
