"""Megatron-Core's own layers (--transformer-impl local) load what convert --to torch_dist writes for them, strictly, with the
file that bridge-verify puts beside the tensors; and hold then what a folder of shards holds."""

import json
import os
import subprocess

import pytest

from bridge_environment import PYTHON, needs_bridge
from command import GOLDEN

pytestmark = needs_bridge

LOAD = r"""
import json, os, sys
sys.modules["transformer_engine"] = None  # its compiled half needs CUDA; these layers do without
sys.modules["modelopt"] = None
import torch
import torch.distributed as dist
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
from megatron.core import dist_checkpointing, parallel_state
parallel_state.initialize_model_parallel()
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer import TransformerConfig
from safetensors.torch import load_file

config, checkpoint, shard = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
experts = config.get("num_experts") or config.get("num_local_experts")
qk = config["model_type"].startswith("qwen3")
more = dict(num_moe_experts=experts, moe_ffn_hidden_size=config["moe_intermediate_size"]) if experts else {}
transformer = TransformerConfig(
    num_layers=config["num_hidden_layers"], hidden_size=config["hidden_size"],
    num_attention_heads=config["num_attention_heads"], num_query_groups=config["num_key_value_heads"],
    kv_channels=config["head_dim"], ffn_hidden_size=config["intermediate_size"], normalization="RMSNorm",
    qk_layernorm=qk, gated_linear_unit=True, activation_func=torch.nn.functional.silu, add_bias_linear=False,
    use_cpu_initialization=True, perform_initialization=False, params_dtype=getattr(torch, sys.argv[4]), **more)
spec = get_gpt_layer_local_spec(num_experts=experts, moe_grouped_gemm=False, qk_layernorm=qk, normalization="RMSNorm")
model = GPTModel(transformer, spec, vocab_size=config["vocab_size"], max_sequence_length=64,
                 share_embeddings_and_output_weights=config["tie_word_embeddings"], position_embedding_type="rope")
for parameter in model.parameters():
    parameter.data.fill_(float("nan"))
loaded = dist_checkpointing.load(model.sharded_state_dict(), checkpoint, strict="raise_all")
for key in ("checkpoint_version", "iteration", "content_metadata"):
    loaded.pop(key)
model.load_state_dict(loaded)
wanted = load_file(shard)
found = dict(model.named_parameters())
assert set(found) == set(wanted), sorted(set(found) ^ set(wanted))
for name, parameter in found.items():
    assert torch.equal(parameter.data, wanted[name].to(parameter.dtype)), name
print(len(found), "parameters")
"""


@pytest.mark.parametrize("case", ["llama", "qwen3", "qwen3_moe"])
def test_megatron_loads_what_is_written_for_its_own_layers(case, tmp_path):
    model = GOLDEN / "hf" / case
    config = json.loads((model / "config.json").read_text())
    for form in ("torch_dist", "megatron"):
        ended = subprocess.run([os.environ["BV_COMMAND"], "convert", "--to", form, "--model", model, "--transformer-impl", "local",
                                "--no-moe-grouped-gemm", "--out", tmp_path / form], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
    iteration = tmp_path / "torch_dist/iter_0000000"
    assert json.loads((iteration / "bridge-verify.json").read_text())["spelling"]["transformer_impl"] == "local"
    shard = tmp_path / "megatron/pp0_tp0_ep0_etp0.safetensors"
    dtype = str(config.get("torch_dtype") or config.get("dtype") or "float32")
    loaded = subprocess.run([PYTHON, "-c", LOAD, json.dumps(config), str(iteration), str(shard), dtype],
                            capture_output=True, text=True, timeout=1800, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert loaded.returncode == 0, loaded.stderr[-3000:]
    assert loaded.stdout.endswith("parameters\n")
