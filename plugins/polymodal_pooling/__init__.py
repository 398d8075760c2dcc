"""pooling: one vector of the vectors of a segment."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_pooling.attention import Attention
    from polymodal_pooling.pooled import First, Mean

polymodal_interface = 1

_HOME = {
    "Mean": "pooled",
    "First": "pooled",
    "Attention": "attention",
}

__all__ = ["Attention", "First", "Mean", "polymodal_register"]


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's parts."""
    registry.pooler("mean", "polymodal_pooling.pooled:Mean", "the mean of the tokens")
    registry.pooler("first", "polymodal_pooling.pooled:First", "the first token")
    registry.pooler(
        "attention",
        "polymodal_pooling.attention:Attention",
        "a learned query attends to the tokens",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each part, for the conformance kit."""
    from polymodal_pooling.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_pooling' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_pooling.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
