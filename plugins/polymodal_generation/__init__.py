"""generation: objectives that predict what comes next."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal.plugins import Registry
    from polymodal.testing import Example
    from polymodal_generation.shift import followed

__all__ = ["followed"]

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the generation objectives."""
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
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("polymodal_generation.shift"), name)
