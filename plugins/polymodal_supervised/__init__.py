"""supervised: learn a label of the sample, its words, pixels or pairs of tokens; or unlearn it."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_supervised.reversal import gradient_reversal

_HOME = {"gradient_reversal": "reversal"}

__all__ = ["gradient_reversal"]

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the supervised objectives."""
    registry.objective(
        "classification",
        "polymodal_supervised.classification:Classification",
        "predict a class of the sample; samples without one cost nothing",
        spelling="polymodal_supervised.spelling:pooled",
    )
    registry.objective(
        "concept",
        "polymodal_supervised.concept:Concept",
        "predict a class of the sample or of each word, also from a masked copy",
        spelling="polymodal_supervised.spelling:pooled",
    )
    registry.objective(
        "adversary",
        "polymodal_supervised.adversary:Adversary",
        "make a class of the sample or of each word hard to read off an encoder (CausaLM)",
        spelling="polymodal_supervised.spelling:pooled",
    )
    registry.objective(
        "regression",
        "polymodal_supervised.regression:Regression",
        "predict numbers of the sample; samples without them cost nothing",
    )
    registry.objective(
        "edges",
        "polymodal_supervised.edges:Edges",
        "say of two tokens whether an edge joins them, from what is seen of them: a probe",
    )
    registry.objective(
        "dense",
        "polymodal_supervised.dense:Dense",
        "predict numbers or a class at every pixel: depth, segmentation",
    )
    registry.objective(
        "binocular",
        "polymodal_supervised.binocular:Binocular",
        "predict what two views of a scene say together: pose, flow (CroCo)",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_supervised.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"polymodal_supervised.{_HOME[name]}"), name)
