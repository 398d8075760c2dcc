"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the evaluations on the kit's own streams and fields."""
    one = {"stream": "patches", "source": "toy", "label": "label"}
    number = {**one, "label": "number"}
    words = {"classes": ["zero", "one", "two"], "label": "name", "text": "words"}
    return [
        Example("evaluation.linear_probe", "evaluation", one),
        Example("evaluation.linear_probe", "evaluation", {**one, "folds": 3, "group": "group"}),
        Example("evaluation.linear_regression", "evaluation", number),
        Example("evaluation.linear_regression", "evaluation", {**number, "metric": "rmse"}),
        Example("evaluation.knn", "evaluation", one),
        Example("evaluation.knn", "evaluation", {**one, "neighbors": 20, "temperature": 0.07}),
        Example(
            "evaluation.raw", "encoder",
            skip=dict.fromkeys(
                ("gradients", "saved_state", "half_precision"), "it has nothing to learn"
            ),
        ),
        Example(
            "evaluation.retrieval", "evaluation",
            {"streams": ["patches", "words"], "source": "toy", "mrr": True},
        ),
        Example("evaluation.zero_shot", "evaluation", {**one, **words}),
        Example("evaluation.linear_probe", "evaluation", {**one, "shots": 3}),
        Example("evaluation.clustering", "evaluation", one),
        Example(
            "evaluation.links", "evaluation",
            {"stream": "patches", "source": "toy", "pairs": "pairs", "scorer": "dot"},
        ),
        Example(
            "evaluation.classes", "evaluation",
            {"objective": "checked", "source": "toy", "label": "name"},
        ),
        Example(
            "evaluation.texts", "evaluation",
            {"objective": "checked", "source": "toy", "reference": "name"},
        ),
        Example(
            "evaluation.effect", "evaluation",
            {
                "stream": "patches", "source": "toy", "objective": "checked",
                "counterfactual": "name", "concept": "label",
            },
        ),
        Example("evaluation.held_out", "evaluation", {"objective": "checked", "source": "toy"}),
    ]  # fmt: skip
