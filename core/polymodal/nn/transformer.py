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

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.compiler import set_stance
from torch.fx.experimental import _config as shapes
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

from polymodal.interfaces.encoder import NO_TAPS, Taps
from polymodal.nn.positions import Rotary, Rotation, rotate
from polymodal.nn.weights import initial_spread
from polymodal.packed.attention import Edges, attend, attention_maps
from polymodal.packed.layout import Layout
from polymodal.packed.tokens import Encoded

Norm = Literal["pre", "post"]
Activation = Literal["gelu", "swiglu"]
EdgeMode = Literal["ignore", "restrict", "bias", "guide"]
Checkpointing = bool | Literal["alternate", "selective"]
Maps = tuple[Float[Tensor, "head _query _key"], ...]
Between = Callable[[int, Tensor, Layout], tuple[Tensor, Layout]]
"""`between(number, vectors, layout)`: what goes on after a block, perhaps with other rows."""

EPSILON = 1e-6  # of layer norms, as timm's ViT


@dataclass(frozen=True, eq=False)
class Transformed:
    """What a transformer gives: vectors, and what was tapped, by the block numbers asked for."""

    vectors: Float[Tensor, "token width"]
    layout: Layout  # the one given, unless rows changed between blocks
    hidden: dict[int, Float[Tensor, "token width"]] = field(default_factory=dict)
    attention: dict[int, Maps] = field(default_factory=dict)


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

    attend = staticmethod(_attend_within)  # `compile_blocks` puts one there that isn't traced

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


class Transformer(nn.Module):
    """Blocks of attention and perceptrons over packed rows; parts have the names listed above.

    Args:
        width: of the vectors.
        depth: how many blocks.
        heads: of attention; must divide the width.
        mlp_ratio: hidden width of the perceptron, in widths.
        norm: "pre" normalises each branch's input and the result, "post" each sum.
        activation: "gelu" or "swiglu".
        rotary_axes: above 0, queries and keys turn with `Layout.positions` of so many axes.
        causal: no token sees a later one of its segment.
        cross_width: width of a memory to attend to after self-attention; None: no memory.
        cross_rotary: turn the queries and keys of cross-attention, too: the memory's positions are
            in the same space (another view of the scene).
        dropout: of attention weights and of each branch.
        drop_path: share of segments that skip a branch, rising from 0 at the first block to this
            at the last (Huang et al., 2016).
        edges: "restrict" lets a token see itself and the sources of its edges; "bias" lets it see
            all, with a learned bias for each head where there is an edge, shared by all blocks
            (Graphormer, Ying et al., 2021, section 3.1.2). The bias follows the edge's kind and
            values, and is added with "restrict" as well. "guide" restricts tokens of the `guided`
            kinds alone, with no bias: they meet themselves and others along edges, and the others
            meet freely (GraphCodeBERT, Guo et al., 2021, section 4.2).
        guided: with "guide", these kinds, by their numbers in `Layout.kinds`.
        edge_kinds: how many kinds `Layout.edge_kinds` has; 0: one.
        edge_features: columns of `Layout.edge_values`.
        gradient_checkpointing: work out again in the backward pass, to save memory: true every
            block, "alternate" every second one, "selective" in every block what is cheap (norms,
            activations), while attention and matrix products are kept.

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
        mlp_ratio: float = 4.0,
        norm: Norm = "pre",
        activation: Activation = "gelu",
        rotary_axes: int = 0,
        causal: bool = False,
        cross_width: int | None = None,
        cross_rotary: bool = False,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        edges: EdgeMode = "ignore",
        guided: Sequence[int] = (),
        edge_kinds: int = 0,
        edge_features: int = 0,
        gradient_checkpointing: Checkpointing = False,
    ):
        super().__init__()
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
                mlp_ratio=mlp_ratio,
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
        # A first batch of as many tokens as there are heads must not tie the two for good.
        with shapes.patch(use_duck_shape=False):  # type: ignore[attr-defined]
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
                    tap=bool(wanted), use_reentrant=False, context_fn=self._contexts(),
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

    def _contexts(self) -> Callable[[], tuple[AbstractContextManager, AbstractContextManager]]:
        if self.gradient_checkpointing != "selective":
            return noop_context_fn
        # An attention that is kept draws no second time: what drops weights is worked out again.
        policy = partial(_worth_keeping, attention=not self.dropout)
        return partial(create_selective_checkpoint_contexts, policy)

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
            _casting_anew(vectors) if self.gradient_checkpointing == "selective" else nullcontext(),
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
        # Transformers of several widths share the code, and torch allows 8 compilations of it.
        # Before it takes a limit here, `torch._dynamo.config.recompile_limit` sets one for all.
        limits = inspect.signature(torch.compile).parameters.keys() & {"recompile_limit"}
        options = dict.fromkeys(limits, 64)
        self.compiled = True
        for block in self.blocks:
            for module in block.modules():
                if isinstance(module, SelfAttention | CrossAttention):
                    module.attend = _untraced(type(module).attend)
            block.compile(dynamic=True, backend=backend, **options)

    def _keep(self, layout: Layout, dtype: torch.dtype) -> Tensor | None:
        """Factors of drop path, [block, 2, segment, 1]; None where nothing is dropped."""
        if not self.training or not any(self.drop_paths):
            return None
        device = layout.device
        kept = 1 - torch.tensor(self.drop_paths, device=device)[:, None, None]
        drawn = torch.rand(len(self.blocks), 2, layout.segments, device=device) < kept
        return (drawn / kept)[..., None].to(dtype)


def _worth_keeping(
    context: SelectiveCheckpointContext, operation: Any, *inputs: Any, attention: bool, **rest: Any
) -> CheckpointPolicy:
    """Keep attention and matrix products, but not the MLP's last, which no gradient asks for."""
    name = str(operation)
    if name.startswith(("aten.mm", "aten.addmm")):
        taken, made = inputs[-1].shape
        kept = made >= taken
    else:
        kept = attention and "att" in name
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


def _casting_anew(vectors: Tensor) -> AbstractContextManager[object]:
    """Let autocast keep no casts of weights, or a block would do less at first than again."""
    kind = vectors.device.type
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, torch.get_autocast_dtype(kind), cache_enabled=False)


@cache  # one for all, so that transformers of the same sizes share their graphs
def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compiler.disable(function)


def _initialise(module: nn.Module, *, width: int) -> None:
    """Truncated normal and zero biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=initial_spread(width))
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
