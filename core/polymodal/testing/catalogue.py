"""All modules with checks: importing them fills the registry."""

from functools import cache
from importlib import import_module

MODULES = (  # in the order their checks run
    "readers", "tokenizers", "encoders", "fusions", "objectives", "sums", "bounds", "leaks",
    "sources", "evaluations", "methods", "trackers", "hidings", "predictions",
)  # fmt: skip


@cache
def load() -> None:
    """Register every check; once."""
    for name in MODULES:
        import_module(f"polymodal.testing.{name}")
