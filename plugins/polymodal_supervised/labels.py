"""What supervised objectives share: the rows that have a stream and a label, and the head."""

import math
from typing import Any

from torch import nn

from polymodal import Step


def labelled(step: Step, stream: str, field: str) -> dict[int, Any]:
    """Return the label of each sample that has one and tokens in the stream, by row; host only.

    None, "" and NaN are no labels.
    """
    values = step.labels(field)
    return {row: values[row] for row in step.rows_with(stream) if not is_absent(values[row])}


def is_absent(value: Any) -> bool:
    """Tell whether a field holds no label: None, "" or NaN."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, float) and math.isnan(value)


def head(width: int, outputs: int, *, hidden: int | None, dropout: float) -> nn.Module:
    """Return a linear layer, or with `hidden` a perceptron of one hidden layer, after dropout."""
    if hidden is None:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, outputs))
    return nn.Sequential(
        nn.Dropout(dropout), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, outputs)
    )
