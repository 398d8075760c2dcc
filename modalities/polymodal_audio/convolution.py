"""A convolutional encoder for sound: strided stem, then depthwise convolutions over the grid."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import (
    NO_TAPS,
    Encoded,
    Encoder,
    FromRun,
    Layout,
    Positions,
    Taps,
    Tokens,
    TokenSpec,
    segment_mean,
)


class StridedStem(nn.Module):
    """Strided convolutions within each frame of samples, then their mean: one vector a frame.

    The feature encoder of wav2vec 2.0 (Baevski et al., 2020, section 2), kept inside the frame so
    that a token depends on no other.
    """

    def __init__(self, frame: int, width: int, strides: Sequence[int]):
        super().__init__()
        left = frame
        for stride in strides:
            if stride < 1:
                raise ValueError(f"strides must be at least 1, got {list(strides)}")
            left = (left + 2 * (stride // 2) - 2 * stride) // stride + 1
        if left < 1 or not strides:
            raise ValueError(
                f"strides {list(strides)} leave nothing of a frame of {frame} samples: give "
                "smaller ones, at least one, or a longer frame"
            )
        layers: list[nn.Module] = []
        channels = 1
        for stride in strides:
            # A kernel of twice the stride sees each sample twice; it is centred by the padding.
            layers += [
                nn.Conv1d(channels, width, 2 * stride, stride, padding=stride // 2),
                nn.GELU(),
            ]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, frames: Float[Tensor, "token frame"]) -> Float[Tensor, "token width"]:
        """Return a vector for each frame."""
        out: Tensor = self.layers(frames[:, None])
        return out.mean(dim=2)


class Block(nn.Module):
    """Depthwise convolution over a grid, then a two-layer network (Liu et al., ConvNeXt, 2022).

    Vectors stay packed; only the depthwise convolution sees the rectangle they are scattered to,
    with zeros wherever no token lies, so that nothing leaks between samples.
    """

    def __init__(self, width: int, axes: int, *, kernel: int, ratio: float, dropout: float):
        super().__init__()
        convolution = nn.Conv1d if axes == 1 else nn.Conv2d
        self.depthwise = convolution(width, width, kernel, padding=kernel // 2, groups=width)
        hidden = max(1, round(width * ratio))
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Dropout(dropout)
        )

    def forward(
        self,
        vectors: Float[Tensor, "token width"],
        cell: Int[Tensor, " token"],
        grid: tuple[int, ...],
    ) -> Float[Tensor, "token width"]:
        """Return the vectors after the block; `cell` is each one's place in `grid`, flattened."""
        width = vectors.shape[1]
        flat = vectors.new_zeros(math.prod(grid), width).index_put((cell,), vectors)
        image = flat.reshape(*grid, width).movedim(-1, 1)
        mixed = self.depthwise(image).movedim(1, -1).reshape(-1, width)[cell]
        return vectors + self.mlp(self.norm(mixed))


