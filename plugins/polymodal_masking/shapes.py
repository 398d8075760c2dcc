"""Which shape hidden places have: single tokens, blocks of the plane, or tubes through time."""

from typing import Literal

from polymodal import Step, StreamInfo, Tokens
from polymodal_masking.choice import (
    Choice,
    Rounding,
    block_scores,
    choose,
    choose_units,
    hidden_counts,
    tube_units,
)
from polymodal_masking.context import Context

Shape = Literal["random", "block", "tube"]


def check_shape(shape: Shape, info: StreamInfo) -> Shape:
    """Return a shape that the stream's positions can take.

    Raises:
        ValueError: blocks or tubes where positions have one axis only.
    """
    if shape != "random" and info.spec.axes < 2:
        raise ValueError(
            f"shape: {shape} needs positions with two axes or more, but the stream's have "
            f"{info.spec.axes}; use random"
        )
    return shape


def choose_places(
    step: Step,
    context: Context,
    tokens: Tokens,
    samples: list[int] | None,
    *,
    shape: Shape,
    ratio: float,
    rounding: Rounding = "nearest",
    at_least: int = 1,
    leave: int = 1,
) -> Choice:
    """Hide a share of every segment; at least one token, and one stays (none of a lone token)."""
    layout = tokens.layout
    counts = hidden_counts(layout.lengths, ratio, rounding=rounding, at_least=at_least, leave=leave)
    noise = context.noise(step, "choice", samples)
    if shape == "tube":
        return choose_units(noise, tube_units(layout), layout, counts)
    if shape == "block":
        noise = block_scores(
            noise,
            context.noise(step, "area", samples),
            context.noise(step, "aspect", samples),
            layout,
        )
    return choose(noise, layout, counts)
