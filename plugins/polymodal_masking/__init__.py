"""masking: hide part of a stream and predict what was hidden."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_masking.context import at
    from polymodal_masking.cross_view import CrossDecoder, CrossView, cross_decoder
    from polymodal_masking.edges import edge_noise
    from polymodal_masking.losses import scaled_cosine_error
    from polymodal_masking.pairs import draw_others, pair_loss
    from polymodal_masking.tokens import Masked, MaskedTokens

_HOME = {
    "at": "context",
    "CrossDecoder": "cross_view",
    "CrossView": "cross_view",
    "cross_decoder": "cross_view",
    "edge_noise": "edges",
    "scaled_cosine_error": "losses",
    "draw_others": "pairs",
    "pair_loss": "pairs",
    "Masked": "tokens",
    "MaskedTokens": "tokens",
}

__all__ = [
    "CrossDecoder",
    "CrossView",
    "Masked",
    "MaskedTokens",
    "at",
    "cross_decoder",
    "draw_others",
    "edge_noise",
    "pair_loss",
    "polymodal_register",
    "scaled_cosine_error",
]

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the masking objectives."""
    registry.objective(
        "tokens",
        "polymodal_masking.tokens:MaskedTokens",
        "hide tokens, put others in their place, predict what was there; by parts of your choice",
        spelling="polymodal_masking.spelling:tokens",
    )
    registry.objective(
        "merged",
        "polymodal_masking.merged:MergedReconstruction",
        "rebuild ids from merged tokens, and mask those that merge least (MergeDNA)",
    )
    registry.objective(
        "kind",
        "polymodal_masking.tokens:MaskedTokens",
        "hide all tokens of a kind, the tags of a diff's lines say, and predict them",
        spelling="polymodal_masking.spelling:kind",
    )
    registry.objective(
        "mae",
        "polymodal_masking.mae:MaskedAutoencoder",
        "encode the visible tokens alone, rebuild the hidden values with a light decoder",
        spelling="polymodal_masking.spelling:mae",
    )
    registry.objective(
        "cross_view",
        "polymodal_masking.cross_view:CrossView",
        "fill in a mostly hidden view of a scene from another, whole view (CroCo)",
        spelling="polymodal_masking.spelling:cross_view",
    )
    registry.objective(
        "simmim",
        "polymodal_masking.tokens:MaskedTokens",
        "replace hidden values by a learned token, predict them with one linear layer",
        spelling="polymodal_masking.spelling:simmim",
    )
    registry.objective(
        "codes",
        "polymodal_masking.tokens:MaskedTokens",
        "replace hidden values by a learned token, predict their code in a codebook (BEiT)",
        spelling="polymodal_masking.spelling:codes",
    )
    registry.objective(
        "detection",
        "polymodal_masking.tokens:MaskedTokens",
        "put other ids in the place of some and tell which (random token substitution)",
        spelling="polymodal_masking.spelling:detection",
    )
    registry.objective(
        "nodes",
        "polymodal_masking.nodes:MaskedNodes",
        "hide node features of a graph and predict them (GraphMAE)",
    )
    registry.objective(
        "edges",
        "polymodal_masking.edges:MaskedEdges",
        "hide edges of a graph and tell them from pairs that are not joined",
    )
    registry.objective(
        "neighbours",
        "polymodal_masking.neighbours:MaskedNeighbours",
        "hide all edges of some tokens and tell whom they were joined to (GraphCodeBERT)",
    )
    registry.objective(
        "regions",
        "polymodal_masking.regions:MaskedRegions",
        "hide regions of an image and predict their features or classes, given text",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_masking.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"polymodal_masking.{_HOME[name]}"), name)
