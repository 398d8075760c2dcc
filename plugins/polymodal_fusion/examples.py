"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the fusions of the kit's own streams."""
    small = {"depth": 2, "heads": 2}
    return [
        Example("fusion.single_stream", "fusion", {"streams": ["patches", "words"], **small}),
        Example(
            "fusion.single_stream", "fusion", {"streams": ["patches", "words", "graphs"], **small}
        ),
        Example(
            "fusion.single_stream", "fusion",
            {"streams": ["words", "patches"], "norm": "post", "entering": "summed",
             "pool": "first", "dropout": 0.1, **small},
        ),
        Example("fusion.cross_attention", "fusion", {"streams": ["patches", "words"], **small}),
        Example(
            "fusion.cross_attention", "fusion",
            {"streams": ["words", "patches"], "reading": ["words"], "memory": "fixed", **small},
        ),
        Example(
            "fusion.causal_chain", "fusion",
            {"streams": ["causal_words", "causal_patches"], **small},
        ),
    ]  # fmt: skip
