"""How far packed data may grow: a small file that unpacks without end is refused early."""

from polymodal.ground.errors import DataError

FREE = 2**30
"""Bytes that anything may unpack to."""

MOST_TIMES = 100
"""How many times its size a file may unpack to beyond that; tables and sequences take 3 to 20."""


def check_growth(name: str, packed: int, unpacked: int) -> None:
    """Refuse what has unpacked to far more than its size; to be asked while it is being unpacked.

    Raises:
        DataError: beyond `FREE` bytes and `MOST_TIMES` the packed size.
    """
    if unpacked > FREE and unpacked > MOST_TIMES * packed:
        raise DataError(
            f"{name} unpacks to more than {MOST_TIMES} times its {packed} bytes, as no real data "
            "does; if it is right, unpack it yourself"
        )
