"""Divided space-time attention (TimeSformer: Bertasius et al., 2021), packed, without padding."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import EPSILON, Block, Layout, Maps, Point, Rotation, SelfAttention, Surroundings


@dataclass(frozen=True, eq=False)
class Grouping:
    """The tokens of a layout dealt to groups: what shares a place, or what shares a time."""

    layout: Layout  # one segment a group that has tokens, ascending by key
    keys: Int[Tensor, " group"]
    order: Int[Tensor, " token"]  # the old row of each new one
    back: Int[Tensor, " token"]  # the new row of each old one

    @classmethod
    def by(cls, layout: Layout, key: Int[Tensor, " token"]) -> "Grouping":
        """Return the tokens by ascending key, in their old order within each (waits once)."""
        order = key.argsort(stable=True)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        keys, counts = torch.unique_consecutive(key[order], return_counts=True)
        grouped = Layout.of(counts.tolist(), layout.positions[order])
        return cls(grouped, keys, order, back)


def by_place(layout: Layout, extent: tuple[int, ...]) -> Grouping:
    """Group the tokens at one row and column of a segment: what temporal attention mixes."""

    def make() -> Grouping:
        _, row, column = layout.positions.unbind(dim=1)
        return Grouping.by(layout, (layout.segment * extent[1] + row) * extent[2] + column)

    return layout.cached(("by place", extent), make)


def by_time(layout: Layout, extent: tuple[int, ...]) -> Grouping:
    """Group the tokens at one time of a segment: what spatial attention mixes."""

    def make() -> Grouping:
        return Grouping.by(layout, layout.segment * extent[0] + layout.positions[:, 0])

    return layout.cached(("by time", extent), make)


class SpaceTimeBlock(nn.Module):
    """Attention over time at each place, then a block over space at each time (section 3, T+S).

    Each of the two attentions and the perceptron is normalised before and added back after, as in
    the paper's figure 2. It is called as the core's `Block`, whose place it takes:

        before_time, time_norm, time_attention, after_time    the temporal half, as in `Block`
        block                                                 the core's Block, over space
    """

    def __init__(self, block: Block, *, heads: int, dropout: float, extent: tuple[int, ...]):
        super().__init__()
        self.extent = extent
        width = block.attention.out.in_features
        self.before_time = Point()
        self.time_norm = nn.LayerNorm(width, eps=EPSILON)
        self.time_attention = SelfAttention(width, heads, causal=False, dropout=dropout)
        for linear in (self.time_attention.qkv, self.time_attention.out):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.after_time = Point()
        self.drop = nn.Dropout(dropout)
        self.block = block

    def forward(
        self,
        vectors: Float[Tensor, "token width"],
        around: Surroundings,
        keep: Float[Tensor, "2 token 1"] | None = None,
        *,
        tap: bool = False,
    ) -> tuple[Float[Tensor, "token width"], Maps | None]:
        """Return the block's vectors; never maps, as no map covers a clip.

        `keep` is what drop path multiplies the attentions and the perceptron by.
        """
        assert not tap
        layout = around.layout
        place, time = by_place(layout, self.extent), by_time(layout, self.extent)
        x = self.before_time(vectors, layout)
        branch, _ = self.time_attention(self.time_norm(x)[place.order], _regrouped(around, place))
        branch = self.drop(self.after_time(branch[place.back], layout))
        x = x + (branch if keep is None else branch * keep[0])
        x, _ = self.block(
            x[time.order],
            _regrouped(around, time),
            None if keep is None else keep[:, time.order],
        )
        return x[time.back], None


def _regrouped(around: Surroundings, grouping: Grouping) -> Surroundings:
    rotation = around.rotation
    if rotation is not None:
        rotation = cast(Rotation, tuple(part[grouping.order] for part in rotation))
    return Surroundings(grouping.layout, rotation=rotation)
