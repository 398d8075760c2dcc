"""A small case of each part, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the cases."""
    return [
        Example("pooling.mean", "pooler"),
        Example("pooling.first", "pooler"),
        Example("pooling.attention", "pooler"),
    ]
