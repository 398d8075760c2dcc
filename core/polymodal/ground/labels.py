"""What a label is called: values that stand for one class have one name."""

from typing import Any

import numpy as np


def class_name(value: Any) -> str:
    """Return a label as text, so that 1, 1.0 and "1" are one class.

    Where a column of whole numbers has gaps, pandas and others make fractions of them: 0.0 is the
    class "0". Other fractions keep their point.
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
