"""Each verdict a test: claim x rule x layout, in the test suite of a bridge.

    @pytest.mark.bridge_verify(model="tiny-llama", rules=LlamaBridge, layouts={"tp": [1, 2]})
    def test_my_bridge(verdict):
        verdict.check()

The marker takes the arguments of bridge_verify.check. A further item, `run`, fails when the run as a whole did not pass: a claim
that was not reached or a question that is open has no other item.
"""

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


def _items(marker, optional):
    try:
        verdicts = api.check(*marker.args, **marker.kwargs)
    except command.CommandError as error:
        return [Run(error=error, optional=optional)]
    return [*verdicts, Run(verdicts)]


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker(MARK)
    if marker is None:
        return
    if "verdict" not in metafunc.fixturenames:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: a test marked {MARK} takes the fixture `verdict`")
    items = _items(marker, metafunc.config.getoption("--bridge-verify-optional"))
    metafunc.parametrize("verdict", items, ids=[item.id for item in items])
