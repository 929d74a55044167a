"""bridge-verify for Python: `check` a model or a bridge's own rules, `bridge_verify.export` them, gate in pytest.

Nothing but the standard library is imported here."""

__version__ = "0.1.0"
