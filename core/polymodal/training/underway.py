"""What those who speak of a run may ask of it."""

from typing import Protocol

import torch

from polymodal.config.shape import Config
from polymodal.data.loader import PackedDataset
from polymodal.data.sampling import Mixture
from polymodal.data.splits import SplitSource
from polymodal.ground.progress import ProgressReport
from polymodal.interfaces.evaluation import Evaluation
from polymodal.interfaces.method import Tracker
from polymodal.model.model import PretrainingModel
from polymodal.model.probing import ModelProbe
from polymodal.packed.batch import Batch
from polymodal.runs.build import Builder
from polymodal.runs.directory import RunDirectory
from polymodal.training.optimization import Optimization


class Underway(Protocol):
    """A run in progress; `Training` is one."""

    config: Config
    directory: RunDirectory
    builder: Builder
    device: torch.device
    model: PretrainingModel
    evaluations: dict[str, Evaluation]
    trackers: dict[str, Tracker]
    sources: dict[str, SplitSource]
    mixture: Mixture
    optimization: Optimization
    report: ProgressReport
    total: int
    step: int
    told: list[str]
    changed: list[str]
    failed: dict[str, str]

    @property
    def dataset(self) -> PackedDataset:
        """What makes its batches."""

    def warn(self, text: str) -> None:
        """Say what should not be missed."""

    def objectives_of(self, number: int) -> list[str]:
        """Return the names of a step's objectives."""

    def to_device(self, batch: Batch) -> Batch:
        """Return a batch of the loader as a step takes it."""

    def probe(self) -> ModelProbe:
        """Return the model as evaluations see it."""
