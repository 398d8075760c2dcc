"""Small cases of the parts, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the cases."""
    return []
