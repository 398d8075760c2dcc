"""A transformer's block: attention, cross-attention if there is a memory, and a perceptron."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.nn.positions import Rotation, rotate
from polymodal.packed.attention import Edges, attend, attention_maps
from polymodal.packed.layout import Layout
from polymodal.packed.tokens import Encoded

Norm = Literal["pre", "post"]
Activation = Literal["gelu", "swiglu"]
Maps = tuple[Float[Tensor, "head _query _key"], ...]

EPSILON = 1e-6  # of layer norms, as timm's ViT


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What every block of one pass shares."""

    layout: Layout
    memory: Encoded | None = None
    rotation: Rotation | None = None
    memory_rotation: Rotation | None = None
    edge_bias: Float[Tensor, "edge head"] | None = None


class Point(nn.Module):
    """A place where a method can attach; an identity until one does."""

    def forward(self, vectors: Float[Tensor, "token width"], layout: Layout) -> Tensor:
        """Return vectors for the same rows."""
        return vectors


def _attend_within(
    q: Tensor, k: Tensor, v: Tensor, around: Surroundings, *, causal: bool, edges: Edges,
    guided: tuple[int, ...], dropout: float, tap: bool,
) -> tuple[Float[Tensor, "token width"], Maps | None]:  # fmt: skip
    seen: dict[str, Any] = {
        "causal": causal, "edges": edges, "guided": guided, "edge_bias": around.edge_bias,
    }  # fmt: skip
    mixed = attend(q, k, v, around.layout, dropout=dropout, **seen)
    return _flat(mixed), attention_maps(q, k, around.layout, **seen) if tap else None


def _attend_across(
    q: Tensor, k: Tensor, v: Tensor, around: Surroundings, *, dropout: float
) -> Float[Tensor, "token width"]:
    assert around.memory is not None
    return _flat(attend(q, k, v, around.layout, memory=around.memory.layout, dropout=dropout))


def _flat(mixed: Tensor) -> Float[Tensor, "token width"]:
    """Return heads side by side, as no view: a graph is bound to what its inputs are views of."""
    flat: Tensor = torch.ops.aten._unsafe_view(
        mixed.contiguous(), (len(mixed), mixed.shape[1] * mixed.shape[2])
    )
    return flat


class SelfAttention(nn.Module):
    """Multi-head attention of each segment to itself."""

    attend = staticmethod(_attend_within)  # `compile_each` puts one there that isn't traced

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool,
        dropout: float,
        edges: Edges = "ignore",
        guided: tuple[int, ...] = (),
    ):
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.edges: Edges = edges
        self.guided = guided
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, vectors: Float[Tensor, "token width"], around: Surroundings, *, tap: bool = False
    ) -> tuple[Float[Tensor, "token width"], Maps | None]:
        """Return attention's output and, if tapped, its maps."""
        q, k, v = self.qkv(vectors).unflatten(1, (3, self.heads, -1)).unbind(1)
        if around.rotation is not None:
            q, k = rotate(q, around.rotation), rotate(k, around.rotation)
        mixed, maps = self.attend(
            q, k, v, around,
            causal=self.causal, edges=self.edges, guided=self.guided,
            dropout=self.dropout if self.training else 0.0, tap=tap,
        )  # fmt: skip
        return self.out(mixed), maps


class CrossAttention(nn.Module):
    """Multi-head attention of segment s to segment s of another encoder's output."""

    attend = staticmethod(_attend_across)

    def __init__(self, width: int, memory_width: int, heads: int, *, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(memory_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, vectors: Float[Tensor, "token width"], around: Surroundings
    ) -> Float[Tensor, "token width"]:
        """Return attention's output."""
        memory = around.memory
        assert memory is not None
        q = self.query(vectors).unflatten(1, (self.heads, -1))
        k, v = self.key_value(memory.vectors).unflatten(1, (2, self.heads, -1)).unbind(1)
        if around.rotation is not None and around.memory_rotation is not None:
            q, k = rotate(q, around.rotation), rotate(k, around.memory_rotation)
        dropout = self.dropout if self.training else 0.0
        return self.out(self.attend(q, k, v, around, dropout=dropout))


class Mlp(nn.Module):
    """The block's perceptron: GELU, or SwiGLU (Shazeer, 2020) at two thirds of the hidden width."""

    def __init__(self, width: int, ratio: float, activation: Activation, dropout: float):
        super().__init__()
        self.activation = activation
        if activation == "swiglu":
            hidden = max(8, -(-int(width * ratio * 2 / 3) // 8) * 8)  # whole tiles of 8
            self.up = nn.Linear(width, 2 * hidden)
        else:
            hidden = max(1, int(width * ratio))
            self.up = nn.Linear(width, hidden)
        self.drop = nn.Dropout(dropout)
        self.down = nn.Linear(hidden, width)

    def forward(self, vectors: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
        """Return the perceptron's output."""
        hidden = self.up(vectors)
        if self.activation == "swiglu":
            gate, value = hidden.chunk(2, dim=-1)
            hidden = nn.functional.silu(gate) * value
        else:
            hidden = nn.functional.gelu(hidden)
        return self.down(self.drop(hidden))


class Block(nn.Module):
    """Attention, cross-attention if there is a memory, and a perceptron, each added back."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        mlp_ratio: float,
        norm: Norm,
        activation: Activation,
        causal: bool,
        edges: Edges,
        guided: tuple[int, ...],
        cross_width: int | None,
        dropout: float,
    ):
        super().__init__()
        self.pre = norm == "pre"
        self.before_attention = Point()
        self.attention_norm = nn.LayerNorm(width, eps=EPSILON)
        self.attention = SelfAttention(
            width, heads, causal=causal, dropout=dropout, edges=edges, guided=guided
        )
        self.after_attention = Point()
        self.cross_norm = self.cross_attention = None
        if cross_width is not None:
            self.cross_norm = nn.LayerNorm(width, eps=EPSILON)
            self.cross_attention = CrossAttention(width, cross_width, heads, dropout=dropout)
        self.mlp_norm = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = Mlp(width, mlp_ratio, activation, dropout)
        self.after_mlp = Point()
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        vectors: Float[Tensor, "token width"],
        around: Surroundings,
        keep: Float[Tensor, "2 token 1"] | None = None,
        *,
        tap: bool = False,
    ) -> tuple[Float[Tensor, "token width"], Maps | None]:
        """Return the block's vectors and, if tapped, its attention maps.

        `keep` is what drop path multiplies the two branches by.
        """
        layout = around.layout
        x = self.before_attention(vectors, layout)
        branch, maps = self.attention(self.attention_norm(x) if self.pre else x, around, tap=tap)
        branch = self.drop(self.after_attention(branch, layout))
        x = x + (branch if keep is None else branch * keep[0])
        if not self.pre:
            x = self.attention_norm(x)
        if self.cross_attention is not None and self.cross_norm is not None:
            branch = self.cross_attention(self.cross_norm(x) if self.pre else x, around)
            x = x + self.drop(branch)
            if not self.pre:
                x = self.cross_norm(x)
        branch = self.mlp(self.mlp_norm(x) if self.pre else x)
        branch = self.drop(self.after_mlp(branch, layout))
        x = x + (branch if keep is None else branch * keep[1])
        if not self.pre:
            x = self.mlp_norm(x)
        return x, maps
