"""HF names whose numbers a mapping class computes in its own `resolve`: found by asking it.

A class that numbers experts behind those of another pool, or counts layers over blocks, is tried with numbers: where each number
of the HF name grows evenly with those of the Megatron name, it is written as `{"pattern": "l.{a}.x", "a": "c0 * 2 + c1"}`.
"""

import re

from . import names

TRIED = ((2, 3, 1, 4), (5, 1, 3, 2), (7, 4, 2, 6), (1, 6, 5, 3))
LETTERS = "abcdefgh"


def _numbers(pattern, name):
    """What stands in place of the stars; None when the name is another one."""
    match = names.expression(pattern).match(name)
    return None if match is None else [int(group) for group in match.groups()]


def _resolved(mapping, captures):
    hf = mapping.resolve(tuple(map(str, captures)))
    return hf, hf.hf_param


def _fitted(values):
    """values(captures) -> the text of an even expression, or None. `values` gives one number."""
    count = values.count
    zero = values([0] * count)
    if zero is None:
        return None
    steps = []
    for at in range(count):
        one = values([1 if at == i else 0 for i in range(count)])
        if one is None:
            return None
        steps.append(one - zero)
    for captures in TRIED:
        if values(list(captures[:count])) != zero + sum(step * one for step, one in zip(steps, captures)):
            return None
    terms = [f"c{i}" if step == 1 else f"c{i} * {step}" for i, step in enumerate(steps) if step]
    return " + ".join(terms + ([str(zero)] if zero > 0 else [])) if terms and zero >= 0 and min(steps) >= 0 else None


class _Value:
    """One number of one HF name, as a function of the captures."""

    def __init__(self, mapping, role, pattern, at, count):
        self.mapping, self.role, self.pattern, self.at, self.count = mapping, role, pattern, at, count

    def __call__(self, captures):
        hf = _resolved(self.mapping, captures)[1]
        found = _numbers(self.pattern, hf if self.role is None else hf[self.role])
        return None if found is None else found[self.at]


def _name(mapping, role, pattern, count):
    stars = len(re.findall(r"\*", pattern))
    fitted = [_fitted(_Value(mapping, role, pattern, at, count)) for at in range(stars)]
    if None in fitted:
        return None
    if fitted == [f"c{at}" for at in range(count)]:
        return pattern
    for letter, _ in zip(LETTERS, fitted):
        pattern = pattern.replace("*", f"{{{letter}}}", 1)
    return {"pattern": pattern, **dict(zip(LETTERS, fitted))}


def computed(mapping):
    """(the `hf` of a rule, the class that does the rest) for a class with a `resolve` of its own. None: it cannot be said so."""
    count = mapping.megatron_param.count("*")
    hf = mapping.hf_param
    if not count or count > len(TRIED[0]) or "**" in str([mapping.megatron_param, hf]):
        return None
    try:
        made = _resolved(mapping, [1] * count)[0]
        if made.megatron_param != names.filled(mapping.megatron_param, ["1"] * count):
            return None
        out = (_name(mapping, None, hf, count) if isinstance(hf, str)
               else {role: _name(mapping, role, pattern, count) for role, pattern in hf.items()})
    except Exception:  # a resolve that wants more than numbers
        return None
    if out is None or isinstance(out, dict) and None in out.values():
        return None
    return out, type(made)
