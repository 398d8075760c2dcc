"""A token's first vector: of its id or values, its kind, its channels and its place."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polymodal.nn.positions import PositionKind, Positions
from polymodal.nn.weights import Table
from polymodal.packed.layout import Layout
from polymodal.packed.spec import TokenSpec
from polymodal.packed.tokens import Tokens


class Stem(nn.Module):
    """A token's own vector, from its id or values, and what its kind, channels and place add.

    Tokens of the kinds `averaged`, by number, have in place of one of their own the mean of those
    from which edges lead to them, zero without any; such tokens themselves are left out of it.

    With `norm` the sum ends in a layer norm, as BERT's embeddings do (Devlin et al., 2019).
    """

    def __init__(
        self,
        spec: TokenSpec,
        width: int,
        positions: PositionKind,
        averaged: tuple[int, ...] = (),
        *,
        norm: bool = False,
    ):
        super().__init__()
        self.averaged = averaged
        self.tokens: nn.Embedding | nn.Linear
        if spec.vocabulary:
            self.tokens = Table(spec.vocabulary, width)
        else:
            self.tokens = nn.Linear(spec.features, width)
            # Unit variance out of unit variance in, as the patch embedding of timm's ViT.
            nn.init.trunc_normal_(self.tokens.weight, std=spec.features**-0.5)
            nn.init.zeros_(self.tokens.bias)
        self.channels = nn.ModuleDict(
            {name: Table(count, width) for name, count in spec.channels.items()}
        )
        self.kinds = Table(len(spec.kinds), width) if len(spec.kinds) > 1 else None
        self.positions = Positions(width, spec.axes, kind=positions, extent=spec.extent)
        self.norm = nn.LayerNorm(width) if norm else None

    def forward(self, tokens: Tokens) -> Float[Tensor, "token width"]:
        """Return the vectors."""
        layout = tokens.layout
        vectors: Tensor = self.tokens(tokens.rows)
        if self.averaged:
            vectors = _averaged(vectors, layout, self.averaged)
        if self.positions.kind != "none":
            vectors = vectors + self.positions(layout.positions).to(vectors.dtype)
        if self.kinds is not None:
            kinds = layout.kinds
            if kinds is None:
                kinds = torch.zeros(layout.tokens, dtype=torch.int64, device=layout.device)
            vectors = vectors + self.kinds(kinds)
        for name, table in self.channels.items():
            ids = layout.channels.get(name)
            if ids is None:
                ids = torch.zeros(layout.tokens, dtype=torch.int64, device=layout.device)
            vectors = vectors + table(ids)
        return vectors if self.norm is None else self.norm(vectors)


def _averaged(
    vectors: Float[Tensor, "token width"], layout: Layout, kinds: tuple[int, ...]
) -> Float[Tensor, "token width"]:
    """Give tokens of these kinds the mean of the others from which edges lead to them."""

    def shares() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        of_token = layout.kinds
        if of_token is None:
            of_token = torch.zeros(layout.tokens, dtype=torch.int64, device=layout.device)
        without = torch.isin(of_token, torch.tensor(kinds, device=layout.device))
        edges = layout.edges
        if edges is None:
            edges = torch.zeros(2, 0, dtype=torch.int64, device=layout.device)
        source, target = edges[:, (without[edges[1]] & ~without[edges[0]]).nonzero()[:, 0]]
        degree = torch.bincount(target, minlength=layout.tokens)
        return without, source, target, 1 / degree[target]

    without, source, target, share = layout.cached(("averaged", kinds), shares)
    mixed = vectors.index_select(0, source) * share[:, None].to(vectors.dtype)
    return vectors.masked_fill(without[:, None], 0).index_add(0, target, mixed)
