"""demo: small data of six modalities with captions, made here: nothing is downloaded."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's sources."""
    registry.source(
        "digits", "polymodal_demo.digits:Digits", "handwritten digits in colour, with captions"
    )
    registry.source(
        "plain_digits",
        "polymodal_demo.plain_digits:PlainDigits",
        "handwritten digits of 8 x 8 pixels as they are, with few labels",
    )
    registry.source(
        "moving_digits",
        "polymodal_demo.moving_digits:MovingDigits",
        "videos of handwritten digits on the move, with captions",
    )
    registry.source(
        "scenes",
        "polymodal_demo.scenes:Scenes",
        "handwritten digits as regions of a scene, with their words",
    )
    registry.source(
        "texture_pairs",
        "polymodal_demo.texture_pairs:TexturePairs",
        "pairs of shifted views of random textures",
    )
    registry.source("sounds", "polymodal_demo.sounds:Sounds", "synthesised sounds, with captions")
    registry.source("graphs", "polymodal_demo.graphs:Graphs", "molecule-like graphs, with captions")
    registry.source(
        "blocks",
        "polymodal_demo.blocks:Blocks",
        "one graph of communities with weak features (stochastic block model)",
    )
    registry.source(
        "genomes",
        "polymodal_demo.genomes:Genomes",
        "random sequences with planted motifs, with captions",
    )
    registry.source(
        "repeats",
        "polymodal_demo.repeats:Repeats",
        "DNA of motifs in tandem repeats, labelled by the order of two of them",
    )
    registry.source(
        "functions",
        "polymodal_demo.functions:Functions",
        "functions of the Python standard library, with what their docstrings say",
    )
    registry.source(
        "edits",
        "polymodal_demo.edits:Edits",
        "edits of functions of the Python standard library, as diffs with comments",
    )
    registry.source(
        "galaxies",
        "polymodal_demo.galaxies:Galaxies",
        "generated galaxies with spectra, their redshifts and masses",
    )
    registry.source(
        "reviews",
        "polymodal_demo.reviews:Reviews",
        "short reviews with their counterfactuals: the writer's gender swapped",
    )
    registry.source(
        "urls", "polymodal_demo.urls:Urls", "addresses of made-up pages, half of them phishing"
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_demo.examples import examples

    return examples()
