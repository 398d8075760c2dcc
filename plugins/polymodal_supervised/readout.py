"""Readout: numbers or classes of the sample, or of every pixel, from the vectors of its tokens."""

from collections.abc import Collection
from typing import Annotated, Any, Literal, TypedDict, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from polymodal import EPSILON, DataError, Default, Layout, Loss, filled, segment_mean
from polymodal_supervised.labels import head

Distance = Literal["mse", "l1", "smooth_l1"]
_DISTANCES = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}


class ReadoutOptions(TypedDict, total=False):
    """What is predicted, and how it is compared with the truth.

    Args:
        outputs: numbers of a sample or pixel: 2 for flow.
        classes: how many, where the label is a class.
        mean: taken off each number before it is compared.
        deviation: each number is divided by, after that.
        distance: between predicted and true numbers.
        hidden: width of a hidden layer of the head; linear unless given.
    """

    outputs: Annotated[int, Default(1)]
    classes: Annotated[int | None, Default(None)]
    mean: Annotated[float, Default(0.0)]
    deviation: Annotated[float, Default(1.0)]
    distance: Annotated[Distance, Default("mse")]
    hidden: Annotated[int | None, Default(None)]


class Readout(nn.Module):
    """A head over tokens' vectors, and its loss against a label that may be known in part.

    With a `cell` the label is a map as large as the image the tokens were cut from, and each token
    predicts the `cell` x `cell` pixels it covers; without one the label is the sample's, and is
    predicted from the mean vector. NaN is unknown, and so is a negative class.

    Args:
        width: of the vectors.
        field: that holds the label: a number or array [outputs]; with a cell an array [height,
            width] or [height, width, outputs]. With classes, their numbers.
        cell: pixels on each side of a token; None for a label of the sample.
        options: what is predicted and compared; see `ReadoutOptions`.

    Raises:
        ValueError: a cell, number of outputs or classes, or deviation that is too small.
    """

    def __init__(
        self,
        width: int,
        *,
        field: str,
        cell: int | None,
        **options: Unpack[ReadoutOptions],
    ):
        super().__init__()
        given = filled(ReadoutOptions, options)
        outputs, classes, deviation = given["outputs"], given["classes"], given["deviation"]
        for name, size in {"cell": cell, "outputs": outputs}.items():
            if size is not None and size < 1:
                raise ValueError(f"{name} must be 1 or more, got {size}")
        if classes is not None and classes < 2:
            raise ValueError(f"classes must be 2 or more, got {classes}")
        if classes is not None and outputs != 1:
            raise ValueError("classes and outputs can't be combined: a label is a class or numbers")
        if deviation <= 0:
            raise ValueError(f"deviation must be above 0, got {deviation}")
        self.field = field
        self.cell = cell
        self.outputs = outputs
        self.classes = classes
        self.mean = given["mean"]
        self.deviation = deviation
        self.distance = _DISTANCES[given["distance"]]
        self.norm = nn.LayerNorm(width, eps=EPSILON)
        size = (cell or 1) ** 2 * (classes or outputs)
        self.head = head(width, size, hidden=given["hidden"], dropout=0.0)

    def forward(
        self, vectors: Float[Tensor, "token width"], layout: Layout, labels: Collection[Any]
    ) -> Loss:
        """Return the loss over what is known of the labels, one a segment; each value counts.

        With classes the metric is `accuracy`.

        Raises:
            DataError: a label that is no such number, array or class.
        """
        target = self._target(layout, labels)
        known = np.flatnonzero(np.isfinite(target))
        at = torch.from_numpy(known).to(vectors.device)
        wanted = torch.from_numpy(target.reshape(-1)[known]).to(vectors.device)
        predicted = self.predict(vectors, layout)
        if self.classes is None:
            total = self.distance(
                predicted.flatten()[at], (wanted - self.mean) / self.deviation, reduction="sum"
            )
            return Loss(total, len(known))
        logits = predicted.reshape(-1, self.classes)[at]
        right = (logits.argmax(dim=1) == wanted).sum()
        total = F.cross_entropy(logits, wanted.long(), reduction="sum")
        return Loss(total, len(known), {"accuracy": (right, len(known))})

    def predict(
        self, vectors: Float[Tensor, "token width"], layout: Layout
    ) -> Float[Tensor, "row value"]:
        """Return what the head says: a row a segment, or a token if there is a cell.

        Numbers are in units of the deviation, from the mean; classes are logits. The values of a
        row are in the order (y, x, output).
        """
        rows = segment_mean(vectors, layout) if self.cell is None else vectors
        predicted: Tensor = self.head(self.norm(rows)).float()
        return predicted

    def count(self, layout: Layout, labels: Collection[Any]) -> int:
        """Return how many values are known."""
        return int(np.isfinite(self._target(layout, labels)).sum())

    def _target(self, layout: Layout, labels: Collection[Any]) -> np.ndarray:
        """Return the labels as rows to predict, float32 [row, value], NaN where unknown."""
        if layout.segments != len(labels):
            raise DataError(
                f"the field {self.field!r} labels a sample, but some samples have several items "
                "in the stream; set many to false"
            )
        found = [
            self._rows(value, tokens) for value, tokens in zip(labels, layout.lengths, strict=True)
        ]
        size = (self.cell or 1) ** 2 * self.outputs
        return np.concatenate([np.zeros((0, size), np.float32), *found])

    def _rows(self, value: Any, tokens: int) -> np.ndarray:
        try:
            array = np.asarray(value, dtype=np.float32)
        except (TypeError, ValueError):
            raise self._refused(value, tokens) from None
        cell, outputs = self.cell or 1, self.outputs
        if self.cell is None:
            array, tokens = array.reshape(1, 1, -1), 1
        elif array.ndim == 2:
            array = array[..., None]
        if array.ndim != 3 or array.shape[2] != outputs:
            raise self._refused(value, tokens)
        height, width = array.shape[0] // cell, array.shape[1] // cell
        if array.shape[:2] != (height * cell, width * cell) or height * width != tokens:
            raise self._refused(value, tokens)
        if self.classes is not None:
            array = np.where(array < 0, np.nan, array)
            whole = array[np.isfinite(array)]
            if (whole >= self.classes).any() or (whole != np.floor(whole)).any():
                raise DataError(
                    f"the field {self.field!r} must hold classes 0 to {self.classes - 1}, "
                    f"got {float(whole.max()):g}"
                )
        cut = array.reshape(height, cell, width, cell, outputs)
        # row y column x output -> row column (y x output)
        return cut.transpose(0, 2, 1, 3, 4).reshape(tokens, -1)

    def _refused(self, value: Any, tokens: int) -> DataError:
        if self.cell is None:
            wanted = "a number" if self.outputs == 1 else f"{self.outputs} numbers"
        else:
            wanted = f"a map of {tokens} cells of {self.cell} x {self.cell} pixels"
            wanted += "" if self.outputs == 1 else f" with {self.outputs} numbers each"
        shape = getattr(value, "shape", None)
        got = f"{value!r:.60}" if shape is None else f"an array of shape {list(shape)}"
        return DataError(f"the field {self.field!r} must hold {wanted}, got {got}")
