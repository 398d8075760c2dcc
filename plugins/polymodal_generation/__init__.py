"""generation: objectives that predict what comes next or write texts, and their decoder."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_generation.cutting import cut_out
    from polymodal_generation.decoder import Decoder
    from polymodal_generation.search import beam_search
    from polymodal_generation.shift import followed

# What other plugins may build on; imported on demand, so that listing stays light.
_HOME = {
    "Decoder": "decoder",
    "beam_search": "search",
    "cut_out": "cutting",
    "followed": "shift",
}

__all__ = ["Decoder", "beam_search", "cut_out", "followed"]

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the generation objectives and the decoder they share."""
    registry.fusion(
        "decoder",
        "polymodal_generation.decoder:Decoder",
        "write a stream, each token given those before it and what is read of other streams",
    )
    registry.objective(
        "denoising",
        "polymodal_generation.denoising:Denoising",
        "cut spans or lines out of a stream, a sentinel for each, and write them (T5)",
    )
    registry.objective(
        "sequence_to_sequence",
        "polymodal_generation.sequence_to_sequence:SequenceToSequence",
        "read one stream, of any modality, and write another; predicts by beam search",
    )
    registry.objective(
        "next_token",
        "polymodal_generation.next_token:NextToken",
        "predict each next id from those before it (causal language modelling)",
    )
    registry.objective(
        "next_patch",
        "polymodal_generation.next_patch:NextPatch",
        "predict each next token's values from those before it (AstroPT)",
    )
    registry.objective(
        "chained_patches",
        "polymodal_generation.chained_patches:ChainedPatches",
        "predict each next token's values across chained streams (AstroPT, several modalities)",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_generation.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_generation.{_HOME[name]}"), name)
    globals()[name] = value
    return value
