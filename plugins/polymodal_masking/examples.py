"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the objectives on the kit's own streams, alone and in the context of another."""
    # No hidden token is left as it was: a tenth is, by default, and would count as a leak.
    words = {"stream": "words", "ratio": 0.3, "replace": 0.9, "random": 0.1}
    fitted = {"state": "the codebook is that of the first batch, and frozen from then on"}
    given = {"fusion": "joint"}
    views = {"stream": "patches", "reference": "causal_patches"}
    return [
        *(Example("masking.tokens", "objective", {**words, "units": units})
          for units in ("token", "word", "span")),
        Example("masking.tokens", "objective", {**words, "given": ["patches"], **given}),
        Example("masking.kind", "objective", {"stream": "words", "kind": "content"}),
        Example("masking.mae", "objective", {"stream": "patches"}),
        Example("masking.mae", "objective", {"stream": "clips", "shape": "tube", "decode": 0.5}),
        Example("masking.cross_view", "objective", {**views, "ratio": 0.5}),
        Example(
            "masking.cross_view", "objective",
            {**views, "ratio": 0.5, "symmetric": True, "decoder_positions": "rotary"},
        ),
        Example("masking.simmim", "objective", {"stream": "patches", "shape": "block"}),
        Example("masking.simmim", "objective", {"stream": "clips", "given": ["words"], **given}),
        Example("masking.regions", "objective", {"stream": "patches", "head": "own"}),
        Example(
            "masking.regions", "objective",
            {"stream": "patches", "head": "own", "given": ["words"], "leave_out": 0.3, **given},
        ),
        Example(
            "masking.codes", "objective", {"stream": "patches", "codes": 6, "shape": "block"},
            skip=fitted,
        ),
        Example(
            "masking.codes", "objective",
            {"stream": "clips", "codes": 6, "normalize": True, "given": ["words"], **given},
            skip=fitted,
        ),
        Example("masking.nodes", "objective", {"stream": "graphs"}),
        Example("masking.edges", "objective", {"stream": "graphs"}),
    ]  # fmt: skip
