"""Writes fixtures/golden/quantised/NAME.safetensors: weights in fewer bits, and what the real libraries make of them.

Usage: make_quantised.py FOLDER     (same input, same bytes)
Each file holds the stored tensors of one module under "m." and, as "wanted.DTYPE", the weight that
- transformers makes of FP8 (Fp8Dequantize) and of gpt-oss's MXFP4 (convert_moe_packed_tensors),
- compressed-tensors makes of its FP8 and packed integers.
transformers refuses an FP8 weight that its blocks do not divide; DeepSeek and Megatron-Bridge cut the last block
(dequantize_fp8_blockwise, restated here). `__metadata__` has the quantization_config.
"""

import json
import pathlib
import sys

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
FINITE = torch.tensor([code for code in range(256) if code & 0x7F != 0x7F], dtype=torch.uint8)


def codes(generator, *shape):
    """E4M3 numbers, every one of them about equally often."""
    return FINITE[torch.randint(len(FINITE), shape, generator=generator)].view(torch.float8_e4m3fn)


def scales(generator, *shape):
    return torch.rand(shape, generator=generator) * 0.01 + 1e-4


def fp8(stored):
    return {name: Fp8Dequantize(None)._dequantize_one(stored["m.weight"], stored["m.weight_scale_inv"], dtype)
            for name, dtype in DTYPES.items()}


def fp8_cut(weight, scale, block):
    rows, columns = weight.shape
    spread = scale.float().repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
    return {name: (weight.float() * spread).to(dtype) for name, dtype in DTYPES.items()}


def compressed(values, scale, **args):
    return {name: dequantize(values, scale, args=QuantizationArgs(**args), dtype=dtype).to(dtype) for name, dtype in DTYPES.items()}


def cases(g):
    block = {"quant_method": "fp8", "weight_block_size": [32, 16]}
    stored = {"m.weight": codes(g, 64, 48), "m.weight_scale_inv": scales(g, 2, 3)}
    yield "fp8_block", block, stored, fp8(stored)
    stored = {"m.weight": codes(g, 2, 64, 32), "m.weight_scale_inv": scales(g, 2, 2, 2)}
    yield "fp8_block_stack", block, stored, fp8(stored)
    stored = {"m.weight": codes(g, 64, 32), "m.weight_scale_inv": torch.randint(110, 130, (2, 2), generator=g).to(torch.uint8)}
    yield "fp8_block_exponents", block, stored, fp8(stored)
    stored = {"m.weight": codes(g, 70, 41), "m.weight_scale_inv": scales(g, 3, 3)}
    yield "fp8_block_cut", block, stored, fp8_cut(stored["m.weight"], stored["m.weight_scale_inv"], (32, 16))

    channel = {"quant_method": "compressed-tensors", "format": "float-quantized",
               "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}}}}
    stored = {"m.weight": codes(g, 24, 20), "m.weight_scale": scales(g, 24, 1).to(torch.bfloat16)}
    yield "fp8_channel", channel, stored, compressed(stored["m.weight"], stored["m.weight_scale"], num_bits=8, type="float", strategy="channel")
    stored = {"m.weight": codes(g, 24, 20), "m.weight_scale": scales(g, 1), "m.input_scale": scales(g, 1)}
    tensor = json.loads(json.dumps(channel).replace("channel", "tensor"))
    yield "fp8_tensor", tensor, stored, compressed(stored["m.weight"], stored["m.weight_scale"], num_bits=8, type="float", strategy="tensor")

    for bits, group in ((4, 32), (8, 16)):
        packed = {"quant_method": "compressed-tensors", "format": "pack-quantized",
                  "config_groups": {"group_0": {"weights": {"num_bits": bits, "type": "int", "strategy": "group", "group_size": group,
                                                            "symmetric": True}}}}
        shape = torch.Size([12, 96])
        values = torch.randint(-(1 << bits - 1), 1 << bits - 1, shape, generator=g).to(torch.int8)
        scale = scales(g, 12, 96 // group).to(torch.bfloat16)
        stored = {"m.weight_packed": pack_to_int32(values, bits), "m.weight_scale": scale, "m.weight_shape": torch.tensor(shape)}
        read = unpack_from_int32(stored["m.weight_packed"], bits, shape)
        yield f"int{bits}_packed", packed, stored, compressed(read, scale, num_bits=bits, type="int", strategy="group", group_size=group)

    blocks = torch.randint(256, (2, 6, 2, 16), generator=g).to(torch.uint8)
    exponents = torch.randint(100, 140, (2, 6, 2), generator=g).to(torch.uint8)
    exponents[0, 0, 0] = 1  # below the least normal number of bfloat16
    wanted = {name: convert_moe_packed_tensors(blocks, exponents, dtype=dtype) for name, dtype in DTYPES.items() if name != "F16"}
    yield "mxfp4", {"quant_method": "mxfp4"}, {"m.gate_up_proj_blocks": blocks, "m.gate_up_proj_scales": exponents}, wanted


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, config, stored, wanted in cases(torch.Generator().manual_seed(16)):
        tensors = {**stored, **{f"wanted.{dtype}": tensor for dtype, tensor in wanted.items()}}
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors",
                  {"config": json.dumps({"quantization_config": config})})
        print(name, (folder / f"{name}.safetensors").stat().st_size)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
