"""Numbers that hooks and mapping classes are run on: zeros of both signs, the smallest and the largest numbers, whole ones and such as
weights have. The same name has the same numbers in every run, and no two names have the same ones."""

import functools
import zlib

SPECIAL = (0.0, -0.0, 1.0, -1.0, 1e-45, -1e-40, 1.17549435e-38, 1e-6, -1e-3, 3e-2, 2.0, -3.0, 255.0, 1e4, -65504.0, 7e4, 3.3e38, -2.5e38)
WIDE, OTHER, WEIGHTS = "wide", "other", "weights"  # full range in float32, the same otherwise drawn, and weights as bfloat16 has them


@functools.lru_cache(maxsize=128)
def _made(shape, seed, kind):
    import torch

    draw = torch.Generator().manual_seed(zlib.crc32(f"{seed} {kind}".encode()))
    count = torch.Size(shape).numel()
    if kind == WEIGHTS:
        return (torch.randn(count, generator=draw) * 0.02).to(torch.bfloat16).reshape(shape)
    sign = torch.randint(0, 2, (count,), generator=draw) * 2.0 - 1.0
    size = torch.randint(-140, 127, (count,), generator=draw, dtype=torch.float64)
    near = torch.rand(count, generator=draw) < 0.5  # half of them as large as weights are
    size = torch.where(near, size / 16, size)
    out = (sign * (1 + torch.rand(count, generator=draw, dtype=torch.float64)) * torch.exp2(size)).to(torch.float32)
    first = int(torch.randint(0, len(SPECIAL), (1,), generator=draw))
    step = 9 if count > 300 else 2
    for number, place in enumerate(range(0, min(count, step * len(SPECIAL)), step)):
        out[place] = SPECIAL[(first + number) % len(SPECIAL)]
    return out.reshape(shape)


def numbers(shape, seed, kind=WIDE):
    """A tensor of its own."""
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        return _made(tuple(shape), seed, kind).clone()


def same(one, other):
    """Bit for bit, whatever the types of the numbers are."""
    import torch
    from torch.utils._python_dispatch import _disable_current_modes

    if one.shape != other.shape or one.is_meta or other.is_meta:
        return False
    with _disable_current_modes():
        one, other = (tensor.detach().to(torch.float64).contiguous().view(torch.int64) for tensor in (one, other))
        return torch.equal(one, other)
