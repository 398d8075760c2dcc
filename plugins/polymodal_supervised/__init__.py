"""supervised: learn a label of the sample, its pixels or pairs of tokens, for fine-tuning."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal.plugins import Registry
    from polymodal.testing import Example

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the supervised objectives."""
    registry.objective(
        "classification",
        "polymodal_supervised.classification:Classification",
        "predict a class of the sample; samples without one cost nothing",
    )
    registry.objective(
        "regression",
        "polymodal_supervised.regression:Regression",
        "predict numbers of the sample; samples without them cost nothing",
    )
    registry.objective(
        "edges",
        "polymodal_supervised.edges:Edges",
        "say of two tokens whether an edge joins them, from what is seen of them: a probe",
    )
    registry.objective(
        "dense",
        "polymodal_supervised.dense:Dense",
        "predict numbers or a class at every pixel: depth, segmentation",
    )
    registry.objective(
        "binocular",
        "polymodal_supervised.binocular:Binocular",
        "predict what two views of a scene say together: pose, flow (CroCo)",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_supervised.examples import examples

    return examples()
