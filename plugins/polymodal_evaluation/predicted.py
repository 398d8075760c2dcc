"""What an objective predicts of a split, beside what the samples say."""

from collections.abc import Sequence
from typing import Any

from polymodal import DataError, Probe, Split
from polymodal_evaluation.rows import field_of, is_missing


def predicted(
    probe: Probe, objective: str, *, source: str, split: Split, field: str
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return predictions and true values of the samples that have both.

    Raises:
        DataError: no such objective or field, an objective that predicts nothing, or no sample.
    """
    try:
        found = probe.predictions(objective, source=source, split=split)
    except KeyError as error:
        raise DataError(str(error.args[0])) from error
    truth = field_of(found.fields, field, source=source)
    pairs = [
        (value, true)
        for value, true in zip(found.values, truth, strict=True)
        if not is_missing(true)
    ]
    if not pairs:
        raise DataError(
            f"no {split} row of source {source!r} has a value in the field {field!r} and a "
            f"prediction of the objective {objective!r}"
        )
    values, true_values = zip(*pairs, strict=True)
    return values, true_values
