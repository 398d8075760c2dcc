"""demo: small data sets of six modalities with captions, made here: nothing is downloaded."""

from typing import TYPE_CHECKING

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal.plugins import Registry

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the sources."""
    registry.source(
        "digits", "polymodal_demo.digits:Digits", "real handwritten digits, tinted, with captions"
    )
    registry.source(
        "moving_digits",
        "polymodal_demo.moving_digits:MovingDigits",
        "clips of a handwritten digit moving one of four ways",
    )
    registry.source(
        "sounds", "polymodal_demo.sounds:Sounds", "synthesised tones, chirps, bursts and clicks"
    )
    registry.source(
        "graphs", "polymodal_demo.graphs:Graphs", "molecule-like graphs: rings, chains and stars"
    )
    registry.source(
        "genomes", "polymodal_demo.genomes:Genomes", "random sequences with planted motifs"
    )
    registry.source(
        "functions",
        "polymodal_demo.functions:Functions",
        "functions of Python's standard library with their docstrings' first sentence",
    )
