"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the decoder and the objectives on the kit's own streams."""
    small = {"use": "generation.decoder", "depth": 1, "heads": 2}
    alone = {"decoder": {**small, "streams": ["cut_words"]}}
    both = {"decoder": {**small, "streams": ["patches", "cut_words"]}}
    cut = {"stream": "cut_words", "decoder": "decoder", "ratio": 0.3}
    return [
        Example("generation.decoder", "fusion", {"streams": ["patches", "words"], "heads": 2}),
        Example("generation.decoder", "fusion", {"streams": ["words"], "rotary": False}),
        Example("generation.denoising", "objective", cut, modules=alone),
        Example("generation.denoising", "objective", {**cut, "units": "word"}, modules=alone),
        Example(
            "generation.sequence_to_sequence", "objective",
            {"source": "patches", "target": "cut_words", "decoder": "decoder"}, modules=both,
        ),
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
