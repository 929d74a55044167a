"""Each verdict a test: claim x rule x layout, in the test suite of a bridge.

    @pytest.mark.bridge_verify(model="tiny-llama", rules=LlamaBridge, layouts={"tp": [1, 2]})
    def test_my_bridge(verdict):
        verdict.check()

The marker takes the arguments of bridge_verify.check. A further item, `run`, fails when the run as a whole did not pass: a claim
that was not reached or a question that is open has no other item.
"""

import difflib
import inspect

import pytest

from . import api, command
from .visible import visible

MARK = "bridge_verify"


def pytest_addoption(parser):
    group = parser.getgroup("bridge-verify")
    group.addoption("--bridge-verify-optional", action="store_true",
                    help="skip the tests of bridge-verify where its command is not installed (default: they fail)")


def pytest_configure(config):
    config.addinivalue_line("markers", f"{MARK}(model, rules=None, layouts=None, level=None, ...): a test for each verdict of "
                                       "bridge_verify.check with these arguments; the test takes the fixture `verdict`")


class Run:
    """The run as a whole, or the reason why there is none."""

    id = "run"

    def __init__(self, verdicts=None, error=None, optional=False):
        self.verdicts, self.error, self.optional = verdicts, error, optional

    @property
    def green(self):
        return self.verdicts is not None and self.verdicts.passed

    def check(self):
        if self.error is not None:
            if self.optional and self.error.exit_code is None:
                pytest.skip(str(self.error))
            raise AssertionError(str(self.error))
        if not self.verdicts.passed:
            reasons = "\n  ".join(map(visible, self.verdicts.undecided)) or f"{len(self.verdicts.refuted)} refuted, each a test of its own"
            raise AssertionError(f"{self.verdicts.word}\n  {reasons}")


class Mistake(Exception):
    """Of the arguments of a mark: its test fails alone."""

    exit_code = 2


def _mistake(marker, test):
    """What is wrong with the names or the number of the arguments; None: nothing."""
    form = inspect.signature(api.check)
    try:
        form.bind(*marker.args, **marker.kwargs)
    except TypeError as error:
        unknown = [name for name in marker.kwargs if name not in form.parameters]
        near = [f"{name}: did you mean {found[0]}?" for name in unknown
                if (found := difflib.get_close_matches(name, form.parameters, 1, 0.5))]
        return Mistake("\n  ".join([f"usage of the mark {MARK} on {test}: {error}", *near, f"arguments: {', '.join(form.parameters)}"]))
    return None


def _items(marker, optional, test):
    mistake = _mistake(marker, test)
    if mistake is not None:
        return [Run(error=mistake)]
    try:
        verdicts = api.check(*marker.args, **marker.kwargs)
    except command.CommandError as error:
        return [Run(error=error, optional=optional)]
    except Exception as error:  # a value that check cannot use: the other tests of the file are none of its business
        given = ", ".join([*map(repr, marker.args), *(f"{name}={value!r}" for name, value in marker.kwargs.items())])
        return [Run(error=Mistake(f"the mark {MARK} of {test} cannot be used: {type(error).__name__}: {error}\n  given  {given}"))]
    return [*verdicts, Run(verdicts)]


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker(MARK)
    if marker is None:
        return
    if "verdict" not in metafunc.fixturenames:
        return  # pytest_runtest_setup fails it
    items = _items(marker, metafunc.config.getoption("--bridge-verify-optional"), metafunc.definition.nodeid)
    metafunc.parametrize("verdict", items, ids=[item.id for item in items])


def pytest_runtest_setup(item):
    if item.get_closest_marker(MARK) is not None and "verdict" not in getattr(item, "fixturenames", ("verdict",)):
        pytest.fail(f"{item.nodeid}: a test marked {MARK} takes the fixture `verdict`", pytrace=False)
