"""The weight hooks of one bridge, run for all rules, layers and experts: more than once, in another order, on a fresh bridge, with other
numbers, and as on one rank of several. A hook whose results are not the same each time changes tensors."""

import contextlib
import json

from . import hooked, known, names, norms, places, probed, rotary, values, world

LOAD, EXPORT = "maybe_modify_loaded_hf_weight", "maybe_modify_converted_hf_weight"
AGAIN_MAX = 4096  # names of one run after the first: of more, evenly chosen ones are run again
CHANGED = "changed"


class Setting:
    """One way to run the hooks again."""

    def __init__(self, what, fresh, backwards, kind, size=None, rank=0):
        self.what, self.fresh, self.backwards, self.kind, self.size, self.rank = what, fresh, backwards, kind, size, rank

    def world(self):
        return contextlib.nullcontext() if self.size is None else world.played(self.size, self.rank)


SETTINGS = (Setting("in another order", True, True, values.WEIGHTS), Setting("when it is asked again", False, False, values.OTHER),
            Setting("where the parallel state is there", True, False, values.WIDE, 1), Setting("on rank 0 of 2", True, True, values.WIDE, 2),
            Setting("on rank 1 of 2", False, False, values.WEIGHTS, 2, 1))


def exchanged_columns(rule, given, made):
    """The line of a matrix whose column halves are exchanged."""
    import torch

    matrix = given.get("")
    if matrix is None or matrix.ndim != 2 or matrix.shape[1] % 2 or not rule["megatron"].endswith("eh_proj.weight"):
        return {}
    first, second = matrix.chunk(2, 1)
    if not torch.equal(made[""], torch.cat([second, first], 1)):
        return {}
    return {"layout": "x[(t o) (first: h | second: h)] -> x{t}[o (second: h | first: h)]", "axes": {"o": "s0d0 / t", "h": "s0d1 / 2"}}