class ConvolutionEncoder(Encoder):
    """Encodes mel patches or waveform frames by convolutions, one vector a token.

    With one position axis (frames) the stem is strided convolutions inside each frame; with two
    (patches) it is one linear map, which is what a convolution with kernel and stride of a patch
    comes to. The trunk convolves over time, or over time and frequency, by the tokens'
    positions: a dropped token leaves a hole of zeros and does not bring its neighbours together.
    Positions must be whole and differ within a segment. Finding the extent of the grid waits
    for the device once a pass.

    Args:
        spec: of the tokens; values, with one or two axes.
        width: of the vectors.
        depth: number of blocks.
        kernel: tokens an axis that a block sees; odd.
        mlp_ratio: hidden width of a block's network, in widths.
        strides: of the stem's convolutions; used with one axis only.
        positions: vectors added for the position ("none" leaves patches unaware of their band).
        pool: how a segment's vectors become one.
        dropout: share of a block's output zeroed when training.

    Raises:
        ValueError: tokens with ids or more than two axes; an even kernel.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        width: int = 192,
        depth: int = 6,
        kernel: int = 7,
        mlp_ratio: float = 4.0,
        strides: tuple[int, ...] = (5, 4, 4),
        positions: Literal["sinusoidal", "none"] = "sinusoidal",
        pool: Literal["mean", "max"] = "mean",
        dropout: float = 0.0,
    ):
        super().__init__()
        if not spec.features:
            raise ValueError("audio.conv takes tokens with values, but these have ids")
        if spec.axes not in (1, 2):
            raise ValueError(f"audio.conv takes one or two position axes, got {spec.axes}")
        if width < 1 or depth < 0:
            raise ValueError(f"width must be above 0 and depth at least 0, got {width}, {depth}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie from 0 to below 1, got {dropout}")
        if pool not in ("mean", "max"):
            raise ValueError(f"pool must be mean or max, got {pool!r}")
        self.width = width
        self.axes = spec.axes
        self.pool = pool
        self.stem: nn.Module
        if spec.axes == 1:
            self.stem = StridedStem(spec.features, width, strides)
        else:
            self.stem = nn.Linear(spec.features, width)
        # Positions of a few patches beside vectors of about one: as strong as the content.
        self.positions = Positions(width, spec.axes, kind=positions)
        self.blocks = nn.ModuleList(
            Block(width, spec.axes, kernel=kernel, ratio=mlp_ratio, dropout=dropout)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the stem's vectors, with positions added."""
        if tokens.values is None:
            raise ValueError("audio.conv takes tokens with values, but these have ids")
        vectors = self.stem(tokens.values)
        vectors = vectors + self.positions(tokens.layout.positions).to(vectors.dtype)
        return Encoded.mean_pooled(tokens.layout, vectors)

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the trunk's vectors; hidden taps are blocks, from 0.

        Raises:
            ValueError: a tap of attention, or of a block there is none of.
        """
        if taps.attention:
            raise ValueError("audio.conv has no attention maps to tap")
        depth = len(self.blocks)
        for tap in taps.hidden:
            if not -depth <= tap < depth:
                raise ValueError(f"no block {tap} to tap: there are {depth}")
        layout, vectors = encoded.layout, encoded.vectors
        hidden: dict[int, Tensor] = {}
        cell, grid = _grid(layout, self.axes)
        for number, block in enumerate(self.blocks):
            vectors = block(vectors, cell, grid)
            for tap in taps.hidden:
                if tap % depth == number:
                    hidden[tap] = vectors
        vectors = self.norm(vectors)
        pooled = segment_mean(vectors, layout) if self.pool == "mean" else _max(vectors, layout)
        return replace(encoded, vectors=vectors, pooled=pooled, hidden=hidden)

    def layers(self) -> list[nn.Module]:
        """Return stem and blocks."""
        return [self.stem, *self.blocks]


def _grid(layout: Layout, axes: int) -> tuple[Int[Tensor, " token"], tuple[int, ...]]:
    """Return each token's cell in a rectangle [segment, *axis], flattened, and its shape."""
    if not layout.tokens:  # one empty cell, since convolutions refuse none
        return layout.segment, (1, *[1] * axes)
    if layout.positions.is_floating_point():
        raise ValueError("audio.conv needs positions that are whole numbers")
    # Each segment's positions count from its own least one: a late crop costs no empty cells.
    index = layout.segment[:, None].expand(-1, axes)
    least = layout.positions.new_zeros(layout.segments, axes).scatter_reduce(
        0, index, layout.positions[:, :axes], "amin", include_self=False
    )
    place = layout.positions[:, :axes] - least[layout.segment]
    sizes = [most + 1 for most in place.amax(dim=0).tolist()]
    cell = layout.segment
    for axis, size in enumerate(sizes):
        cell = cell * size + place[:, axis]
    return cell, (layout.segments, *sizes)


def _max(vectors: Float[Tensor, "token width"], layout: Layout) -> Float[Tensor, "segment width"]:
    index = layout.segment[:, None].expand_as(vectors)
    empty = vectors.new_zeros(layout.segments, vectors.shape[1])
    return empty.scatter_reduce(0, index, vectors, "amax", include_self=False)
