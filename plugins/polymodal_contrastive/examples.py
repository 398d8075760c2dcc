"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the objectives on the kit's own streams."""
    two = {"streams": ["patches", "words"], "same": "words"}
    three = {"streams": ["patches", "words", "graphs"], "dim": 8}
    near = {"batch_order": "which samples make wrong pairs is drawn by their places in the batch"}
    return [
        Example("contrastive.infonce", "objective", {"streams": ["patches", "words"], "dim": 8}),
        Example("contrastive.infonce", "objective", {**three, "tile": 4, "heads": "mlp"}),
        Example("contrastive.siglip", "objective", three),
        Example(
            "contrastive.matching", "objective",
            {"streams": ["patches", "words"], "fusion": "joint"}, skip=near,
        ),
        Example(
            "contrastive.matching", "objective",
            {**two, "fusion": "joint", "negatives": "both"},
            skip={**near, "loss_is_a_sum": "samples equal in `same` make no wrong pair"},
        ),
        Example(
            "contrastive.matching", "objective",
            {"streams": ["words", "patches"], "fusion": "joint", "read": ["words"],
             "transport": 0.5},
            skip=near,
        ),
        Example(
            "contrastive.ranking", "objective",
            {"streams": ["words", "patches"], "fusion": "joint", "negatives": 2}, skip=near,
        ),
        Example(
            "contrastive.ranking", "objective",
            {"streams": ["words", "patches"], "fusion": "joint", "hard": True},
        ),
        Example("contrastive.simclr", "objective", {"stream": "patches", "dim": 8}),
        Example(
            "contrastive.simclr", "objective",
            {"stream": "graphs", "each": "token", "dim": 8, "norm": False, "tile": 5},
        ),
        Example("contrastive.redundancy", "objective", {"stream": "patches", "dim": 8}),
        Example(
            "contrastive.redundancy", "objective",
            {"stream": "graphs", "each": "token", "loss": "cca_ssg"},
        ),
        Example("contrastive.moco", "objective", {"stream": "words", "dim": 8}),
    ]  # fmt: skip
