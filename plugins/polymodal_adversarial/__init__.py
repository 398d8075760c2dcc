"""adversarial: small changes of a stream's embeddings that change most what is predicted of it."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_adversarial.disturbance import (
        divergence,
        symmetric_divergence,
        worst_direction,
    )

_HOME = {
    "divergence": "disturbance", "symmetric_divergence": "disturbance",
    "worst_direction": "disturbance",
}  # fmt: skip

__all__ = ["divergence", "symmetric_divergence", "worst_direction"]

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the adversarial objectives."""
    registry.objective(
        "virtual",
        "polymodal_adversarial.virtual:VirtualAdversarial",
        "keep predictions where they are under the worst small change of the embeddings (VAT)",
    )
    registry.objective(
        "contrastive",
        "polymodal_adversarial.contrastive:AdversarialContrastive",
        "tell the other disturbed dropout view of each sample from all views of the batch",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_adversarial.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"polymodal_adversarial.{_HOME[name]}"), name)
