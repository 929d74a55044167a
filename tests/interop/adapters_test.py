"""Adapters that bridge-verify writes, loaded and merged by the real PEFT: those of Megatron-Bridge's goldens put together from
the files of their ranks, and those of PEFT's goldens after a way over Megatron's ranks."""

import json

import peft
import pytest
import torch
import transformers
from safetensors import safe_open

from command import GOLDEN, run

LORA = GOLDEN / "lora"
PEFT = GOLDEN / "peft"
# Classes that this transformers has; a base that it cannot open has no test here.
AUTO = {"ForCausalLM": transformers.AutoModelForCausalLM, "ForConditionalGeneration": transformers.AutoModelForImageTextToText}


def tensors(file):
    with safe_open(file, framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


def load_base(folder, dtype):
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    cls = next(auto for suffix, auto in AUTO.items() if name.endswith(suffix))
    return cls.from_pretrained(folder, dtype=dtype)


def merged(base, adapter, dtype):
    """State dict after merge_and_unload, under the names of the checkpoint, and what PEFT said of the keys."""
    model = peft.PeftModel.from_pretrained(load_base(base, dtype), adapter)
    return model.merge_and_unload()


def packed(wanted, state):
    """Expert tensors of a checkpoint as the parameters of the class: gate and up joined, experts stacked."""
    out, experts = {}, {}
    for name, value in wanted.items():
        parts = name.split(".")
        if "experts" in parts and parts[parts.index("experts") + 1].isdigit():
            at = parts.index("experts")
            module = ".".join(parts[: at + 1])
            experts.setdefault((module, parts[at + 2]), {})[int(parts[at + 1])] = value
        else:
            out[name] = value
    for (module, projection), stack in experts.items():
        stacked = torch.stack([stack[e] for e in sorted(stack)])
        key = f"{module}.{projection}"
        if projection in ("gate_proj", "up_proj"):
            key = f"{module}.gate_up_proj"
            other = experts[(module, "up_proj" if projection == "gate_proj" else "gate_proj")]
            halves = [stacked, torch.stack([other[e] for e in sorted(other)])]
            stacked = torch.cat(halves if projection == "gate_proj" else halves[::-1], dim=1)
        out[key] = stacked
    return out


@pytest.mark.parametrize("case", sorted(path.name for path in LORA.iterdir() if path.is_dir()))
def test_megatron_adapter_is_merged_by_peft_to_the_truth(case, tmp_path):
    facts = json.loads((LORA / case / "run.json").read_text())
    base = GOLDEN / "hf" / facts["case"]
    layout = facts["layout"]
    words = ["--layout", "tp{tp}pp{pp}ep{ep}etp{etp}".format(**layout), "--alpha", int(facts["lora"]["alpha"])]
    if case.endswith("_seq"):
        words.append("--no-moe-grouped-gemm")
    run("lora", "convert", "--to", "hf", "--model", base, "--adapter", LORA / case / "megatron", "--out", tmp_path / "hf", *words)
    bf16 = facts["params_dtype"] == "BF16"
    state = merged(base, tmp_path / "hf", torch.bfloat16 if bf16 else torch.float32).state_dict()
    truth = packed(tensors(LORA / case / "truth.safetensors"), state)
    for name, wanted in truth.items():
        found = state[name].float()
        bound = 1e-2 if bf16 else 1e-6
        assert torch.allclose(found, wanted, rtol=bound, atol=bound), name


@pytest.mark.parametrize("case", ["llama_all", "partial_qv", "rslora", "dora", "qwen35_dense", "qwen35_moe_down_only",
                                  "qwen3_moe_named_targets", "gptoss_transposed"])
def test_peft_adapter_after_a_way_over_ranks_is_merged_alike(case, tmp_path):
    base = PEFT / case / "base"
    words = ["--model", base]
    run("lora", "convert", "--to", "megatron", *words, "--adapter", PEFT / case / "adapter", "--out", tmp_path / "ranks", "--tp", 2)
    run("lora", "convert", "--to", "hf", *words, "--adapter", tmp_path / "ranks", "--out", tmp_path / "hf")
    before = merged(base, PEFT / case / "adapter", torch.float32).state_dict()
    after = merged(base, tmp_path / "hf", torch.float32).state_dict()
    assert before.keys() == after.keys()
    for name, wanted in before.items():
        assert torch.equal(after[name], wanted), name
