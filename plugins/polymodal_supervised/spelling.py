"""Today's spelling of options from before they were parts. Needs no torch."""

from collections.abc import Mapping
from typing import Any

from polymodal import nearest


def pooled(options: Mapping[str, Any]) -> dict[str, Any]:
    """Spell `pool: attention` as a part; `pool: encoder` was the default and still is.

    Raises:
        ValueError: a word that is neither.
    """
    pool = options.get("pool")
    if not isinstance(pool, str) or "." in pool:
        return dict(options)
    if pool == "attention":
        return {**options, "pool": {"use": "pooling.attention"}}
    if pool != "encoder":
        hint = nearest(pool, ["encoder", "attention"])
        raise ValueError(f"pool must be encoder, attention or a part, got {pool!r}.{hint}")
    return {name: value for name, value in options.items() if name != "pool"}
