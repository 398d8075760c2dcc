"""series: numbers along one axis (spectra, light curves, prices) as patches at real positions."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_series.reader import Series

polymodal_interface = 1

__all__ = ["Series", "polymodal_interface", "polymodal_register"]


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's components."""
    registry.reader(
        "samples", "polymodal_series.reader:SeriesReader", "arrays, with positions or without"
    )
    registry.tokenizer(
        "patches",
        "polymodal_series.patches:SeriesPatches",
        "stretches of a spectrum or other series, at real positions such as wavelengths",
    )
    registry.encoder(
        "transformer",
        "polymodal:TransformerEncoder",
        "the packed transformer over patches",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_series.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name != "Series":
        raise AttributeError(f"module 'polymodal_series' has no attribute {name!r}")
    return import_module("polymodal_series.reader").Series
