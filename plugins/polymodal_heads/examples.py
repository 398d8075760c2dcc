"""A small case of each part, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the cases."""
    return [
        Example("heads.linear", "head"),
        Example("heads.tied", "head"),
        Example("heads.own", "head"),
        Example("heads.table", "head"),
    ]
