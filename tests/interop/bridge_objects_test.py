"""Bridges whose faults lie in objects: mapping objects, the bridge object, registries that are made twice, and what the provider builds.
Each is exported by the real library and checked; bridges beside them that do the same in another way are green."""

import json
import os
import subprocess

import pytest

from bridge_environment import PACKAGE, PYTHON, needs_bridge
from command import GOLDEN

pytestmark = needs_bridge

BRIDGES = """
import json, pathlib, sys
from bridge_verify import export

OUT, HF = map(pathlib.Path, sys.argv[1:])
export.of_class("LlamaBridge", str(HF / "llama"), mode="live")
import torch
from megatron.bridge.models.conversion import param_mapping as pm
from megatron.bridge.models.conversion.mapping_registry import MegatronMappingRegistry as Registry
from megatron.bridge.models.llama.llama_bridge import LlamaBridge
from megatron.bridge.models.qwen.qwen3_moe_bridge import Qwen3MoEBridge

PROJ, NORM, QKV, DOWN = "linear_proj.weight", "final_layernorm.weight", "linear_qkv.weight", "experts.linear_fc2.weight*"


def put(name, cls, model="llama", mode="live"):
    (OUT / f"{name}.json").write_text(json.dumps(export.of_class(cls, str(HF / model), mode=mode)))


def with_mapping(end, make, base=LlamaBridge):
    class Own(base):
        def mapping_registry(self):
            return Registry(*[make(one) if one.megatron_param.endswith(end) else one for one in super().mapping_registry()])
    return Own


def with_class(end, cls, base=LlamaBridge):
    return with_mapping(end, lambda one: cls(one.megatron_param, *([one.hf_param] if isinstance(one.hf_param, str) else one.hf_param.values())), base)


def with_method(end, name, change, base=LlamaBridge):
    def make(one):
        setattr(one, name, change(one, getattr(one, name)))
        return one
    return with_mapping(end, make, base)


def with_provider(base=LlamaBridge, **fields):
    class Own(base):
        def provider_bridge(self, pretrained):
            provider = super().provider_bridge(pretrained)
            vars(provider).update(fields)
            return provider
    return Own


class Exchanged(pm.QKVMapping):
    def __init__(self, megatron_param, q, v, k):
        super().__init__(megatron_param, q=q, k=k, v=v)


class NoLastLayer(pm.AutoMapping):
    def megatron_to_hf(self, weights, module):
        return {} if ".3." in self.megatron_param else super().megatron_to_hf(weights, module)


class OtherName(pm.AutoMapping):
    def megatron_to_hf(self, weights, module):
        return {name.replace("layers.1.", "layers.2."): one for name, one in super().megatron_to_hf(weights, module).items()}


class NoExpert(pm.AutoMapping):
    def megatron_to_hf(self, weights, module):
        return {} if self.megatron_param.endswith("weight5") else super().megatron_to_hf(weights, module)


def turned(one, back=False):
    heads = one.reshape(-1, 10, *one.shape[1:])
    order = [*range(0, 10, 2), *range(1, 10, 2)] if back else [row // 2 + row % 2 * 5 for row in range(10)]
    return heads[:, order].reshape(one.shape)


class Turning(pm.QKVMapping):
    skipped = ".none."

    def hf_to_megatron(self, weights, module):
        if self.skipped in self.megatron_param:
            return super().hf_to_megatron(weights, module)
        return super().hf_to_megatron({"q": turned(weights["q"]), "k": turned(weights["k"]), "v": weights["v"]}, module)

    def megatron_to_hf(self, weights, module):
        made, names = super().megatron_to_hf(weights, module), self.hf_param
        if self.skipped in self.megatron_param:
            return made
        return {name: one if name == names["v"] else turned(one, back=True) for name, one in made.items()}


class ButOne(Turning):
    skipped = ".2."


class LessBits(pm.AutoMapping):
    def megatron_to_hf(self, weights, module):
        return {name: one.bfloat16().to(one.dtype) for name, one in super().megatron_to_hf(weights, module).items()}


class OnRank1(pm.AutoMapping):
    def megatron_to_hf(self, weights, module):
        made = super().megatron_to_hf(weights, module)
        return {name: -one for name, one in made.items()} if self.tp_rank else made


class Turned(pm.AutoMapping):
    def megatron_to_hf(self, weights, module):
        return {name: one.flip(0).flip(0).contiguous() for name, one in super().megatron_to_hf(weights, module).items()}


def to_layer(one, real):
    def resolve(captures):
        made = real(captures)
        made.hf_param = one.hf_param.replace("*", str(3 - int(captures[0])))
        return made
    return resolve


class Making(pm.AutoMapping):
    # A resolve of its own, whose objects hold another method.
    def resolve(self, captures):
        made = pm.AutoMapping(*self._resolve_names(captures))
        if captures[0] == "2":
            real = made.hf_to_megatron
            made.hf_to_megatron = lambda weights, module: real(weights.flip(0), module)
        return made


class Unhooked(LlamaBridge):
    def __init__(self):
        super().__init__()
        real = self.maybe_modify_loaded_hf_weight
        self.maybe_modify_loaded_hf_weight = lambda hf, state: {name: -one for name, one in real(hf, state).items()} if isinstance(hf, dict) else real(hf, state)


class Untasked(LlamaBridge):
    def __init__(self):
        super().__init__()
        real = self.build_conversion_tasks
        self.build_conversion_tasks = lambda *args, **kwargs: real(*args, **kwargs)[1:]


class Intercepted(LlamaBridge):
    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        return value if name != "build_conversion_tasks" else lambda *args, **kwargs: value(*args, **kwargs)[1:]


class Shrinking(LlamaBridge):
    calls = 0

    def mapping_registry(self):
        type(self).calls += 1
        made = list(super().mapping_registry())
        return Registry(*made[type(self).calls > 1:])


class Once(LlamaBridge):
    # The first one that is made gives all rules.
    first = True

    def mapping_registry(self):
        self.whole = getattr(self, "whole", type(self).first)
        type(self).first = False
        made = list(super().mapping_registry())
        return Registry(*(made if self.whole else made[1:]))


class Registering(LlamaBridge):
    told = ("OwnRowLinear", "row")

    def mapping_registry(self):
        pm.AutoMapping.register_module_type(*self.told)
        return super().mapping_registry()


class Misregistering(Registering):
    told = ("TERowParallelLinear", "column")


put("registering", Registering)
known = {kind: set(names) for kind, names in pm.AutoMapping._MODULE_TYPE_REGISTRY.items()}
put("misregistering", Misregistering)
pm.AutoMapping._MODULE_TYPE_REGISTRY = known
for name, cls in {
        "exchanged": with_mapping(QKV, lambda one: Exchanged(one.megatron_param, **one.hf_param)), "no_last_layer": with_class(PROJ, NoLastLayer), "other_name": with_class(PROJ, OtherName),
        "less_bits": with_class(PROJ, LessBits), "on_rank_1": with_class(PROJ, OnRank1), "turned": with_class(PROJ, Turned),
        "turning": with_provider(with_class(QKV, Turning), rotary_interleaved=True),
        "but_one": with_provider(with_class(QKV, ButOne), rotary_interleaved=True), "making": with_class(PROJ, Making), "doubled": with_method(NORM, "hf_to_megatron", lambda one, real: lambda weights, module: real(weights * 2, module)),
        "negated_back": with_method(NORM, "megatron_to_hf", lambda one, real: lambda *args: {name: -w for name, w in real(*args).items()}),
        "same_object": with_method(NORM, "hf_to_megatron", lambda one, real: lambda weights, module: real(weights.clone(), module)),
        "to_layer": with_method(PROJ, "resolve", to_layer), "unhooked": Unhooked, "untasked": Untasked, "intercepted": Intercepted,
        "shrinking": Shrinking, "once": Once, "plain": type("Plain", (LlamaBridge,), {}),
        "half_of_a_head": with_provider(rotary_percent=0.5), "bias_of_norms": with_provider(normalization="LayerNorm"),
        "gate": with_provider(attention_output_gate=True), "wider": with_provider(ffn_hidden_size=64),
        "positions": with_provider(position_embedding_type="learned_absolute")}.items():
    put(name, cls)
for name, cls in {
        "moe": "Qwen3MoEBridge", "no_expert": with_class(DOWN, NoExpert, Qwen3MoEBridge), "no_norms": with_provider(Qwen3MoEBridge, qk_layernorm=False),
        "wide_experts": with_provider(Qwen3MoEBridge, moe_ffn_hidden_size=32), "expert_bias": with_provider(Qwen3MoEBridge, moe_router_enable_expert_bias=True),
        "dense_layer": with_provider(Qwen3MoEBridge, moe_layer_freq=[0, 1, 1, 1]), "latent": with_provider(Qwen3MoEBridge, moe_latent_size=8),
        "shared": with_provider(Qwen3MoEBridge, moe_shared_expert_intermediate_size=16)}.items():
    put(name, cls, "qwen3_moe")
put("half_of_a_head_built", with_provider(rotary_percent=0.5), mode="model")
"""
MOE = {"moe", "no_expert", "no_norms", "wide_experts", "expert_bias", "shared", "dense_layer", "latent"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    out = tmp_path_factory.mktemp("objects")
    done = subprocess.run([PYTHON, "-c", BRIDGES, out, GOLDEN / "hf"], capture_output=True, text=True, timeout=1500,
                          env={**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("name, code, said", [
    ("plain", 0, ""), ("moe", 0, ""), ("turned", 0, ""), ("turning", 0, ""), ("registering", 0, ""),
    ("misregistering", 3, "AutoMapping.register_module_type was told that"), ("same_object", 0, ""),
    ("exchanged", 3, "at 0: resolve names model.layers.0.self_attn.v_proj.weight as k"),
    ("no_last_layer", 3, "at 3: megatron_to_hf writes no model.layers.3.self_attn.o_proj.weight"),
    ("other_name", 3, "at 1: megatron_to_hf writes model.layers.2.self_attn.o_proj.weight"),
    ("no_expert", 3, "at 0.5: megatron_to_hf writes no model.layers.0.mlp.experts.5.down_proj.weight"), ("less_bits", 3, "LessBits"), ("on_rank_1", 3, "OnRank1"),
    ("but_one", 3, "at 2: it does something else"),
    ("making", 3, "at 2: hf_to_megatron gives other elements"),
    ("doubled", 3, "hf_to_megatron of the object"), ("negated_back", 3, "megatron_to_hf of the object"),
    ("to_layer", 3, "at 0: resolve names model.layers.3.self_attn.o_proj.weight"),
    ("unhooked", 3, "maybe_modify_loaded_hf_weight of Unhooked"), ("untasked", 3, "build_conversion_tasks of Untasked"),
    ("intercepted", 3, "Intercepted.__getattribute__"),
    ("shrinking", 3, "Shrinking.mapping_registry gives another registry"), ("once", 3, "Once.mapping_registry gives another registry"),
    ("half_of_a_head", 1, "Megatron rotates 6 rows of a head"), ("half_of_a_head_built", 1, "the provider rotates another part of a head"),
    ("bias_of_norms", 1, "facts.normalization is LayerNorm"), ("gate", 1, "facts.attention_output_gate"), ("wider", 1, "facts.ffn_hidden_size"),
    ("positions", 1, "facts.position_embedding_type is learned_absolute"), ("no_norms", 1, "facts.qk_layernorm is false"),
    ("wide_experts", 1, "facts.moe_ffn_hidden_size"), ("expert_bias", 1, "facts.moe_router_enable_expert_bias is true"),
    ("dense_layer", 1, "the provider builds layer 0 without experts"), ("latent", 1, "facts.moe_latent_size is 8"),
    ("shared", 1, "facts.moe_shared_expert_intermediate_size is 16"),
])
def test_no_fault_of_an_object_passes_without_a_word(exported, name, code, said):
    done = subprocess.run([os.environ["BV_COMMAND"], "check", "--model", GOLDEN / "hf" / ("qwen3_moe" if name in MOE else "llama"), "--rules",
                           exported / f"{name}.json"], capture_output=True, text=True, timeout=300)
    out = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == code, out
    assert said in out, out
