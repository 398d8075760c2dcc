"""distillation: learn from a slow copy of oneself that sees another view."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_distillation.heads import Centre, Heads
    from polymodal_distillation.losses import patch_loss, view_loss

_HOME = {"Centre": "heads", "Heads": "heads", "patch_loss": "losses", "view_loss": "losses"}

__all__ = ["Centre", "Heads", "patch_loss", "view_loss"]

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the distillation objectives."""
    registry.objective(
        "byol",
        "polymodal_distillation.byol:BYOL",
        "predict what a slow copy makes of another view, without negatives (BYOL, BGRL)",
    )
    registry.objective(
        "dino",
        "polymodal_distillation.dino:DINO",
        "predict what a slow copy makes of another view, small crops from large ones",
    )
    registry.objective(
        "ibot",
        "polymodal_distillation.ibot:IBOT",
        "as dino, and predict what the copy makes of the patches that are hidden",
        spelling="polymodal_distillation.spelling:ibot",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_distillation.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"polymodal_distillation.{_HOME[name]}"), name)
