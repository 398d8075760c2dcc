"""pretext: tell what was done to the raw input (the survey's predictive tasks)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the pretext objectives."""
    registry.objective(
        "rotation",
        "polymodal_pretext.rotation:Rotation",
        "tell by how many quarter turns an image or clip was rotated",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal.testing import Example

    return [Example("pretext.rotation", "objective", {"stream": "patches"})]
