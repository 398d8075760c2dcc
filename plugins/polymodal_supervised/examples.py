"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the objectives on the kit's own streams, whose labels are three class names."""
    named = {"stream": "words", "label": "kind", "classes": ["class 0", "class 1", "class 2"]}
    tags = {"stream": "words", "label": "tags", "words": True}
    numbered = {"state": "class names are numbered when they first come"}
    attending = {**named, "pool": "attention", "standardize": True}
    strong = {**named, "preset": "strong", "pool": "attention"}
    against = (named, strong, {**tags, "present": ["class 0"]})
    maps = {"stream": "patches", "label": "map", "cell": 1}
    return [
        Example(
            "supervised.classification", "objective",
            {"stream": "patches", "label": "kind", "classes": 3},
            skip=numbered,
        ),
        Example("supervised.classification", "objective", {**named, "hidden": 16}),
        Example(
            "supervised.edges", "objective", {"stream": "graphs"},
            skip={"target_leak": "a probe may see what it is asked for, unless told otherwise"},
        ),
        Example("supervised.classification", "objective", attending),
        Example("supervised.concept", "objective", named),
        Example("supervised.concept", "objective", {**tags, "classes": 3}, skip=numbered),
        *(Example("supervised.adversary", "objective", options) for options in against),
        Example("supervised.dense", "objective", {**maps, "layers": [0]}),
        Example("supervised.dense", "objective", {**maps, "classes": 3, "hidden": 16}),
        Example(
            "supervised.binocular", "objective",
            {"stream": "patches", "reference": "causal_patches", "label": "number", "layers": [0]},
        ),
        Example("supervised.regression", "objective", {"stream": "graphs", "label": "number"}),
    ]  # fmt: skip
