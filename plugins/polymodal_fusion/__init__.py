"""fusion: joint encoders over several streams."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_fusion.parts import (
        check_fusion,
        check_parts,
        check_streams,
        default_heads,
        fuse,
    )

__all__ = ["check_fusion", "check_parts", "check_streams", "default_heads", "fuse"]

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the fusions."""
    registry.fusion(
        "single_stream",
        "polymodal_fusion.single_stream:SingleStream",
        "one Transformer over the chained tokens of all streams",
    )
    registry.fusion(
        "cross_attention",
        "polymodal_fusion.cross_attention:CrossAttention",
        "each stream's tokens attend to themselves and to the other streams",
    )
    registry.fusion(
        "causal_chain",
        "polymodal_fusion.causal_chain:CausalChain",
        "the streams as one sequence, each token seeing those before it",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_fusion.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("polymodal_fusion.parts"), name)