class Hooks:
    def __init__(self, bridge):
        self.bridge, self.cls, self.tensors, self.unstable = bridge, bridge.cls, bridge.tensors, {}

    def of_base(self, hook):
        return self.bridge.hooks()[hook] == "base"

    def is_read(self, hook):
        return hook not in vars(self.bridge.instance) and known.is_read(self.cls, hook)

    def _tried(self, rule, hook, run):
        """Does the hook hand on what it is given? One that cannot be tried is known by its source, else it is trouble."""
        try:
            return run()
        except Exception as error:
            if not self.is_read(hook):
                said = f"{hook} could not be tried for rule {rule['id']}: {type(error).__name__}: {error}"
                if said not in self.bridge.trouble:
                    self.bridge.trouble.append(said)
            return self.is_read(hook)

    def _settled(self, hook, jobs, run):
        """Ids of rules for which the hook is seen to do another thing in one of SETTINGS than it did first. `jobs`: (rule, names, what
        was seen first); `run(instance, rule, names, kind)`."""
        chosen = jobs[::max(1, -(-len(jobs) // AGAIN_MAX))]
        instance, out = self.bridge.instance, {}
        for setting in SETTINGS:
            instance = self.bridge.again() if setting.fresh else instance
            for rule, hf, first in chosen[::-1] if setting.backwards else chosen:
                if rule["id"] in out:
                    continue
                with setting.world():
                    seen = run(instance, rule, hf, setting.kind)
                if seen != first:
                    out[rule["id"]] = setting.what
        for id_, what in out.items():
            self.unstable.setdefault((hook, what), []).append(id_)
        return set(out)

    def told(self):
        """Lines of trouble: hooks whose results depend on more than the tensors, with their place."""
        for (hook, what), ids in self.unstable.items():
            cls = next((one for one in self.cls.__mro__ if hook in vars(one)), self.cls)
            at = f"{self.bridge.library.file_of(cls)}:{places.defined_at(cls, hook)}"
            yield f"{hook} ({at}) does something else {what}: rules {', '.join(ids)}"

    def touched(self, rules):
        """Ids of the rules whose tensors the load hook does not hand on as they are. None: it could not be tried."""
        if self.of_base(LOAD):
            return []
        if not self.tensors:
            return None
        changed, jobs, lines = set(), [], {}
        for rule in rules:
            if "module" in rule and "kind" not in rule:
                continue  # a class of the bridge itself is judged together with its hook
            found = list(names.resolved(rule, self.tensors))
            if not found and self._is_made(rule):
                changed.add(rule["id"])
            for hf in found:
                seen = self._loads(self.bridge.instance, rule, hf, values.WIDE)
                lines.setdefault(rule["id"], seen)
                if seen == CHANGED or seen != lines[rule["id"]]:  # other layers are treated otherwise
                    changed.add(rule["id"])
                    break
                jobs.append((rule, hf, seen))
        jobs = [job for job in jobs if job[0]["id"] not in changed]
        changed |= self._settled(LOAD, jobs, self._loads)
        for rule in rules:
            if rule["id"] not in changed and lines.get(rule["id"]):
                rule.update(json.loads(lines[rule["id"]]))
        return [rule["id"] for rule in rules if rule["id"] in changed]

    def _loads(self, instance, rule, hf, kind):
        """"" for tensors that are handed on, a line as JSON, or CHANGED."""
        if self._tried(rule, LOAD, lambda: hooked.load_hands_on(instance, hf, self.tensors, kind)):
            return ""
        line = self._line_of_hook(instance, rule, hf, kind)
        return json.dumps(line) if line else CHANGED

    def _is_made(self, rule):
        """The load hook gives a tensor for names that the checkpoint does not have."""
        for _, hf in names.first_names(rule):
            state = hooked.Watched(self.tensors, bare=True)
            try:
                made = self.bridge.instance.maybe_modify_loaded_hf_weight(hf, state) is not None
            except Exception:
                continue
            if made:
                self.bridge.read_by_hook |= {norms.starred(name) for name in state.given}
                return True
        return False

    def _line_of_hook(self, instance, rule, hf, kind):
        """The hook run on numbers: where it only exchanges halves of columns, or rows of heads, a line says so. What it changes
        on the way there must be brought back."""
        if self.of_base(EXPORT):
            return {}
        by_role = {"": hf} if isinstance(hf, str) else hf
        found = []
        for shapes in hooked.stand_ins(self.tensors, by_role.values()):
            state = hooked.Watched(shapes, kind=kind)
            try:
                given = {role: state[name].clone() for role, name in by_role.items()}
                made = hooked.loaded(instance, hf, state)
                made = {role: made[name] for role, name in by_role.items()}
            except Exception:
                return {}
            found.append(exchanged_columns(rule, given, made) or rotary.of_hook(rule, given, made, self.bridge.provider))
            if len(by_role) > 1:
                break  # with all rows of all heads
        return found[0] if all(one == found[0] for one in found) else {}

    def exports(self, rules, touched):
        """Ids of the rules whose tensors the export hook does not hand on as they were written. None: it could not be tried.
        Rules that the load hook changes are left out: nothing is judged of them."""
        if not self.tensors:
            return None
        changed, jobs = set(), []
        for rule in rules:
            if rule["id"] in (touched or ()) or "module" in rule and not {"kind", "layout"} & set(rule):
                continue
            for placed in names.placed(rule, self.tensors):
                if not self._writes(self.bridge.instance, rule, placed, values.WIDE):
                    changed.add(rule["id"])
                    break
                jobs.append((rule, placed, True))
        jobs = [job for job in jobs if job[0]["id"] not in changed]
        changed |= self._settled(EXPORT, jobs, self._writes)
        return [rule["id"] for rule in rules if rule["id"] in changed]

    def _writes(self, instance, rule, placed, kind):
        megatron, hf = placed
        loads = "layout" in rule and "module" not in rule
        asked = hooked.tasks(self.bridge.library, megatron, self._mapping(megatron), self.bridge.provider)
        return self._tried(rule, EXPORT, lambda: hooked.export_hands_on(instance, megatron, hf, self.tensors, loads, kind, asked))

    def _mapping(self, name):
        with contextlib.suppress(Exception):
            return self.bridge.registry.megatron_to_hf_lookup(name)
        return None
