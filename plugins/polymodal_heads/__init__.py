"""heads: how predictions are made of vectors."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_heads.linear import Linear
    from polymodal_heads.tied import Own, Table, Tied

polymodal_interface = 1

_HOME = {
    "Linear": "linear",
    "Tied": "tied",
    "Own": "tied",
    "Table": "tied",
}

__all__ = ["Linear", "Own", "Table", "Tied", "polymodal_register"]


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's parts."""
    registry.head("linear", "polymodal_heads.linear:Linear", "one linear layer")
    registry.head(
        "tied",
        "polymodal_heads.tied:Tied",
        "a layer, a norm, and the encoder's own table of ids (BERT)",
    )
    registry.head(
        "own", "polymodal_heads.tied:Own", "a layer, a norm, and scores by weights of its own"
    )
    registry.head(
        "table", "polymodal_heads.tied:Table", "the encoder's own table of ids, nothing between"
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each part, for the conformance kit."""
    from polymodal_heads.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_heads' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_heads.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
