"""Where a token is: vectors to add (sinusoidal, learned) and rotations of queries and keys."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from polymodal.nn.weights import Table
from polymodal.packed.layout import Layout

PositionKind = Literal["sinusoidal", "learned", "none"]


def sinusoids(
    positions: Shaped[Tensor, "token axis"], width: int, *, base: float = 10_000.0
) -> Float[Tensor, "token width"]:
    """Return sines and cosines of each axis at geometric wavelengths, axis after axis.

    Vaswani et al. (2017), section 3.5; each axis gets an equal, even share of the width, sines
    first, and what is left over at the end stays zero. Positions need not be whole numbers.
    """
    axes = positions.shape[1]
    half = width // (2 * axes)
    if not half:
        raise ValueError(f"{axes} axes need a width of at least {2 * axes}, got {width}")
    power = torch.arange(half, dtype=torch.float32, device=positions.device) / half
    angles = positions.to(torch.float32)[..., None] * base**-power  # token axis half
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return nn.functional.pad(waves, (0, width - waves.shape[1]))


class Positions(nn.Module):
    """A vector for each token's position on any number of axes, to add to the token's own.

    Args:
        width: of the vectors.
        axes: columns of `Layout.positions`.
        kind: "sinusoidal" (any positions, fractions too; the amplitude is learned), "learned" (a
            table for each axis, the axes' vectors are added up) or "none" (zeros).
        extent: how many positions each axis has; needed by "learned" only.

    Raises:
        ValueError: "learned" without extents, or not one for each axis.
    """

    def __init__(
        self,
        width: int,
        axes: int,
        *,
        kind: PositionKind = "sinusoidal",
        extent: Sequence[int] | None = None,
    ):
        super().__init__()
        self.width = width
        self.axes = axes
        self.kind = kind
        self.extent = None if extent is None else tuple(extent)
        if kind == "learned":
            if self.extent is None:
                raise ValueError(
                    "learned positions need a bound on each axis, but the tokens have none: "
                    "use sinusoidal or rotary positions"
                )
            if len(self.extent) != axes:
                raise ValueError(f"{axes} axes need {axes} extents, got {self.extent}")
            self.tables = nn.ModuleList(Table(size, width) for size in self.extent)
        elif kind == "sinusoidal":
            if width < 2 * axes:
                raise ValueError(f"{axes} axes need a width of at least {2 * axes}, got {width}")
            self.scale = nn.Parameter(torch.ones(1))  # [1]: FSDP2 refuses scalars
        elif kind != "none":
            raise ValueError(f"kind must be 'sinusoidal', 'learned' or 'none', got {kind!r}")

    def forward(self, positions: Shaped[Tensor, "token axis"]) -> Float[Tensor, "token width"]:
        """Return the vectors.

        Raises:
            ValueError: positions with another number of axes, or fractions for a learned table.
        """
        if positions.shape[1] != self.axes:
            raise ValueError(f"made for {self.axes} axes, got positions with {positions.shape[1]}")
        if self.kind == "none":
            return torch.zeros(len(positions), self.width, device=positions.device)
        if self.kind == "sinusoidal":
            return sinusoids(positions, self.width) * self.scale
        if positions.is_floating_point():
            raise ValueError("learned positions must be whole numbers: use sinusoidal")
        vectors = self.tables[0](positions[:, 0])
        for axis in range(1, self.axes):
            vectors = vectors + self.tables[axis](positions[:, axis])
        return vectors


Rotation = tuple[Float[Tensor, "token 1 pair"], Float[Tensor, "token 1 pair"]]
"""Cosines and sines of each token's angles."""


class Rotary(nn.Module):
    """Rotary positions on one or several axes (Su et al., 2021; by axis as Heo et al., 2024).

    The pairs of a head's channels are dealt to the axes in equal shares; left-over pairs do not
    turn. What two tokens see of each other then depends on the difference of their positions.
    A token at position 0 on every axis is left as it is.

    Args:
        dim: width of a head.
        axes: columns of `Layout.positions`.
        base: of the wavelengths; 10000 for one axis and 100 for several unless given.

    Raises:
        ValueError: a head too narrow to give each axis a pair, or odd.
    """

    frequencies: Tensor

    def __init__(self, dim: int, axes: int, *, base: float | None = None):
        super().__init__()
        if dim % 2 or dim < 2 * axes:
            raise ValueError(
                f"rotary positions on {axes} axes need an even head width of at least {2 * axes}, "
                f"got {dim}"
            )
        self.dim = dim
        self.axes = axes
        self.base = base if base is not None else (10_000.0 if axes == 1 else 100.0)
        share = dim // 2 // axes
        frequencies = torch.zeros(axes, dim // 2)
        for axis in range(axes):
            power = torch.arange(share, dtype=torch.float32) / share
            frequencies[axis, axis * share : (axis + 1) * share] = self.base**-power
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, layout: Layout) -> Rotation:
        """Return cosines and sines for a layout's tokens, worked out once a layout.

        Raises:
            ValueError: positions with another number of axes.
        """
        return layout.cached(
            ("rotary", self.dim, self.axes, self.base), lambda: self.angles(layout.positions)
        )

    def angles(self, positions: Shaped[Tensor, "token axis"]) -> Rotation:
        """Return cosines and sines for positions."""
        if positions.shape[1] != self.axes:
            raise ValueError(f"made for {self.axes} axes, got positions with {positions.shape[1]}")
        # A sum rather than a matrix product, which autocast would round to bfloat16.
        angles = (positions.to(torch.float32)[..., None] * self.frequencies).sum(dim=1)
        return angles.cos()[:, None], angles.sin()[:, None]


def rotate(
    rows: Float[Tensor, "token head dim"], rotation: Rotation
) -> Float[Tensor, "token head dim"]:
    """Turn queries or keys; channel i is paired with channel i + dim / 2."""
    cosine, sine = rotation
    first, second = rows.chunk(2, dim=-1)
    turned = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    return turned.to(rows.dtype)
