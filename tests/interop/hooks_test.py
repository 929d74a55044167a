"""What the exporter sees of weight hooks: run on numbers, large tensors by stand-ins, and never green for what was not seen."""

import sys

import pytest

from bridge_environment import PACKAGE

sys.path.insert(0, str(PACKAGE))

torch = pytest.importorskip("torch")

from bridge_verify import hook_runs, hooked, rotary, values, world  # noqa: E402

SMALL = {"w": [6, 4], "other": [3]}
LARGE = {"w": [3000, 400], "other": [3]}
STACK = {"w": [8, 600, 400]}
SQUARE = {"w": [1000, 1000]}


class Bridge:
    """A bridge whose hooks do one thing with each tensor."""

    def __init__(self, change):
        self.change = change

    def maybe_modify_loaded_hf_weight(self, hf, state):
        return self.change(state[hf]) if isinstance(hf, str) else {role: self.change(state[name]) for role, name in hf.items()}

    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        return {name: self.change(one) for name, one in made.items()}


def in_place(tensor):
    tensor.neg_()
    return tensor


def hidden_in_place(tensor):
    tensor.data.mul_(3)
    return tensor


def of_its_shape(tensor):
    return tensor * (2 if list(tensor.shape) == LARGE["w"] else 1)


UNTOUCHED = {"as it is": lambda one: one, "times one": lambda one: one * 1, "clone": lambda one: one.clone(),
             "twice turned": lambda one: one.flip(0).flip(0), "view": lambda one: one.reshape(-1).reshape(one.shape)}
CHANGED = {"times two": lambda one: one * 2, "in place": in_place, "in place past the counter": hidden_in_place,
           "rows": lambda one: one.flip(0), "columns": lambda one: one.flip(-1), "shape": lambda one: one[:-1],
           "first row": lambda one: torch.cat([one[:1] + 1, one[1:]]), "last column": lambda one: torch.cat([one[..., :-1], one[..., :1]], -1),
           "absent": lambda one: None, "small values": lambda one: torch.where(one.abs() < 1e-2, torch.zeros_like(one), one),
           "tiny values": lambda one: torch.where(one.abs() < 1e-37, torch.zeros_like(one), one), "signs of zero": lambda one: one + 0.0,
           "large values": lambda one: one.clamp(-65504, 65504), "half of the bits": lambda one: one.to(torch.bfloat16), "signs": lambda one: one.abs(),
           "whole numbers": lambda one: torch.where(one.abs() < 2.0**20, one.trunc(), one)}


def seen(change, tensors, direction):
    bridge = Bridge(change)
    if direction == "load":
        return hooked.load_hands_on(bridge, "w", tensors)
    return hooked.export_hands_on(bridge, "m", "w", tensors, loads=False)


@pytest.mark.parametrize("direction", ["load", "export"])
@pytest.mark.parametrize("tensors", [SMALL, LARGE, STACK, SQUARE], ids=["small", "large", "stack", "square"])
def test_a_hook_is_seen_to_change_what_it_changes_whatever_the_size(tensors, direction):
    for name, change in UNTOUCHED.items():
        assert seen(change, tensors, direction), name
    for name, change in CHANGED.items():
        assert not seen(change, tensors, direction), name


def test_a_square_tensor_that_is_transposed_is_changed():
    assert not seen(lambda one: one.t(), SQUARE, "load") and not seen(lambda one: one.t().contiguous(), SQUARE, "export")


def test_a_hook_that_treats_one_size_otherwise_is_never_taken_for_one_that_changes_nothing():
    assert seen(of_its_shape, SMALL, "export")
    for direction in ("load", "export"):
        with pytest.raises(hooked.Undecided):
            seen(of_its_shape, LARGE, direction)


def test_a_hook_may_write_copies_and_stored_tensors_besides_and_nothing_else():
    class Adding(Bridge):
        def maybe_modify_converted_hf_weight(self, task, made, state=None):
            return {**made, **self.change(made["w"])}

    for added, fine in (({"other": torch.zeros(3)}, True), ({"again": None}, True), ({"new": torch.zeros(2)}, False)):
        bridge = Adding(lambda one, added=added: {name: one if more is None else more for name, more in added.items()})
        assert hooked.export_hands_on(bridge, "m", "w", SMALL, loads=False) == fine, added


