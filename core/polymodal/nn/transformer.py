"""A transformer over packed rows, shared by every encoder of sequence-like tokens.

Names inside are stable, for methods that replace parts of it (LoRA, adapters, prompts):

    blocks.<i>.before_attention             Point: the residual stream as it enters the block
    blocks.<i>.attention_norm               LayerNorm
    blocks.<i>.attention.qkv                Linear(width, 3 * width): queries, keys, values
    blocks.<i>.attention.out                Linear(width, width)
    blocks.<i>.after_attention              Point: attention's output, before it is added back
    blocks.<i>.cross_norm                   LayerNorm              } only with cross_width
    blocks.<i>.cross_attention.query        Linear(width, width)   }
    blocks.<i>.cross_attention.key_value    Linear(cross_width, 2 * width)
    blocks.<i>.cross_attention.out          Linear(width, width)   }
    blocks.<i>.mlp_norm                     LayerNorm
    blocks.<i>.mlp.up, .mlp.down            Linear; with SwiGLU `up` holds gate and value
    blocks.<i>.after_mlp                    Point: the MLP's output, before it is added back
    norm                                    LayerNorm of the result; Identity with norm="post"

A `Point` is an identity called with (vectors, layout): replace it by any module that returns
vectors for the same rows.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Unpack, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.compiler import set_stance
from torch.utils.checkpoint import checkpoint

from polymodal.interfaces.encoder import NO_TAPS, Taps
from polymodal.interfaces.groups import filled
from polymodal.nn.blocks import EPSILON, Activation, Block, Maps, Norm, Surroundings
from polymodal.nn.checkpointing import Checkpointing, casting_anew, contexts
from polymodal.nn.compiling import compile_each, sizes_apart
from polymodal.nn.positions import Rotary
from polymodal.nn.sizes import BlockOptions
from polymodal.nn.weights import initial_spread
from polymodal.packed.layout import Layout
from polymodal.packed.tokens import Encoded

EdgeMode = Literal["ignore", "restrict", "bias", "guide"]
Between = Callable[[int, Tensor, Layout], tuple[Tensor, Layout]]
"""`between(number, vectors, layout)`: what goes on after a block, perhaps with other rows."""


@dataclass(frozen=True, eq=False)
class Transformed:
    """What a transformer gives: vectors, and what was tapped, by the block numbers asked for."""

    vectors: Float[Tensor, "token width"]
    layout: Layout  # the one given, unless rows changed between blocks
    hidden: dict[int, Float[Tensor, "token width"]] = field(default_factory=dict)
    attention: dict[int, Maps] = field(default_factory=dict)


class Transformer(nn.Module):
    """Blocks of attention and perceptrons over packed rows; parts have the names listed above.

    Args:
        width: of the vectors.
        depth: how many blocks.
        heads: of attention; must divide the width.
        rotary_axes: above 0, queries and keys turn with `Layout.positions` of so many axes.
        causal: no token sees a later one of its segment.
        cross_width: width of a memory to attend to after self-attention; None: no memory.
        cross_rotary: turn the queries and keys of cross-attention, too: the memory's positions are
            in the same space (another view of the scene).
        edges: "restrict" lets a token see itself and the sources of its edges; "bias" lets it see
            all, with a learned bias for each head where there is an edge, shared by all blocks
            (Graphormer, Ying et al., 2021, section 3.1.2). The bias follows the edge's kind and
            values, and is added with "restrict" as well. "guide" restricts tokens of the `guided`
            kinds alone, with no bias: they meet themselves and others along edges, and the others
            meet freely (GraphCodeBERT, Guo et al., 2021, section 4.2).
        guided: with "guide", these kinds, by their numbers in `Layout.kinds`.
        edge_kinds: how many kinds `Layout.edge_kinds` has; 0: one.
        edge_features: columns of `Layout.edge_values`.
        blocks: how they are made; see `BlockOptions`.

    Raises:
        ValueError: a width that heads don't divide, a share outside [0, 1), or options that need
            others.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        rotary_axes: int = 0,
        causal: bool = False,
        cross_width: int | None = None,
        cross_rotary: bool = False,
        edges: EdgeMode = "ignore",
        guided: Sequence[int] = (),
        edge_kinds: int = 0,
        edge_features: int = 0,
        **blocks: Unpack[BlockOptions],
    ):
        super().__init__()
        made = filled(BlockOptions, blocks)
        norm, activation, dropout = made["norm"], made["activation"], made["dropout"]
        drop_path, gradient_checkpointing = made["drop_path"], made["gradient_checkpointing"]
        if width <= 0 or heads <= 0 or width % heads:
            raise ValueError(f"heads must divide the width, got {heads} heads for {width}")
        choices = {"norm": (norm, Norm), "activation": (activation, Activation),
                   "edges": (edges, EdgeMode)}  # fmt: skip
        for name, (value, choice) in choices.items():
            if value not in get_args(choice):
                allowed = ", ".join(get_args(choice))
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        if gradient_checkpointing not in (False, True, "alternate", "selective"):
            raise ValueError(
                "gradient_checkpointing must be true, false, alternate or selective, "
                f"got {gradient_checkpointing!r}"
            )
        if depth < 0:
            raise ValueError(f"depth must be 0 or more, got {depth}")
        for name, share in {"dropout": dropout, "drop_path": drop_path}.items():
            if not 0 <= share < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {share}")
        if cross_rotary and not (rotary_axes and cross_width):
            raise ValueError("cross_rotary needs rotary_axes and a cross_width")
        if (edges == "guide") != bool(guided):
            raise ValueError(f"edges 'guide' and guided kinds go together, got {edges!r}, {guided}")
        self.width = width
        self.edges = edges
        self.cross_width = cross_width
        self.cross_rotary = cross_rotary
        self.dropout = dropout
        self.gradient_checkpointing: Checkpointing = gradient_checkpointing
        self.compiled = False
        self.rotary = Rotary(width // heads, rotary_axes) if rotary_axes else None
        self.edge_kind_bias = self.edge_value_bias = None
        if edges in ("restrict", "bias"):
            self.edge_kind_bias = nn.Embedding(max(edge_kinds, 1), heads)
            if edge_features:
                self.edge_value_bias = nn.Linear(edge_features, heads, bias=False)
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                mlp_ratio=made["mlp_ratio"],
                norm=norm,
                activation=activation,
                causal=causal,
                edges="ignore" if edges == "bias" else edges,
                guided=tuple(guided),
                cross_width=cross_width,
                dropout=dropout,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=EPSILON) if norm == "pre" else nn.Identity()
        self.drop_paths = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.apply(partial(_initialise, width=width))

    def forward(
        self,
        vectors: Float[Tensor, "token width"],
        layout: Layout,
        *,
        memory: Encoded | None = None,
        taps: Taps = NO_TAPS,
        between: Between | None = None,
    ) -> Transformed:
        """Return vectors for the same rows, and what was tapped.

        A tapped hidden layer is the residual stream as it leaves that block, before the last norm.
        `between` is called with each block's number, vectors and layout, and returns those to go
        on with: as many segments, but perhaps fewer tokens (token merging).

        Raises:
            ValueError: a tap there is no block for; a memory missing, or given without cross_width.
        """
        if (memory is None) != (self.cross_width is None):
            raise ValueError("a transformer takes a memory exactly if it has a cross_width")
        depth = len(self.blocks)
        for number in (*taps.hidden, *taps.attention):
            if not -depth <= number < depth:
                raise ValueError(f"no block {number} to tap: there are {depth}, 0 to {depth - 1}")
        around = self._around(layout, memory)
        if not self.compiled:
            return self._through(vectors, around, taps, between)
        with sizes_apart():
            return self._through(vectors, around, taps, between)

    def _around(self, layout: Layout, memory: Encoded | None) -> Surroundings:
        return Surroundings(
            layout,
            memory,
            None if self.rotary is None else self.rotary(layout),
            self.rotary(memory.layout) if self.rotary and memory and self.cross_rotary else None,
            self.edge_bias(layout),
        )

    def _through(
        self, vectors: Tensor, around: Surroundings, taps: Taps, between: Between | None
    ) -> Transformed:
        depth = len(self.blocks)
        keeps = self._keep(around.layout, vectors.dtype)
        hidden: dict[int, Tensor] = {}
        attention: dict[int, Maps] = {}
        for number, block in enumerate(self.blocks):
            wanted = [n for n in taps.attention if n % depth == number]
            keep = None if keeps is None else keeps[number][:, around.layout.segment]
            if self._again(number):
                vectors, maps = checkpoint(
                    self._run, block, vectors, around, keep,
                    tap=bool(wanted), use_reentrant=False,
                    context_fn=contexts(self.gradient_checkpointing, attention=not self.dropout),
                )  # fmt: skip
            else:
                vectors, maps = self._run(block, vectors, around, keep, tap=bool(wanted))
            attention.update(dict.fromkeys(wanted, maps))
            hidden.update({n: vectors for n in taps.hidden if n % depth == number})
            if between is not None:
                vectors, layout = between(number, vectors, around.layout)
                if layout is not around.layout:
                    around = self._around(layout, around.memory)
        return Transformed(self.norm(vectors), around.layout, hidden, attention)

    def _again(self, number: int) -> bool:
        """Whether this block is worked out again in the backward pass."""
        skipped = self.gradient_checkpointing == "alternate" and number % 2 == 1
        return bool(self.gradient_checkpointing) and not skipped and torch.is_grad_enabled()

    def _run(
        self, block: nn.Module, vectors: Tensor, around: Surroundings, keep: Tensor | None,
        *, tap: bool,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        """Run a block, in the backward pass of a checkpointed one as in the forward pass."""
        few = min(len(vectors), len(around.memory.vectors) if around.memory else 2) < 2
        # torch would compile anew for 0 and for 1 token, and for every number of maps.
        eager = self.compiled and (few or tap)
        with (
            set_stance("force_eager") if eager else nullcontext(),
            casting_anew(vectors) if self.gradient_checkpointing == "selective" else nullcontext(),
        ):
            found: tuple[Tensor, Any] = block(vectors, around, keep, tap=tap)
            return found

    def edge_bias(self, layout: Layout) -> Float[Tensor, "edge head"] | None:
        """Return the bias of each edge's pair; None if edges have none."""
        if self.edge_kind_bias is None:
            return None
        device = layout.device
        count = 0 if layout.edges is None else layout.edges.shape[1]
        kinds = layout.edge_kinds
        if kinds is None:
            kinds = torch.zeros(count, dtype=torch.int64, device=device)
        bias = self.edge_kind_bias(kinds)
        if self.edge_value_bias is not None:
            values = layout.edge_values
            if values is None:
                features = self.edge_value_bias.in_features
                values = torch.zeros(count, features, device=device)
            bias = bias + self.edge_value_bias(values.to(bias.dtype))
        return bias

    def compile_blocks(self, *, backend: str = "inductor") -> None:
        """Compile the blocks, for any number of tokens and any lengths of segments.

        All blocks share one compilation (one more for evaluation). Attention stays outside the
        graphs; a pass over fewer than two tokens, and a block whose attention is tapped, are not
        compiled at all.
        """
        self.compiled = True
        compile_each(self.blocks, backend=backend)

    def _keep(self, layout: Layout, dtype: torch.dtype) -> Tensor | None:
        """Factors of drop path, [block, 2, segment, 1]; None where nothing is dropped."""
        if not self.training or not any(self.drop_paths):
            return None
        device = layout.device
        kept = 1 - torch.tensor(self.drop_paths, device=device)[:, None, None]
        drawn = torch.rand(len(self.blocks), 2, layout.segments, device=device) < kept
        return (drawn / kept)[..., None].to(dtype)


def _initialise(module: nn.Module, *, width: int) -> None:
    """Truncated normal and zero biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=initial_spread(width))
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
