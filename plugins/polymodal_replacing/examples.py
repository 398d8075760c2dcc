"""A small case of each part, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the cases."""
    kept = {"hides": "a tenth of the hidden ids stay as they are"}
    drawn = {"hides": "an id is drawn by the cluster of the true one"}
    return [
        Example(
            "replacing.bert",
            "replacing",
            skip=kept,
        ),
        Example("replacing.bert", "replacing", {"mask": 0.9, "random": 0.1}),
        Example("replacing.bert", "replacing", {"mask": 0.0, "random": 1.0}),
        Example("replacing.learned", "replacing"),
        Example(
            "replacing.clusters",
            "replacing",
            {"clusters": 4},
            skip=drawn,
        ),
    ]