def test_what_the_load_hook_does_the_export_hook_must_undo():
    class Pair(Bridge):
        def maybe_modify_converted_hf_weight(self, task, made, state=None):
            return {name: one.flip(0) for name, one in made.items()}

    assert hooked.export_hands_on(Pair(lambda one: one.flip(0)), "m", "w", LARGE, loads=True)
    assert not hooked.export_hands_on(Pair(lambda one: one.flip(1)), "m", "w", LARGE, loads=True)
    assert not hooked.export_hands_on(Pair(lambda one: one.flip(0)), "m", "w", LARGE, loads=False)


def provider(head=8, heads=4, groups=2, part=1.0):
    return type("Provider", (), {"kv_channels": head, "num_attention_heads": heads, "num_query_groups": groups, "rotary_percent": part})()


@pytest.mark.parametrize("part, to, wanted", [
    (1.0, "neighbours", [0, 4, 1, 5, 2, 6, 3, 7]), (1.0, "halves", [0, 2, 4, 6, 1, 3, 5, 7]),
    (0.5, "neighbours", [0, 2, 1, 3, 4, 5, 6, 7]), (0.5, "halves", [0, 2, 1, 3, 4, 5, 6, 7])])
def test_rows_of_a_head_change_places_as_the_page_of_semantics_says(part, to, wanted):
    rows = torch.arange(32.0).reshape(32, 1)
    out = rotary.exchanged(rows, provider(part=part), to)
    assert out.flatten().tolist() == [8 * head + row for head in range(4) for row in wanted]


def test_a_hook_that_exchanges_rows_of_q_and_k_is_a_line_and_one_that_turns_v_too_is_none():
    given = {"q": torch.arange(64.0).reshape(32, 2), "k": torch.arange(32.0).reshape(16, 2), "v": torch.arange(32.0).reshape(16, 2)}
    rule, one = {"megatron": "decoder.layers.*.self_attention.linear_qkv.weight"}, provider()
    made = {role: tensor if role == "v" else rotary.exchanged(tensor, one, "neighbours") for role, tensor in given.items()}
    found = rotary.of_hook(rule, given, made, one)
    assert "(g (q: n b a | k: b a | v: e))" in found["layout"] and found["axes"]["b"] == "4"
    part = rotary.line(provider(part=0.5), "halves")
    assert part["layout"] == ("q[(g n (q_turns: b a | q_stays: c)) ...], k[(g (k_turns: b a | k_stays: c)) ...], v[(g e) ...] -> linear_qkv"
                              "[(g (q: n (q_turns: a b | q_stays: c) | k: (k_turns: a b | k_stays: c) | v: e)) ...] cut 0 by t")
    assert (part["axes"]["b"], part["axes"]["c"]) == ("2", "4")
    assert rotary.of_hook(rule, given, {**made, "v": rotary.exchanged(given["v"], one, "neighbours")}, one) == {}
    assert rotary.of_hook(rule, given, {**made, "k": given["k"]}, one) == {}


