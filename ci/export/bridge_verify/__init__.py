"""bridge-verify for Python: `check` a model or a bridge's own rules, `bridge_verify.export` them, gate in pytest.

Nothing but the standard library is imported here."""

from .api import Verdict, Verdicts, check, from_document
from .command import CommandError

__version__ = "0.1.0"
__all__ = ["CommandError", "Verdict", "Verdicts", "check", "from_document"]
