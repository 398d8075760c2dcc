"""masking: hide part of a stream and predict what was hidden."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_masking.choice import Choice, block_scores, choose, hidden_counts, hideable
    from polymodal_masking.codes import Codebook, kmeans
    from polymodal_masking.context import at
    from polymodal_masking.cross_view import CrossDecoder, cross_decoder
    from polymodal_masking.edges import edge_noise
    from polymodal_masking.losses import (
        normalized,
        patch_error,
        patch_loss,
        scaled_cosine_error,
    )
    from polymodal_masking.pairs import draw_others, pair_loss
    from polymodal_masking.simmim import replaced
    from polymodal_masking.tokens import Masked, MaskedTokens
    from polymodal_masking.words import word_numbers

_HOME = {
    "Choice": "choice", "block_scores": "choice", "choose": "choice", "hidden_counts": "choice",
    "hideable": "choice",
    "Codebook": "codes", "kmeans": "codes",
    "at": "context",
    "CrossDecoder": "cross_view", "cross_decoder": "cross_view",
    "normalized": "losses", "patch_error": "losses", "patch_loss": "losses",
    "scaled_cosine_error": "losses",
    "edge_noise": "edges",
    "draw_others": "pairs", "pair_loss": "pairs",
    "replaced": "simmim",
    "Masked": "tokens", "MaskedTokens": "tokens",
    "word_numbers": "words",
}  # fmt: skip

__all__ = [
    "Choice", "Codebook", "CrossDecoder", "Masked", "MaskedTokens", "at", "block_scores", "choose",
    "cross_decoder", "draw_others", "edge_noise", "hidden_counts", "hideable", "kmeans",
    "normalized", "pair_loss", "patch_error", "patch_loss", "replaced", "scaled_cosine_error",
    "word_numbers",
]  # fmt: skip

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the masking objectives."""
    registry.objective(
        "tokens",
        "polymodal_masking.tokens:MaskedTokens",
        "predict hidden ids: tokens, words, spans, a concept's; also given other streams",
    )
    registry.objective(
        "merged",
        "polymodal_masking.merged:MergedReconstruction",
        "rebuild ids from merged tokens, and mask those that merge least (MergeDNA)",
    )
    registry.objective(
        "kind",
        "polymodal_masking.kind:MaskedKind",
        "hide all tokens of a kind, the tags of a diff's lines say, and predict them",
    )
    registry.objective(
        "mae",
        "polymodal_masking.mae:MaskedAutoencoder",
        "encode the visible tokens alone, rebuild the hidden values with a light decoder",
    )
    registry.objective(
        "cross_view",
        "polymodal_masking.cross_view:CrossView",
        "fill in a mostly hidden view of a scene from another, whole view (CroCo)",
    )
    registry.objective(
        "simmim",
        "polymodal_masking.simmim:SimMIM",
        "replace hidden values by a learned token, predict them with one linear layer",
    )
    registry.objective(
        "codes",
        "polymodal_masking.codes:MaskedCodes",
        "replace hidden values by a learned token, predict their code in a codebook (BEiT)",
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
