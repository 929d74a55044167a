"""What Megatron's own code says of layouts, asked of the released packages: which pipeline stages GLM-5 may have (Megatron-Core
refuses one that starts behind the indexer it needs), which sizes of a pipeline the providers of Gemma 4 build, and which rows of MiniMax-M2's key norm a rank holds where there are more
ranks than key heads. bridge-verify says the same."""

import json
import os
import subprocess

import pytest
from safetensors.torch import load_file

from bridge_environment import PACKAGE, PYTHON, needs_bridge

pytestmark = needs_bridge

STAGES = r"""
import itertools, json, sys, types
sys.path.insert(0, sys.argv[1])
from bridge_verify import stand_ins
stand_ins.install()
from megatron.core.models.gpt.experimental_attention_variant_module_specs import _validate_dsa_index_share_pipeline_split as validate
out = []
for every, after, pp, first in json.loads(sys.argv[2]):
    config = types.SimpleNamespace(experimental_attention_variant="dsa", dsa_indexer_topk_freq=every, dsa_indexer_skip_topk_offset=after)
    rest = (8 - first) // (pp - 1)
    starts = [0] + [first + i * rest for i in range(pp)]
    try:
        for begin, end in itertools.pairwise(starts):
            validate(config, range(begin, end))
        out.append(True)
    except RuntimeError:
        out.append(False)
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
    done = subprocess.run([PYTHON, "-c", script, str(PACKAGE), json.dumps(cases)], capture_output=True, text=True, timeout=600)
    answers = [line[6:] for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    assert len(answers) == 1, done.stderr[-3000:]
    return json.loads(answers[0])


def run(*words):
    done = subprocess.run([os.environ["BV_COMMAND"], *map(str, words), "--color", "never"], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_stages_of_glm5_are_legal_where_megatron_builds_them(tmp_path):
    cases = [(every, after, pp, first) for every in (1, 2, 3, 4) for after in (0, 1, 2, 3) for pp in (2, 3)
             for first in (1, 2, 3, 4) if (8 - first) % (pp - 1) == 0]
    wanted, wrong = asked(STAGES, cases), []
    assert {True, False} == set(wanted)
    models = {}
    for (every, after, pp, first), legal in zip(cases, wanted):
        model = models.setdefault((every, after), tmp_path / f"{every}-{after}")
        if not model.exists():
            code, said = run("fixture", "make", "glm_moe_dsa", "--out", model, "--set", "num_hidden_layers=8", "--set", "indexer_types=null",
                             "--set", f"index_topk_freq={every}", "--set", f"index_skip_topk_offset={after}", "--set", "mlp_layer_types=null")
            assert code == 0, said
        code, said = run("check", "--model", model, "--only", "names", "--pp", pp, "--decoder-first-pipeline-num-layers", first)
        if (code == 0) != legal or (not legal and "starts on layer" not in said):
            wrong.append(f"every {every} after {after} pp {pp} first {first}: Megatron {legal}, here {code} {said[-400:]}")
    assert not wrong, "\n".join(wrong)


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


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_key_norms_of_minimax_m2_lie_as_the_bridge_cuts_them(heads, tmp_path):
    tp_sizes = [1, 2, 4, 8]
    wanted = asked(NORMS, [(heads, 10, tp) for tp in tp_sizes])
    model = tmp_path / "model"
    code, said = run("fixture", "make", "minimax_m2", "--out", model, "--set", f"num_key_value_heads={heads}", "--set", "vocab_size=128")
    assert code == 0, said
    whole = {}
    for file in model.glob("*.safetensors"):
        whole.update(load_file(file))
    norms = {name: tensor for name, tensor in whole.items() if name.endswith("self_attn.k_norm.weight")}
    for tp, (local, _, shards) in zip(tp_sizes, wanted):
        out = tmp_path / f"tp{tp}"
        code, said = run("convert", "--to", "megatron", "--model", model, "--out", out, "--tp", tp, "--etp", 1)
        assert code == 0, said
        for rank in range(tp):
            shard = load_file(next(out.glob(f"pp0_tp{rank}_ep0_etp0.safetensors")))
            first = rank // (tp // shards) * local  # _FullDimQKNormMapping: shard_rank * shard_size
            for name, tensor in norms.items():
                layer = name.split(".")[2]
                found = shard[f"decoder.layers.{layer}.self_attention.k_layernorm.weight"]
                assert (found == tensor[first:first + local]).all(), (tp, rank, name)
        code, said = run("convert", "--to", "hf", "--megatron", out, "--out", tmp_path / f"back{tp}")
        assert code == 0, said
