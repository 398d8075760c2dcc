"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the objectives on the kit's own streams."""
    return [
        Example("adversarial.virtual", "objective", {"stream": "words"}),
        Example(
            "adversarial.virtual", "objective",
            {"stream": "words", "rate": 0.001, "updates": 2, "reduction": "sample"},
        ),
        Example(
            "adversarial.contrastive", "objective", {"stream": "words"},
            skip={"half_precision": "without dropout, directions hang on digits it lacks"},
        ),
    ]  # fmt: skip
