"""Today's spelling of options from before they were parts. Needs no torch."""

from collections.abc import Mapping
from typing import Any


def pooled(options: Mapping[str, Any]) -> dict[str, Any]:
    """Spell `pool: attention` as a part; `pool: encoder` was the default and still is."""
    found = dict(options)
    if found.get("pool") == "attention":
        found["pool"] = {"use": "pooling.attention"}
    elif found.get("pool") == "encoder":
        del found["pool"]
    return found
