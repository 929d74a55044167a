"""Weights that torch.save keeps as views of storages: the model is the one of their contiguous twins."""

import random
import shutil

import pytest
import torch
from safetensors import safe_open

from command import GOLDEN, run, run_failing


def tensors(folder):
    out = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            out.update({name: opened.get_tensor(name) for name in opened.keys()})
    return out


def as_view(tensor, drawn):
    """The same values, stored in another way."""
    if tensor.ndim == 0 or tensor.numel() == 0:
        return tensor
    way = drawn.randrange(5)
    if way == 0 and tensor.ndim >= 2:
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if way == 1:  # every second row of a larger storage
        wide = torch.zeros((2 * tensor.shape[0], *tensor.shape[1:]), dtype=tensor.dtype)
        wide[1::2] = tensor
        return wide[1::2]
    if way == 2:  # columns of a larger storage
        wide = torch.ones((*tensor.shape[:-1], tensor.shape[-1] + 3), dtype=tensor.dtype)
        wide[..., 2:-1] = tensor
        return wide[..., 2:-1]
    if way == 3 and tensor.ndim >= 2:  # all axes turned round
        order = list(range(tensor.ndim))[::-1]
        return tensor.permute(order).contiguous().permute(order)
    return torch.nn.Parameter(tensor, requires_grad=False)


@pytest.mark.parametrize("name", ["llama", "qwen3", "qwen3_moe_packed", "gpt_oss", "qwen3_5_vl_dense"])
def test_the_model_is_its_contiguous_twin(name, tmp_path):
    golden = GOLDEN / "hf" / name
    model = tmp_path / "m"
    model.mkdir()
    shutil.copy(golden / "config.json", model)
    drawn = random.Random(name)
    right = tensors(golden)
    views = {key: as_view(tensor, drawn) for key, tensor in right.items()}
    assert sum(not view.is_contiguous() for view in views.values()) > len(views) // 4
    assert all(torch.equal(views[key].float(), right[key].float()) for key in right)
    torch.save(views, model / "pytorch_model.bin")
    run("diff", golden, model)
    run("check", "--model", model)
    run("convert", "--to", "megatron", "--model", model, "--out", tmp_path / "s")
    run("convert", "--to", "megatron", "--model", golden, "--out", tmp_path / "t")
    for file in sorted((tmp_path / "t").glob("*.safetensors")):
        assert (tmp_path / "s" / file.name).read_bytes() == file.read_bytes(), file.name
    run("convert", "--to", "hf", "--model", tmp_path / "s", "--out", tmp_path / "h")
    back = tensors(tmp_path / "h")
    assert set(back) == set(right)
    for key, tensor in right.items():
        assert torch.equal(back[key].contiguous().view(torch.uint8), tensor.contiguous().view(torch.uint8)), key
    wrong = dict(views)
    key = next(key for key, view in views.items() if view.ndim == 2 and not view.is_contiguous())
    wrong[key] = views[key].clone(memory_format=torch.preserve_format)
    wrong[key][0, 0] += 1
    torch.save(wrong, model / "pytorch_model.bin")
    assert key in run_failing(1, "diff", golden, model)


def test_expanded_tensors_are_read(tmp_path):
    """A norm whose weights are one number, expanded: one stored element is all of them."""
    golden = GOLDEN / "hf" / "qwen3"
    model = tmp_path / "m"
    model.mkdir()
    shutil.copy(golden / "config.json", model)
    values = tensors(golden)
    values["model.norm.weight"] = torch.tensor([1.5], dtype=values["model.norm.weight"].dtype).expand(
        values["model.norm.weight"].shape)
    torch.save(values, model / "pytorch_model.bin")
    run("convert", "--to", "megatron", "--model", model, "--out", tmp_path / "s")
    run("convert", "--to", "hf", "--model", tmp_path / "s", "--out", tmp_path / "h")
    back = tensors(tmp_path / "h")["model.norm.weight"]
    assert torch.equal(back, values["model.norm.weight"])
