"""One process that takes itself for one rank of several: what asks Megatron-Core or torch for sizes and ranks is answered so. Nothing
is sent: what talks to other ranks fails."""

import contextlib
import os
import sys

ENVIRONMENT = ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK")


class Group:
    """A group of ranks, of which this is one."""

    def __init__(self, size, rank):
        self._size, self._rank = size, rank

    def size(self):
        return self._size

    def rank(self):
        return self._rank


def _of_state(module, size, rank):
    """Names of parallel_state with the values of such a process."""
    out = {}
    for name in vars(module):
        if name.startswith("_") and name.endswith(("_RANKS", "_RANKS_WITH_CP")):
            out[name] = list(range(size))
        elif name.startswith("_") and "_GROUP" in name and name.isupper() and "GROUPS" not in name:
            out[name] = Group(size, rank)
        elif name.startswith("_MPU_"):
            out[name] = size if name.endswith("_WORLD_SIZE") else rank
    return out


@contextlib.contextmanager
def played(size, rank):
    """Every size of Megatron-Core and torch is `size`, every rank `rank`."""
    import torch

    with contextlib.suppress(ImportError):
        from megatron.core import parallel_state  # noqa: F401
    state = sys.modules.get("megatron.core.parallel_state")
    places = [(vars(state), _of_state(state, size, rank))] if state is not None else []
    places.append((vars(torch.distributed), {
        "is_initialized": lambda: True, "get_world_size": lambda group=None: size, "get_rank": lambda group=None: rank}))
    places.append((os.environ, {**dict.fromkeys(ENVIRONMENT, str(size)), **dict.fromkeys(RANKS, str(rank))}))
    before = [(holder, {name: holder.get(name) for name in values}, {name for name in values if name in holder}) for holder, values in places]
    for holder, values in places:
        holder.update(values)
    try:
        yield
    finally:
        for holder, values, there in before:
            for name, value in values.items():
                if name in there:
                    holder[name] = value
                else:
                    holder.pop(name, None)
