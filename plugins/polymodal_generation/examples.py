"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the objectives on the kit's own causal streams."""
    return [
        Example("generation.next_token", "objective", {"stream": "causal_words"}),
        Example(
            "generation.next_token", "objective",
            {"stream": "causal_words", "head": "own", "smoothing": 0.1},
        ),
        Example("generation.next_patch", "objective", {"stream": "causal_patches"}),
    ]  # fmt: skip
