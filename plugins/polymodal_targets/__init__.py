"""targets: what is predicted of tokens, and what a wrong prediction costs."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_targets.codes import Codebook, Codes, kmeans, nearest_codes
    from polymodal_targets.ids import Ids, token_loss
    from polymodal_targets.replaced import Replaced
    from polymodal_targets.values import Distance, Values, normalized, patch_error, patch_loss

polymodal_interface = 1

_HOME = {
    "Ids": "ids",
    "token_loss": "ids",
    "Values": "values",
    "Distance": "values",
    "normalized": "values",
    "patch_loss": "values",
    "patch_error": "values",
    "Codes": "codes",
    "Codebook": "codes",
    "kmeans": "codes",
    "nearest_codes": "codes",
    "Replaced": "replaced",
}

__all__ = [
    "Codebook",
    "Codes",
    "Distance",
    "Ids",
    "Replaced",
    "Values",
    "kmeans",
    "nearest_codes",
    "normalized",
    "patch_error",
    "patch_loss",
    "polymodal_register",
    "token_loss",
]


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's parts."""
    registry.target("ids", "polymodal_targets.ids:Ids", "the ids that were hidden")
    registry.target(
        "values",
        "polymodal_targets.values:Values",
        "the values that were hidden, as they were or normalized",
    )
    registry.target(
        "kmeans",
        "polymodal_targets.codes:Codes",
        "their entry in a codebook, from a file or by k-means (BEiT, VIOLET)",
    )
    registry.target(
        "replaced",
        "polymodal_targets.replaced:Replaced",
        "whether a token was replaced (replaced token detection)",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each part, for the conformance kit."""
    from polymodal_targets.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_targets' has no attribute {name!r}")
    value = getattr(import_module(f"polymodal_targets.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
