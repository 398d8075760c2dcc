"""tracking: pass a run's numbers on to TensorBoard, Weights & Biases or MLflow."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example

polymodal_interface = 1


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name the trackers."""
    registry.tracker(
        "tensorboard",
        "polymodal_tracking.tensorboard:TensorBoard",
        "event files for TensorBoard, in the run's directory",
    )
    registry.tracker(
        "wandb", "polymodal_tracking.weights_and_biases:WeightsAndBiases", "Weights & Biases"
    )
    registry.tracker("mlflow", "polymodal_tracking.mlflow_client:MLflow", "MLflow")


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_tracking.examples import examples

    return examples()
