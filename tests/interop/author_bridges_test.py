"""Bridges of an author: subclasses of the real ones with one fault each, exported by the real library and checked."""

import json
import os
import subprocess

import pytest

from bridge_environment import PACKAGE, PYTHON, needs_bridge
from command import GOLDEN

pytestmark = needs_bridge

AUTHORS = """
import json, pathlib, sys
from bridge_verify import export

OUT, MODEL = map(pathlib.Path, sys.argv[1:])


def put(name, cls, **options):
    content = export.of_class(cls, str(MODEL), **{"mode": "live", **options})
    (OUT / f"{name}.rules.json").write_text(json.dumps(content))


put("twin", "LlamaBridge")
from megatron.bridge.models.conversion import param_mapping as pm
from megatron.bridge.models.conversion.mapping_registry import MegatronMappingRegistry
from megatron.bridge.models.llama.llama_bridge import LlamaBridge


def with_qkv(cls):
    class Own(LlamaBridge):
        def mapping_registry(self):
            return MegatronMappingRegistry(*[cls(one.megatron_param, **one.hf_param) if isinstance(one, pm.QKVMapping) else one
                                             for one in super().mapping_registry().mappings])
    return Own


class QKVMapping(pm.QKVMapping):
    def hf_to_megatron(self, weights, module):
        return super().hf_to_megatron({"q": weights["q"], "k": weights["v"], "v": weights["k"]}, module)


class Back(pm.QKVMapping):
    def megatron_to_hf(self, weights, module):
        made, names = super().megatron_to_hf(weights, module), self.hf_param
        return {names["q"]: made[names["q"]], names["k"]: made[names["v"]], names["v"]: made[names["k"]]} if made else made


class Same(pm.QKVMapping):
    def megatron_to_hf(self, weights, module):
        return dict(super().megatron_to_hf(weights, module))


class Rotated(LlamaBridge):
    def provider_bridge(self, pretrained):
        provider = super().provider_bridge(pretrained)
        provider.rotary_interleaved = True
        return provider


class Offsets(LlamaBridge):
    def provider_bridge(self, pretrained):
        provider = super().provider_bridge(pretrained)
        provider.layernorm_zero_centered_gamma = True
        return provider


class Flipped(LlamaBridge):
    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        made = super().maybe_modify_converted_hf_weight(task, made, state)
        return {name: one.flip(0) if name.endswith("o_proj.weight") else one for name, one in made.items()}


class Idle(LlamaBridge):
    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        return {name: one * 1 for name, one in made.items()}


class Load(LlamaBridge):
    def load_weights_hf_to_megatron(self, *args, **kwargs):
        return super().load_weights_hf_to_megatron(*args, **kwargs)


class Stream(LlamaBridge):
    def stream_weights_megatron_to_hf(self, *args, **kwargs):
        for one in super().stream_weights_megatron_to_hf(*args, **kwargs):
            yield one._replace(weight=one.weight * 2)


class InPlace(LlamaBridge):
    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        for name, one in made.items():
            if name.endswith("o_proj.weight"):
                one.neg_()
        return made


class LoadedInPlace(LlamaBridge):
    def maybe_modify_loaded_hf_weight(self, hf, state):
        if hf == "model.norm.weight":
            state[hf].add_(1)
        return super().maybe_modify_loaded_hf_weight(hf, state)


def turned(one, back=False):
    heads = one.reshape(-1, 10, *one.shape[1:])
    order = [*range(0, 10, 2), *range(1, 10, 2)] if back else [row // 2 + row % 2 * 5 for row in range(10)]
    return heads[:, order].reshape(one.shape)


class Turning(pm.QKVMapping):
    def hf_to_megatron(self, weights, module):
        return super().hf_to_megatron({"q": turned(weights["q"]), "k": turned(weights["k"]), "v": weights["v"]}, module)

    def megatron_to_hf(self, weights, module):
        made, names = super().megatron_to_hf(weights, module), self.hf_param
        return {name: one if name == names["v"] else turned(one, back=True) for name, one in made.items()}


class ForgotBack(Turning):
    megatron_to_hf = pm.QKVMapping.megatron_to_hf


class TurnedHook(Rotated):
    # As the first weights of Llama are read: by hooks, in place of a mapping class.
    def maybe_modify_loaded_hf_weight(self, hf, state):
        made = super().maybe_modify_loaded_hf_weight(hf, state)
        if not isinstance(hf, dict) or set(hf) != {"q", "k", "v"}:
            return made
        return {role: one if role == "v" else turned(one) for role, one in made.items()}

    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        return {name: turned(one, back=True) if name.endswith(("q_proj.weight", "k_proj.weight")) else one for name, one in made.items()}


class TurnedOneWay(TurnedHook):
    maybe_modify_converted_hf_weight = LlamaBridge.maybe_modify_converted_hf_weight


def with_rotation(cls):
    class Own(with_qkv(cls), Rotated):
        pass
    return Own


class Unbuilt(LlamaBridge):
    def provider_bridge(self, pretrained):
        provider = super().provider_bridge(pretrained)
        provider.normalization = "NoSuchNorm"
        return provider


class OtherHeads(LlamaBridge):
    def provider_bridge(self, pretrained):
        provider = super().provider_bridge(pretrained)
        provider.num_attention_heads, provider.num_query_groups, provider.kv_channels = 4, 2, 20  # tensors of the same shapes
        return provider


for name, cls in {"same_name": with_qkv(QKVMapping), "back": with_qkv(Back), "same": with_qkv(Same), "rotated": Rotated,
                  "offsets": Offsets, "flipped": Flipped, "idle": Idle, "load": Load, "stream": Stream, "in_place": InPlace, "other_heads": OtherHeads,
                  "loaded_in_place": LoadedInPlace, "turning": with_rotation(Turning), "turning_needlessly": with_qkv(Turning),
                  "forgot_back": with_rotation(ForgotBack), "turned_hook": TurnedHook, "turned_one_way": TurnedOneWay}.items():
    put(name, cls)
put("unbuilt", Unbuilt, mode="model")
real = pm.merge_qkv_weights
pm.merge_qkv_weights = lambda provider, q, k, v: real(provider, q, v, k)
put("fork", LlamaBridge)
pm.merge_qkv_weights = real
MODEL = MODEL.parent / "qwen3_vl_moe"
put("experts", "Qwen3VLMoEBridge")
for cls in (pm.FusedExpertMapping, pm.FusedGatedExpertMapping):
    real = cls.hf_to_megatron
    cls.hf_to_megatron = lambda self, weights, module, real=real: real(self, weights.flip(0), module)
    put(f"fork_of_{cls.__name__}", "Qwen3VLMoEBridge")
    cls.hf_to_megatron = real
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    out = tmp_path_factory.mktemp("authors")
    done = subprocess.run([PYTHON, "-c", AUTHORS, out, GOLDEN / "hf" / "llama"], capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("name, code, said", [
    ("twin", 0, ""), ("same", 0, ""), ("idle", 0, ""),
    ("same_name", 3, "QKVMapping, which is not known here"),
    ("back", 3, "Back, which is not known here"),
    ("rotated", 1, "Megatron rotates neighbouring rows"),
    ("offsets", 1, "facts.layernorm_zero_centered_gamma is true"),
    ("turning", 0, ""), ("turned_hook", 0, ""),
    ("turning_needlessly", 1, "elements are in the wrong place"),
    ("forgot_back", 3, "ForgotBack, which is not known here"),
    ("turned_one_way", 3, "maybe_modify_converted_hf_weight of"),
    ("in_place", 3, "maybe_modify_converted_hf_weight of InPlace"),
    ("loaded_in_place", 3, "maybe_modify_loaded_hf_weight of LoadedInPlace"),
    ("flipped", 3, "maybe_modify_converted_hf_weight of Flipped"),
    ("load", 3, "load_weights_hf_to_megatron of Load"),
    ("stream", 3, "stream_weights_megatron_to_hf of Stream"),
    ("other_heads", 1, "facts.num_attention_heads is 4"),
    ("unbuilt", 3, "the Megatron model cannot be built"),
    ("fork", 3, "QKVMapping was seen to do something else"),
])
def test_no_fault_of_an_author_passes_without_a_word(exported, name, code, said):
    done = subprocess.run([os.environ["BV_COMMAND"], "check", "--model", GOLDEN / "hf" / "llama", "--rules",
                           exported / f"{name}.rules.json"], capture_output=True, text=True, timeout=300)
    out = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == code, out
    assert said in out, out


@pytest.mark.parametrize("name, code, said", [
    ("experts", 0, ""), ("fork_of_FusedExpertMapping", 3, "FusedExpertMapping was seen to do something else"),
    ("fork_of_FusedGatedExpertMapping", 3, "FusedGatedExpertMapping was seen to do something else")])
def test_a_fork_that_takes_other_experts_is_named(exported, name, code, said):
    done = subprocess.run([os.environ["BV_COMMAND"], "check", "--model", GOLDEN / "hf" / "qwen3_vl_moe", "--rules",
                           exported / f"{name}.rules.json"], capture_output=True, text=True, timeout=300)
    out = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == code, out
    assert said in out, out


def test_a_hook_is_named_for_the_rules_that_it_changes_alone(exported):
    content = json.loads((exported / "flipped.rules.json").read_text())
    changed = {rule["megatron"] for rule in content["rules"] if rule["id"] in content["hooks"]["exports"]}
    assert changed == {"decoder.layers.*.self_attention.linear_proj.weight"}
    assert json.loads((exported / "idle.rules.json").read_text())["hooks"]["exports"] == []
