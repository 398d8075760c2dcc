"""hiding: which tokens of a stream are hidden."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_hiding.attended import Attended
    from polymodal_hiding.balance import Amount, balanced_counts, choose_balanced
    from polymodal_hiding.blocks import Blocks, Tubes, block_scores
    from polymodal_hiding.concept import Concept
    from polymodal_hiding.kind import WholeKind
    from polymodal_hiding.labels import word_numbers
    from polymodal_hiding.spans import Spans, span_scores
    from polymodal_hiding.tokens import EachToken, RandomTokens, choose_each
    from polymodal_hiding.units import choose_units, tube_units
    from polymodal_hiding.words import WholeWords

polymodal_interface = 1

_HOME = {
    "RandomTokens": "tokens",
    "EachToken": "tokens",
    "choose_each": "tokens",
    "WholeWords": "words",
    "Spans": "spans",
    "span_scores": "spans",
    "Blocks": "blocks",
    "Tubes": "blocks",
    "block_scores": "blocks",
    "choose_units": "units",
    "tube_units": "units",
    "Concept": "concept",
    "Amount": "balance",
    "balanced_counts": "balance",
    "choose_balanced": "balance",
    "word_numbers": "labels",
    "WholeKind": "kind",
    "Attended": "attended",
}

__all__ = [
    "Amount",
    "Attended",
    "Blocks",
    "Concept",
    "EachToken",
    "RandomTokens",
    "choose_each",
    "Spans",
    "Tubes",
    "WholeKind",
    "WholeWords",
    "balanced_counts",
    "block_scores",
    "choose_balanced",
    "choose_units",
    "polymodal_register",
    "span_scores",
    "tube_units",
    "word_numbers",
]


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's parts."""
    registry.hiding(
        "tokens",
        "polymodal_hiding.tokens:RandomTokens",
        "a share of the tokens, each equally likely",
    )
    registry.hiding(
        "each",
        "polymodal_hiding.tokens:EachToken",
        "each token by itself, with one chance (UNITER)",
    )
    registry.hiding("words", "polymodal_hiding.words:WholeWords", "whole words")
    registry.hiding(
        "spans", "polymodal_hiding.spans:Spans", "contiguous spans of random length (SpanBERT)"
    )
    registry.hiding("blocks", "polymodal_hiding.blocks:Blocks", "rectangles of the plane (BEiT)")
    registry.hiding(
        "tubes", "polymodal_hiding.blocks:Tubes", "the same places at all times (VideoMAE)"
    )
    registry.hiding(
        "concept",
        "polymodal_hiding.concept:Concept",
        "tokens that carry a concept, and others in equal parts (CausaLM)",
    )
    registry.hiding(
        "kind", "polymodal_hiding.kind:WholeKind", "all tokens of a kind, the tags of a diff say"
    )
    registry.hiding(
        "attended",
        "polymodal_hiding.attended:Attended",
        "what the encoder itself attends to (VIOLET)",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each part, for the conformance kit."""
    from polymodal_hiding.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_hiding' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_hiding.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
