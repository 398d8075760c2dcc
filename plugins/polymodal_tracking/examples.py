"""A small case of each component, for the conformance kit."""

from polymodal.testing import Example


def examples() -> list[Example]:
    """Return the trackers, none of which contacts anything."""
    return [
        Example("tracking.tensorboard", "tracker"),
        Example("tracking.wandb", "tracker", {"mode": "disabled"}),
        Example("tracking.mlflow", "tracker"),
    ]
