"""Writes fixtures/torch/views.bin and views.safetensors: views of storages as torch.save keeps them, and the same row by row.

Usage: make_views.py FOLDER     (same input, same bytes of views.safetensors; the archive has an id of its own)
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file


def views():
    """Every way in which a tensor that is not contiguous comes about."""
    numbers = lambda *shape: torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    base = numbers(6, 8)
    cube = numbers(3, 4, 5).to(torch.bfloat16)
    line = torch.arange(24, dtype=torch.int64)
    return {
        "transposed": base.t(),
        "transposed.parameter": torch.nn.Parameter(numbers(5, 7).t()),
        "permuted": cube.permute(2, 0, 1),
        "columns": base[:, 2:5],
        "every_second_row": base[1::2],
        "every_third_column": base[:, ::3],
        "diagonal": base.diagonal(),
        "expanded": numbers(1, 5).to(torch.float16).expand(4, 5),
        "one_number": torch.tensor([7], dtype=torch.uint8).expand(3, 3),
        "expanded_inside": numbers(2, 1, 3).expand(2, 4, 3).transpose(0, 1),
        "windows": line.unfold(0, 4, 2),
        "as_strided": torch.as_strided(base, (2, 3, 2), (16, 1, 8), 5),
        "channels_last": numbers(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "bytes": torch.arange(30, dtype=torch.uint8).view(5, 6).t()[1:4],
        "booleans": (torch.arange(12) % 3 == 0).view(3, 4).t(),
        "doubles": torch.arange(10, dtype=torch.float64).view(2, 5).t(),
        "eights": torch.arange(12, dtype=torch.float32).to(torch.float8_e4m3fn).view(3, 4).t(),
        "row_of_a_matrix": base[3],
        "contiguous": base,
        "number_of_a_line": line[3],
        "nothing": base[:, 2:2],
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    all_views = views()
    torch.save(all_views, folder / "views.bin")
    save_file({name: view.detach().clone(memory_format=torch.contiguous_format) for name, view in all_views.items()},
              folder / "views.safetensors")


if __name__ == "__main__":
    main()
