"""What Megatron's own code says of layouts, asked of the released packages: which pipeline stages GLM-5 may have (Megatron-Core
refuses one that starts behind the indexer it needs), which sizes of a pipeline the providers of Gemma 4 build, and which rows of MiniMax-M2's key norm a rank holds where there are more
ranks than key heads. bridge-verify says the same."""

import itertools
import json
import os
import re
import subprocess

import pytest
from safetensors.torch import load_file, save_file

from bridge_environment import PACKAGE, PYTHON, needs_bridge

pytestmark = needs_bridge

STAGES = r"""
import itertools, json, sys, types
sys.path.insert(0, sys.argv[1])
from bridge_verify import stand_ins
stand_ins.install()
from megatron.core.models.gpt.experimental_attention_variant_module_specs import _validate_dsa_index_share_pipeline_split as validate
from megatron.core.transformer.experimental_attention_variant.dsa import is_dsa_skip_topk_layer as shares
from transformers import GlmMoeDsaConfig
out = []
for every, after, pp, first in json.loads(sys.argv[2]):
    kinds = GlmMoeDsaConfig(num_hidden_layers=8, index_topk_freq=every, index_skip_topk_offset=after).indexer_types
    config = types.SimpleNamespace(experimental_attention_variant="dsa", dsa_indexer_topk_freq=every, dsa_indexer_skip_topk_offset=after)
    rest = (8 - first) // (pp - 1)
    starts = [0] + [first + i * rest for i in range(pp)]
    try:
        for begin, end in itertools.pairwise(starts):
            validate(config, range(begin, end))
        legal = True
    except RuntimeError:
        legal = False
    out.append((legal, [layer for layer in range(8) if not shares(layer + 1, after, every)], [i for i, kind in enumerate(kinds) if kind == "full"]))
print("ANSWER" + json.dumps(out))
"""

STAGED = r"""
import importlib, json, sys, types
sys.path.insert(0, sys.argv[1])
from bridge_verify import stand_ins
stand_ins.install()
out = []
for module, provider, pp in json.loads(sys.argv[2]):
    known = types.SimpleNamespace(pipeline_model_parallel_size=pp, build=lambda **_: None)
    cls = getattr(importlib.import_module("megatron.bridge.models." + module), provider)
    said = ""
    try:
        cls.provide(known)
    except Exception as error:
        said = str(error)
    out.append("PP=1 only" not in said)
print("ANSWER" + json.dumps(out))
"""

NORMS = r"""
import json, sys
sys.path.insert(0, sys.argv[1])
from bridge_verify import stand_ins
stand_ins.install()
from megatron.bridge.models.minimax_m2.minimax_m2_provider import _get_k_norm_layout as layout
print("ANSWER" + json.dumps([layout(*case) for case in json.loads(sys.argv[2])]))
"""


def asked(script, cases):
    done = subprocess.run([PYTHON, "-c", script, str(PACKAGE), json.dumps(cases)], capture_output=True, text=True, timeout=1800)
    answers = [line[6:] for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    assert len(answers) == 1, done.stderr[-3000:]
    return json.loads(answers[0])


def answer(*words):
    return subprocess.run([os.environ["BV_COMMAND"], *map(str, words), "--color", "never"], capture_output=True, text=True, timeout=300)


def run(*words):
    done = answer(*words)
    return done.returncode, done.stdout + done.stderr


def write_glm5(whole, folder, every, after, layers):
    """`whole` has an indexer in each layer; the model has one in `layers`."""
    folder.mkdir()
    config = json.loads((whole / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "index_topk_freq": every, "index_skip_topk_offset": after}))
    indexer = re.compile(r"model\.layers\.(\d+)\.self_attn\.indexer\.")
    tensors = {name: tensor for file in whole.glob("*.safetensors") for name, tensor in load_file(file).items()
               if not (found := indexer.match(name)) or int(found[1]) in layers}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def refuted_layers(said):
    """Of verdicts.json: the layers of the indexers that one side alone has, where nothing else is refuted."""
    faults = [one for one in json.loads(said)["verdicts"] if one["outcome"] == "Refuted"]
    names = [name for one in faults for name in one["subject"].get("all") or one["subject"]["hf"] or [one["subject"]["megatron"]]]
    found = [re.search(r"layers\.(\d+)\.self_att.*\.indexer\.", name) for name in names]
    return {int(one[1]) for one in found} if all(found) else None


