"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the objectives on the kit's own streams, alone and in the context of another."""
    # No hidden token is left as it was: a tenth is, by default, and would count as a leak.
    words = {"stream": "words", "ratio": 0.3, "replace": 0.9, "random": 0.1}
    tagged = {"units": "concept", "labels": "tags", "concept": ["class 0"], "amount": "ratio"}
    fitted = {"state": "the codebook is that of the first batch, and frozen from then on"}
    whole = {"stream": "graphs", "of": "content", "partner": "content"}
    given = {"fusion": "joint"}
    views = {"stream": "patches", "reference": "causal_patches"}
    autoencoder = {"target_leak": "an autoencoder: most of what is rebuilt is what was encoded"}
    shallow = {"stream": "merged_words", "latent_depth": 1, "local_depth": 1, "window": 4}
    return [
        *(Example("masking.tokens", "objective", {**words, "units": units})
          for units in ("token", "word", "span")),
        *(Example("masking.tokens", "objective", {**words, **tagged, "cover": cover})
          for cover in (False, True)),
        Example("masking.tokens", "objective", {**words, "frequencies": True}),
        Example("masking.tokens", "objective", {**words, "given": ["patches"], **given}),
        Example("masking.tokens", "objective", {**words, "stream": "merged_words"}),
        Example("masking.merged", "objective", shallow, skip=autoencoder),
        Example(
            "masking.merged", "objective", {**shallow, "latent": 0.0, "masked_over": "tokens"},
            skip=autoencoder,
        ),
        Example("masking.kind", "objective", {"stream": "words", "kind": "content"}),
        Example("masking.mae", "objective", {"stream": "patches"}),
        Example("masking.mae", "objective", {"stream": "clips", "shape": "tube", "decode": 0.5}),
        Example("masking.cross_view", "objective", {**views, "ratio": 0.5}),
        Example(
            "masking.cross_view", "objective",
            {**views, "ratio": 0.5, "symmetric": True, "decoder_positions": "rotary"},
        ),
        Example("masking.detection", "objective", {"stream": "words"}),
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
        Example("masking.nodes", "objective", {"stream": "graphs", "remask": "random"}),
        Example(
            "masking.nodes", "objective", {"stream": "graphs", "latent": 0.5, "alpha": 3.0},
            skip={"target_leak": "a visible node's target is a vector in which all are mixed"},
        ),
        Example("masking.edges", "objective", {"stream": "graphs"}),
        Example("masking.edges", "objective", {"stream": "graphs", "layers": [0], "ratio": 0.5}),
        Example("masking.neighbours", "objective", whole),
        Example("masking.neighbours", "objective", {**whole, "score": "mlp", "ratio": 0.5}),
    ]  # fmt: skip
