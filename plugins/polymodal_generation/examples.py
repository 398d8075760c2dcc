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
        Example(
            "generation.chained_patches", "objective",
            {"streams": ["causal_patches", "causal_clips"], "fusion": "chain",
             "weights": {"causal_clips": 0.5}},
        ),
    ]  # fmt: skip