def test_stages_of_glm5_are_legal_where_megatron_builds_them(tmp_path):
    cases = [(every, after, pp, first) for every in (1, 2, 3, 4) for after in (0, 1, 2, 3) for pp in (2, 3)
             for first in (1, 2, 3, 4) if (8 - first) % (pp - 1) == 0]
    wanted, wrong = asked(STAGES, cases), []
    assert {True, False} == {legal for legal, _, _ in wanted}
    code, said = run("fixture", "make", "glm_moe_dsa", "--out", tmp_path / "whole", "--set", "num_hidden_layers=8", "--set", "indexer_types=null",
                     "--set", "index_topk_freq=1", "--set", "mlp_layer_types=null")
    assert code == 0, said
    models, apart = {}, 0
    for (every, after, pp, first), (legal, megatron, hf) in zip(cases, wanted):
        model = models.setdefault((every, after), tmp_path / f"{every}-{after}")
        if not model.exists():
            write_glm5(tmp_path / "whole", model, every, after, hf)
        check = ("check", "--model", model, "--only", "names", "--pp", pp, "--decoder-first-pipeline-num-layers", first)
        code, said = run(*check)
        differ = set(hf) ^ set(megatron)
        apart += bool(differ)
        if differ:  # no layout is judged of a model that Megatron cannot hold
            right = code == 1 and refuted_layers(answer(*check, "--json").stdout) == differ
        else:
            right = code == 0 if legal else code == 2 and "starts on layer" in said
        if not right:
            wrong.append(f"every {every} after {after} pp {pp} first {first}: Megatron {legal} {megatron}, transformers {hf}, here {code} {said[-1500:]}")
    assert not wrong, "\n".join(wrong)
    assert apart > 0  # index_skip_topk_offset 0: transformers shares from the first layer on, Megatron from the second


def test_pipelines_are_legal_where_their_providers_build_them(tmp_path):
    """Gemma 4 without experts and with them, in one stage and in two; the VL classes build their language models by these."""
    providers = {"gemma4_text": "Gemma4DenseProvider", "gemma4_text/experts": "Gemma4ModelProvider"}
    cases = [(fixture, pp) for fixture in providers for pp in (1, 2)]
    wanted = asked(STAGED, [("gemma.gemma4_provider", providers[fixture], pp) for fixture, pp in cases])
    assert wanted == [True, False, True, True]
    for (fixture, pp), legal in zip(cases, wanted):
        model = tmp_path / fixture.replace("/", "-")
        if not model.exists():
            code, said = run("fixture", "make", fixture, "--out", model)
            assert code == 0, said
        code, said = run("check", "--model", model, "--only", "names", "--pp", pp)
        assert (code == 0) == legal and (legal or "built in one pipeline stage" in said), (fixture, pp, code, said[-600:])


KEY_HEADS, TP_SIZES = [1, 2, 4], [1, 2, 4, 8]


@pytest.fixture(scope="module")
def norms_of_the_bridge():
    """Of each number of key heads, one row a TP size; the bridge is imported once."""
    rows = iter(asked(NORMS, [(heads, 10, tp) for heads in KEY_HEADS for tp in TP_SIZES]))
    return {heads: list(itertools.islice(rows, len(TP_SIZES))) for heads in KEY_HEADS}


@pytest.mark.parametrize("heads", KEY_HEADS)
def test_key_norms_of_minimax_m2_lie_as_the_bridge_cuts_them(heads, norms_of_the_bridge, tmp_path):
    model = tmp_path / "model"
    code, said = run("fixture", "make", "minimax_m2", "--out", model, "--set", f"num_key_value_heads={heads}", "--set", "vocab_size=128")
    assert code == 0, said
    whole = {}
    for file in model.glob("*.safetensors"):
        whole.update(load_file(file))
    norms = {name: tensor for name, tensor in whole.items() if name.endswith("self_attn.k_norm.weight")}
    for tp, (local, _, shards) in zip(TP_SIZES, norms_of_the_bridge[heads], strict=True):
        out = tmp_path / f"tp{tp}"
        code, said = run("convert", "--to", "megatron", "--model", model, "--out", out, "--tp", tp, "--etp", 1)
        rows = (8 + 2 * heads) * 10
        if rows % tp != 0:  # ColumnParallelLinear of linear_qkv divides its rows by TP (megatron/core/utils.py, divide)
            assert code == 5 and f"TP={tp} does not divide the {rows} rows of self_attention.linear_qkv" in " ".join(said.split())
            continue
        assert code == 0, said
        for rank in range(tp):
            shard = load_file(next(out.glob(f"pp0_tp{rank}_ep0_etp0.safetensors")))
            first = rank // (tp // shards) * local  # _FullDimQKNormMapping: shard_rank * shard_size
            for name, tensor in norms.items():
                layer = name.split(".")[2]
                found = shard[f"decoder.layers.{layer}.self_attention.k_layernorm.weight"]
                assert (found == tensor[first:first + local]).all(), (tp, rank, name)
        code, said = run("convert", "--to", "hf", "--model", out, "--out", tmp_path / f"back{tp}")
        assert code == 0, said
        back = {name: tensor for file in (tmp_path / f"back{tp}").glob("*.safetensors") for name, tensor in load_file(file).items()}
        assert all((back[name] == tensor).all() for name, tensor in norms.items())
