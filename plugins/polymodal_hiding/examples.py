"""A small case of each part, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the cases."""
    tagged = {"labels": "tags", "concept": ["class 0"]}
    return [
        Example("hiding.tokens", "hiding", {"ratio": 0.3}),
        Example("hiding.tokens", "hiding", {"ratio": 0.5, "rounding": "up", "at_least": 2}),
        Example("hiding.each", "hiding", {"ratio": 0.3}),
        Example("hiding.words", "hiding", {"ratio": 0.3}),
        Example("hiding.spans", "hiding", {"ratio": 0.3}),
        Example("hiding.blocks", "hiding"),
        Example("hiding.tubes", "hiding", {"ratio": 0.5}),
        Example("hiding.concept", "hiding", tagged),
        Example("hiding.concept", "hiding", {**tagged, "amount": "ratio", "cover": True}),
        Example("hiding.kind", "hiding", {"kind": "content"}),
        Example("hiding.attended", "hiding", {"ratio": 0.3}),
    ]
