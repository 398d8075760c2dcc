"""replacing: what stands in the place of hidden tokens."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_replacing.bert import Bert, corrupted
    from polymodal_replacing.clusters import Clusters, row_chances
    from polymodal_replacing.learned import Learned, replaced

polymodal_interface = 1

_HOME = {
    "Bert": "bert",
    "corrupted": "bert",
    "Learned": "learned",
    "replaced": "learned",
    "Clusters": "clusters",
    "row_chances": "clusters",
}

__all__ = [
    "Bert",
    "Clusters",
    "Learned",
    "corrupted",
    "polymodal_register",
    "replaced",
    "row_chances",
]


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's parts."""
    registry.replacing(
        "bert",
        "polymodal_replacing.bert:Bert",
        "the mask id, another id, or what was there (BERT; RTS and SLM by shares)",
    )
    registry.replacing(
        "learned",
        "polymodal_replacing.learned:Learned",
        "a learned vector in the place of values (SimMIM)",
    )
    registry.replacing(
        "clusters",
        "polymodal_replacing.clusters:Clusters",
        "ids that the model found hard to tell from the true ones (C-RTS)",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each part, for the conformance kit."""
    from polymodal_replacing.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_replacing' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_replacing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
