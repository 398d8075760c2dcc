import numpy as np
import pytest

from polymodal.ground.labels import class_name


@pytest.mark.parametrize(
    ("value", "name"),
    [(1, "1"), (1.0, "1"), ("1", "1"), (np.float32(0), "0"), (-2.0, "-2"), (0.5, "0.5"),
     ("1.0", "1.0"), (1e300, str(int(1e300))), (float("inf"), "inf"), (True, "True")],
)  # fmt: skip
def test_whole_numbers_have_one_name_however_they_are_stored(value, name):
    assert class_name(value) == name
