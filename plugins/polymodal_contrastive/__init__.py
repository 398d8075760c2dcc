"""contrastive: objectives that compare samples across streams, or views of one."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_contrastive.losses import info_nce, siglip_loss
    from polymodal_contrastive.projectors import BatchNorm, projector
    from polymodal_contrastive.redundancy import barlow_twins, cca_ssg
    from polymodal_contrastive.simclr import nt_xent
    from polymodal_contrastive.symmetric import symmetric_info_nce
    from polymodal_contrastive.transport import alignment, optimal_transport
    from polymodal_contrastive.views import Views

_HOME = {
    "BatchNorm": "projectors", "Views": "views",
    "alignment": "transport", "barlow_twins": "redundancy", "cca_ssg": "redundancy",
    "info_nce": "losses", "nt_xent": "simclr", "optimal_transport": "transport",
    "projector": "projectors",
    "siglip_loss": "losses", "symmetric_info_nce": "symmetric",
}  # fmt: skip

__all__ = [
    "BatchNorm", "Views", "alignment", "barlow_twins", "cca_ssg", "info_nce", "nt_xent",
    "optimal_transport",
    "projector", "siglip_loss", "symmetric_info_nce",
]  # fmt: skip

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the contrastive objectives."""
    registry.objective(
        "infonce",
        "polymodal_contrastive.infonce:InfoNCE",
        "tell each sample's partner in another stream from the batch's others (CLIP)",
    )
    registry.objective(
        "siglip",
        "polymodal_contrastive.siglip:SigLIP",
        "say of every pair in the batch whether it belongs together (sigmoid loss)",
    )
    registry.objective(
        "matching",
        "polymodal_contrastive.matching:Matching",
        "tell true pairs from re-paired ones through a fusion (image-text matching); align tokens",
    )
    registry.objective(
        "ranking",
        "polymodal_contrastive.ranking:Ranking",
        "score true pairs above wrong ones by a margin, through a fusion (retrieval)",
    )
    registry.objective(
        "simclr",
        "polymodal_contrastive.simclr:SimCLR",
        "tell the other view of each sample or token from all views of the batch (SimCLR, GRACE)",
    )
    registry.objective(
        "redundancy",
        "polymodal_contrastive.redundancy:RedundancyReduction",
        "make two views' channels agree and repeat nothing (Barlow Twins, CCA-SSG)",
    )
    registry.objective(
        "moco",
        "polymodal_contrastive.moco:MoCo",
        "tell a slow copy's vector of the other view from those of other samples (MoCo v3)",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_contrastive.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"polymodal_contrastive.{_HOME[name]}"), name)
