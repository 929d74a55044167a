"""Adapters that bridge-verify writes, loaded and merged by the real PEFT: those of Megatron-Bridge's goldens put together from
the files of their ranks, and those of PEFT's goldens after a way over Megatron's ranks."""

import json
import os
import re
import subprocess

import peft
import pytest
import torch
import transformers
from safetensors import safe_open

from command import GOLDEN, run, run_failing

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


SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=8, pad_token_id=None)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, tie_word_embeddings=False)
# What PEFT trains and loads beside pairs on linear layers: the class, its sizes, the config, and how a merge ends.
FORMS = {
    "tied output layer": ("Llama", dict(tie_word_embeddings=True), dict(target_modules=["q_proj", "lm_head"]), "--untie"),
    "tied output layer alone": ("Llama", dict(tie_word_embeddings=True), dict(target_modules=["lm_head"]), "--untie"),
    "tied output layer, trained": ("Llama", dict(tie_word_embeddings=True), dict(target_modules=["q_proj"], modules_to_save=["lm_head"]), "--untie"),
    "both of a tie": ("Llama", dict(tie_word_embeddings=True), dict(target_modules=["embed_tokens", "lm_head"]), "--untie"),
    "lora_bias without a bias": ("Llama", dict(tie_word_embeddings=False), dict(target_modules=["q_proj"], lora_bias=True), "BV4012"),
    "lora_bias": ("Llama", dict(tie_word_embeddings=False, attention_bias=True), dict(target_modules=["q_proj"], lora_bias=True), ""),
    "lora_bias, lora_only": ("Llama", dict(tie_word_embeddings=False, attention_bias=True),
                             dict(target_modules=["q_proj"], lora_bias=True, bias="lora_only"), ""),
    "lora_bias, all": ("Llama", dict(tie_word_embeddings=False, attention_bias=True),
                       dict(target_modules=["q_proj"], lora_bias=True, bias="all"), ""),
    "DoRA on the embedding": ("Llama", dict(tie_word_embeddings=False), dict(target_modules=["q_proj", "embed_tokens"], use_dora=True), ""),
    "DoRA on a tied embedding": ("Llama", dict(tie_word_embeddings=True), dict(target_modules=["embed_tokens"], use_dora=True), "--untie"),
    "DoRA on the output layer": ("Llama", dict(tie_word_embeddings=True), dict(target_modules=["lm_head"], use_dora=True), "--untie"),
    "a packed parameter": ("Qwen3Moe", EXPERTS, dict(target_modules=["q_proj"], target_parameters=["experts.gate_up_proj"]), ""),
    "all-linear": ("Qwen3Moe", EXPERTS, dict(target_modules="all-linear"), ""),
}


def trained(form, folder):
    """The base and an adapter that PEFT wrote, loaded again from the disk."""
    name, sizes, targets, _ = FORMS[form]
    cls = getattr(transformers, f"{name}ForCausalLM")
    torch.manual_seed(0)
    base = cls(cls.config_class(**{**SIZES, **sizes}))
    base.save_pretrained(folder / "base")
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=2, **targets))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * 0.1
    model.save_pretrained(folder / "adapter")
    return cls, peft.PeftModel.from_pretrained(cls.from_pretrained(folder / "base", dtype=torch.float32), folder / "adapter")


def judged_right(*words):
    """What lora check says: nothing is refuted, though Megatron may have no such adapter."""
    done = subprocess.run([os.environ["BV_COMMAND"], "lora", "check", *map(str, words)], capture_output=True, text=True)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode in (0, 3) and " refuted 0 " in said, said
    assert done.returncode == 0 or set(re.findall(r"BV\d{4}", said)) == {"BV4012"}, said
    return said


@pytest.mark.parametrize("form", FORMS)
def test_what_peft_loads_is_judged_and_merged(form, tmp_path):
    cls, model = trained(form, tmp_path)
    words = ["--model", tmp_path / "base", "--adapter", tmp_path / "adapter"]
    said = judged_right(*words)
    assert "matches nothing" not in said and "starts them at zero" not in said, said
    ending = FORMS[form][3]
    if ending.startswith("BV"):
        assert ending in run_failing(5, "lora", "merge", *words, "--out", tmp_path / "merged")
        assert ending in run_failing(5, "lora", "convert", "--to", "megatron", *words, "--out", tmp_path / "ranks", "--tp", 1)
        with pytest.raises(RuntimeError, match="base layer has no bias"):
            model.merge_and_unload()
        return
    if ending:
        assert "BV4021" in run_failing(5, "lora", "merge", *words, "--out", tmp_path / "no")
    untie = [ending] if ending else []
    run("lora", "merge", *words, "--out", tmp_path / "merged", *untie)
    judged_right(*words, "--merged", tmp_path / "merged")
    # The merged model computes what the adapter computes beside its base.
    ids = torch.arange(24).reshape(2, 12)
    ours = cls.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)
    # Merged while it is converted, it is the same.
    run("convert", "--to", "megatron", *words, *untie, "--out", tmp_path / "shards", "--tp", 2)
    run("convert", "--to", "megatron", "--model", tmp_path / "merged", "--out", tmp_path / "again", "--tp", 2)
    for shard in sorted((tmp_path / "again").glob("*.safetensors")):
        assert shard.read_bytes() == (tmp_path / "shards" / shard.name).read_bytes(), shard.name
    if not untie:  # PEFT merges into the tied tensor, and so into both
        theirs = model.merge_and_unload().state_dict()
        for name, wanted in theirs.items():
            assert torch.allclose(ours.state_dict()[name], wanted, rtol=1e-6, atol=1e-7), name
