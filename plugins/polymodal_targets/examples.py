"""A small case of each part, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the cases."""
    return [
        Example("targets.ids", "target"),
        Example("targets.values", "target"),
        Example("targets.values", "target", {"distance": "mse", "normalize": True}),
        Example("targets.kmeans", "target", {"codes": 6}),
        Example("targets.replaced", "target", {"weight": 2.0}),
    ]
