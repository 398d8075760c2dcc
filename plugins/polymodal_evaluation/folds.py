"""Who is fitted on and who is scored: a fixed split, or each fold in its turn."""

import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from polymodal import DataError, Default, FieldName, Split

Part = tuple[np.ndarray, np.ndarray]  # rows to fit on, rows to score


class FitOptions(TypedDict, total=False):
    """Which rows are fitted on, and which are scored.

    Args:
        fit_on: split to fit on.
        split: split to score.
        folds: cross-validate over all splits joined, instead of fit_on and split; all rows'
            answers are scored together.
        group: field whose equal values stay in one fold.
    """

    fit_on: Annotated[Split, Default("train")]
    split: Annotated[Split, Default("validation")]
    folds: Annotated[int | None, Default(None)]
    group: Annotated[FieldName | None, Default(None)]


def check_folds(folds: int | None, group: str | None) -> None:
    """Check the options `folds` and `group`.

    Raises:
        ValueError: fewer than 2 folds, or a group without folds.
    """
    if folds is not None and folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    if group is not None and folds is None:
        raise ValueError("group keeps rows together across folds: set folds too")


def fold_parts(
    size: int,
    folds: int,
    *,
    groups: Sequence[Any] = (),
    classes: np.ndarray | None = None,
    seed: int,
) -> list[Part]:
    """Return the rows to fit on and to score for each fold; each row is scored once.

    Groups stay whole (`GroupKFold`); else classes are spread evenly (`StratifiedKFold`) if given.

    Raises:
        DataError: there are fewer rows or groups than folds.
    """
    names = np.array([str(group) for group in groups])
    found, what = (len(np.unique(names)), "groups") if len(names) else (size, "rows")
    if found < folds:
        raise DataError(f"{found} {what} can't be cut into {folds} folds: set fewer folds")
    rows = np.arange(size)
    if len(names):
        return list(GroupKFold(folds).split(rows, groups=names))
    # A class with fewer rows than folds is scored in some of them only, which is fine.
    if classes is not None and np.unique(classes, return_counts=True)[1].max() >= folds:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            return list(splitter.split(rows, classes))
    return list(KFold(folds, shuffle=True, random_state=seed % 2**32).split(rows))