def test_both_forms_of_rotation_are_told_apart_by_running_them():
    def halves(q, k, cos, sin, unsqueeze_dim=1):
        turned = torch.cat((-q[..., q.shape[-1] // 2:], q[..., :q.shape[-1] // 2]), -1)
        return q * cos + turned * sin, k

    def neighbours(q, k, cos, sin, unsqueeze_dim=1):
        turned = torch.stack((-q[..., 1::2], q[..., ::2]), -1).flatten(-2)
        return q * cos + turned * sin, k

    def complex_numbers(q, k, freqs):
        turned = torch.view_as_complex(q.float().reshape(*q.shape[:-1], -1, 2)) * freqs[:, :, None, :]
        return torch.view_as_real(turned).flatten(3), k

    assert rotary._seen(halves) == "halves" and rotary._seen(neighbours) == "neighbours"
    assert rotary._seen(complex_numbers) == "neighbours"
    assert rotary._seen(lambda q, k, cos, sin: (q, k)) is None


LAYERS = {f"l.{layer}.w": [3, 2] for layer in range(4)}


def runner(cls, tensors=LAYERS):
    """hook_runs of a bridge class with one rule for all layers."""
    bridge = type("Of", (), {"cls": cls, "instance": cls(), "tensors": tensors, "provider": None, "registry": None, "trouble": [],
                             "hooks": lambda self: dict.fromkeys((hook_runs.LOAD, hook_runs.EXPORT), "Own"), "again": lambda self: cls(),
                             "library": type("Library", (), {"file_of": lambda self, cls: "own_bridge.py"})(), "read_by_hook": set()})()
    return hook_runs.Hooks(bridge)


RULE = {"id": "r0", "class": "AutoMapping", "megatron": "d.*.w", "hf": "l.*.w"}


def seen_of(cls):
    """(rules whose tensors the load hook changes, those of the export hook, what is told)."""
    found = runner(cls)
    touched = found.touched([dict(RULE)])
    return touched, found.exports([dict(RULE)], touched), " ".join(found.told())


class Plain:
    def maybe_modify_loaded_hf_weight(self, hf, state):
        return state[hf]

    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        return made


class OneForAll(Plain):
    """Kept under too short a key."""

    def maybe_modify_loaded_hf_weight(self, hf, state):
        self.kept = getattr(self, "kept", {})
        return self.kept.setdefault(hf.split(".")[-1], state[hf])


class Counting(Plain):
    calls = 0

    def maybe_modify_loaded_hf_weight(self, hf, state):
        self.calls += 1
        return -state[hf] if self.calls == 7 else state[hf]


class AfterAnother(Plain):
    """What it does with a layer depends on the layer before."""

    last = -1

    def maybe_modify_loaded_hf_weight(self, hf, state):
        layer, last = int(hf.split(".")[1]), self.last
        self.last = layer
        return -state[hf] if layer < last else state[hf]


class LastLayer(Plain):
    def maybe_modify_loaded_hf_weight(self, hf, state):
        return -state[hf] if hf == "l.3.w" else state[hf]


class Asking(Plain):
    def maybe_modify_loaded_hf_weight(self, hf, state):
        return -state[hf] if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1 else state[hf]


class OnRank1(Plain):
    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        return {name: one * (2 if rank else 1) for name, one in made.items()}


class Environment(Plain):
    def maybe_modify_loaded_hf_weight(self, hf, state):
        import os

        return -state[hf] if os.environ.get("WORLD_SIZE", "1") != "1" else state[hf]


class OfTheTask(Plain):
    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        return {name: one if task.param_weight is None else -one for name, one in made.items()}


class OfTheModule(Plain):
    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        return {name: -one if task.megatron_module is not None and task.megatron_module.weight is task.param_weight else one
                for name, one in made.items()}


class OfAnotherRank(Plain):
    def maybe_modify_converted_hf_weight(self, task, made, state=None):
        return {} if task.param_weight is None else made


class Kept(Plain):
    """A cache that changes nothing."""

    def maybe_modify_loaded_hf_weight(self, hf, state):
        self.kept = getattr(self, "kept", {})
        self.kept[hf] = state[hf]
        return self.kept[hf]


@pytest.mark.parametrize("cls", [Plain, Kept])
def test_a_hook_that_changes_nothing_is_seen_to_change_nothing_each_time(cls):
    assert seen_of(cls) == ([], [], "")


@pytest.mark.parametrize("cls", [OneForAll, Counting, AfterAnother, LastLayer, Asking, Environment])
def test_a_load_hook_that_is_not_the_same_for_each_layer_each_time_and_each_rank_changes_tensors(cls):
    touched, _, told = seen_of(cls)
    assert touched == ["r0"]
    assert "own_bridge.py:" in told or cls in (OneForAll, Counting, LastLayer), told


@pytest.mark.parametrize("cls", [OnRank1, OfTheTask, OfTheModule, OfAnotherRank])
def test_an_export_hook_is_run_with_the_tasks_and_the_ranks_of_a_real_export(cls):
    assert seen_of(cls)[1] == ["r0"]


def test_a_world_of_ranks_leaves_everything_as_it_was():
    import os

    before = dict(os.environ), torch.distributed.is_initialized, torch.distributed.get_world_size
    with world.played(2, 1):
        assert (torch.distributed.get_world_size(), torch.distributed.get_rank(), os.environ["RANK"]) == (2, 1, "1")
    assert (dict(os.environ), torch.distributed.is_initialized, torch.distributed.get_world_size) == before


def test_numbers_have_all_sizes_and_no_two_names_have_the_same():
    wide = values.numbers([40, 40], "a")
    sizes = wide.abs()
    assert (wide == 0).sum() > 1 and torch.signbit(wide[wide == 0]).any() and not torch.signbit(wide[wide == 0]).all()
    assert ((sizes > 0) & (sizes < 1.1e-38)).any() and (sizes > 1e38).any() and (wide < 0).any() and (wide == wide.trunc()).any()
    assert not values.same(wide, values.numbers([40, 40], "b")) and values.same(wide, values.numbers([40, 40], "a"))
    assert values.same(torch.zeros(1), torch.zeros(1)) and not values.same(torch.zeros(1), -torch.zeros(1))
