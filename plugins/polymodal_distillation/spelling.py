"""Today's spelling of options from before they were parts. Needs no torch."""

from collections.abc import Mapping
from typing import Any

from polymodal import nearest

_SHAPES = {"block": "hiding.blocks", "random": "hiding.tokens"}


def ibot(options: Mapping[str, Any]) -> dict[str, Any]:
    """Spell `distillation.ibot`, whose ratio and shape are today's `hide`.

    Raises:
        ValueError: an unknown shape, or old options beside `hide`.
    """
    taken = {name: options[name] for name in ("ratio", "shape") if options.get(name) is not None}
    rest = {name: value for name, value in options.items() if name not in ("ratio", "shape")}
    if not taken:
        return rest
    if rest.get("hide") is not None:
        raise ValueError(f"{next(iter(taken))} is today an option of the part 'hide': put it there")
    shape = taken.get("shape", "block")
    if shape not in _SHAPES:
        raise ValueError(
            f"shape must be block or random, got {shape!r}.{nearest(str(shape), _SHAPES)}"
        )
    return {**rest, "hide": {"use": _SHAPES[shape], "ratio": taken.get("ratio", 0.3)}}
