"""Graph neural networks over packed nodes: the layers are PyTorch Geometric's."""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polymodal import (
    NO_TAPS,
    Encoded,
    Encoder,
    FromRun,
    Layout,
    Taps,
    Tokens,
    TokenSpec,
    segment_mean,
)
from polymodal_graph.pyg import (
    GATConv,
    GCNConv,
    GINConv,
    GINEConv,
    GPSConv,
    GraphNorm,
    SAGEConv,
)

Layer = Literal["gin", "gcn", "gat", "sage", "gps"]
NormName = Literal["layer", "graph", "none"]
Activation = Literal["relu", "prelu", "elu"]
Pool = Literal["mean", "sum", "max", "first"]


class Links(nn.Module):
    """A vector for each edge from its kind and values."""

    def __init__(self, spec: TokenSpec, width: int):
        super().__init__()
        self.kinds = nn.Embedding(spec.edge_kinds, width) if spec.edge_kinds else None
        self.values = nn.Linear(spec.edge_features, width) if spec.edge_features else None

    def forward(self, layout: Layout, count: int) -> Float[Tensor, "edge width"]:
        """Return the vectors of the layout's edges; what it does not say counts as 0."""
        vectors: Tensor | None = None
        if self.kinds is not None:
            kinds = layout.edge_kinds
            if kinds is None:
                kinds = torch.zeros(count, dtype=torch.int64, device=layout.device)
            vectors = self.kinds(kinds)
        if self.values is not None:
            values = layout.edge_values
            if values is None:
                values = torch.zeros(count, self.values.in_features, device=layout.device)
            added = self.values(values)
            vectors = added if vectors is None else vectors + added
        assert vectors is not None
        return vectors


class Block(nn.Module):
    """One layer: convolution, norm, activation, dropout and a residual; GPS has its own order."""

    def __init__(
        self,
        width: int,
        *,
        layer: Layer,
        heads: int,
        linked: bool,
        norm: NormName,
        activation: Activation | None,
        residual: bool,
        dropout: float,
    ):
        super().__init__()
        self.layer = layer
        self.linked = linked
        self.residual = residual
        self.dropout = nn.Dropout(dropout)
        kinds = {"relu": nn.ReLU, "prelu": nn.PReLU, "elu": nn.ELU, None: nn.Identity}
        self.activation: nn.Module = kinds[activation]()
        self.norm: nn.Module | None = None
        if layer == "gps":
            names = {"layer": "layer_norm", "graph": "graph_norm", "none": None}
            self.conv: nn.Module = GPSConv(
                width,
                _isomorphism(width, linked),
                heads=heads,
                dropout=dropout,
                norm=names[norm],
                norm_kwargs={"mode": "node"} if norm == "layer" else None,
                attn_kwargs={"dropout": dropout},
            )
            return
        if layer == "gin":
            self.conv = _isomorphism(width, linked)
        elif layer == "gcn":
            self.conv = GCNConv(width, width)
        elif layer == "gat":
            self.conv = GATConv(
                width,
                width // heads,
                heads=heads,
                dropout=dropout,
                edge_dim=width if linked else None,
            )
        else:
            self.conv = SAGEConv(width, width)
        if norm == "layer":
            self.norm = nn.LayerNorm(width)
        elif norm == "graph":
            self.norm = GraphNorm(width)

    def forward(
        self,
        nodes: Float[Tensor, "node width"],
        edges: Int[Tensor, "2 edge"],
        links: Float[Tensor, "edge width"] | None,
        graph: Int[Tensor, " node"],
        graphs: int,
    ) -> Float[Tensor, "node width"]:
        """Return the nodes after the layer; `graph` numbers each one's graph, without gaps."""
        more = {"edge_attr": links} if self.linked else {}
        if self.layer == "gps":
            out: Tensor = self.conv(nodes, edges, graph, **more)
            return out
        out = self.conv(nodes, edges, **more)
        if isinstance(self.norm, GraphNorm):
            out = self.norm(out, graph, graphs)
        elif self.norm is not None:
            out = self.norm(out)
        out = self.dropout(self.activation(out))
        return nodes + out if self.residual else out


def _isomorphism(width: int, linked: bool) -> nn.Module:
    perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
    kind = GINEConv if linked else GINConv
    return kind(perceptron, train_eps=True)


class GraphNetwork(Encoder):
    """Encodes graphs by message passing along their edges.

    Packed nodes are what PyTorch Geometric calls a batch, so its layers run on them as they are:
    "gin" (Xu et al., 2019; with edge kinds or values GINE, Hu et al., 2020), "gcn" (Kipf and
    Welling, 2017), "gat" (Veličković et al., 2018), "sage" (Hamilton et al., 2017) and "gps"
    (Rampášek et al., 2022: GIN beside attention within each graph). "gin", "gat" and "gps" take
    kinds and values of edges in; "gcn" and "sage" have no place for them. Messages flow from an
    edge's source to its target.

    Args:
        spec: of the tokens, ids or values; they must have edges.
        layer: the kind of layer.
        width: of the vectors.
        depth: number of layers, and so how far a node sees.
        heads: of attention, in "gat" and "gps"; must divide the width.
        norm: "layer" by node, "graph" over a graph's nodes (Cai et al., 2021), or "none".
        activation: after each norm: "relu", "prelu" or "elu" ("gps" has ReLU alone).
        linear_last: leave norm, activation and dropout out of the last layer, so that vectors may
            have any sign (CCA-SSG; "gps" can't).
        residual: add each layer's input to its output ("gps" always does).
        jumping: what is made of the layers' outputs (Xu et al., 2018): the "last", their "sum" or
            "max", or all of them ("cat") through one linear map.
        pool: how a graph's vectors become one; "first" is the centre of a sampled neighbourhood.
        dropout: share zeroed when training.

    Raises:
        ValueError: tokens without edges, or options that contradict each other.
    """

    def __init__(
        self,
        spec: FromRun[TokenSpec],
        *,
        layer: Layer = "gin",
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        norm: NormName = "layer",
        activation: Activation = "relu",
        linear_last: bool = False,
        residual: bool = True,
        jumping: Literal["last", "sum", "max", "cat"] = "last",
        pool: Pool = "mean",
        dropout: float = 0.0,
    ):
        super().__init__()
        if not spec.edges:
            raise ValueError(
                "it takes tokens with edges, their tokenizer makes none: tokenize by graph.nodes"
            )
        if layer not in ("gin", "gcn", "gat", "sage", "gps"):
            raise ValueError(f"layer must be gin, gcn, gat, sage or gps, got {layer!r}")
        if norm not in ("layer", "graph", "none"):
            raise ValueError(f"norm must be layer, graph or none, got {norm!r}")
        if activation not in ("relu", "prelu", "elu"):
            raise ValueError(f"activation must be relu, prelu or elu, got {activation!r}")
        if layer == "gps" and (linear_last or activation != "relu"):
            raise ValueError("gps has its own order: leave activation and linear_last out")
        if jumping not in ("last", "sum", "max", "cat"):
            raise ValueError(f"jumping must be last, sum, max or cat, got {jumping!r}")
        if pool not in ("mean", "sum", "max", "first"):
            raise ValueError(f"pool must be mean, sum, max or first, got {pool!r}")
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth must be at least 1, got {width} and {depth}")
        if layer in ("gat", "gps") and (heads < 1 or width % heads):
            raise ValueError(f"heads must divide the width, got {heads} and {width}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie from 0 to below 1, got {dropout}")
        self.width = width
        self.pool = pool
        self.jumping = jumping
        self.stem: nn.Module
        if spec.vocabulary:
            self.stem = nn.Embedding(spec.vocabulary, width)
        else:
            self.stem = nn.Linear(spec.features, width)
        linked = (spec.edge_kinds > 0 or spec.edge_features > 0) and layer in ("gin", "gat", "gps")
        self.links = Links(spec, width) if linked else None
        self.blocks = nn.ModuleList(
            Block(
                width,
                layer=layer,
                heads=heads,
                linked=linked,
                norm="none" if plain else norm,
                activation=None if plain else activation,
                residual=residual,
                dropout=0.0 if plain else dropout,
            )
            for plain in [False] * (depth - 1) + [linear_last]
        )
        self.mixer = nn.Linear(depth * width, width) if jumping == "cat" else None

    def embed(self, tokens: Tokens) -> Encoded:
        """Return the stem's vectors, one a node."""
        vectors: Tensor = self.stem(tokens.rows)
        return Encoded.mean_pooled(tokens.layout, vectors)

    def contextualize(self, encoded: Encoded, *, taps: Taps = NO_TAPS) -> Encoded:
        """Return the nodes' vectors after message passing; hidden taps are layers, from 0.

        Raises:
            ValueError: a tap of attention, or of a layer there is none of.
        """
        depth = len(self.blocks)
        if taps.attention:
            raise ValueError("graph.gnn has no attention maps to tap")
        for tap in taps.hidden:
            if not -depth <= tap < depth:
                raise ValueError(f"no layer {tap} to tap: there are {depth}")
        layout, nodes = encoded.layout, encoded.vectors
        edges = layout.edges
        if edges is None:
            edges = torch.zeros(2, 0, dtype=torch.int64, device=layout.device)
        links = None if self.links is None else self.links(layout, edges.shape[1])
        graph, graphs = _without_gaps(layout)
        if not layout.tokens:
            # PyTorch Geometric's attention takes no empty batch: one node of zeros stands in, and
            # keeps every parameter in the pass.
            nodes = torch.cat([nodes, nodes.new_zeros(1, self.width)])
            graph, graphs = graph.new_zeros(1), 1
        found: list[Tensor] = []
        for block in self.blocks:
            nodes = block(nodes, edges, links, graph, graphs)
            found.append(nodes)
        vectors = self._jumped(found)[: layout.tokens]
        hidden = {tap: found[tap][: layout.tokens] for tap in taps.hidden}
        pooled = _pooled(vectors, layout, self.pool)
        return replace(encoded, vectors=vectors, pooled=pooled, hidden=hidden)

    def unembed(
        self, vectors: Float[Tensor, "row width"]
    ) -> Float[Tensor, "row vocabulary"] | None:
        """Return scores over node ids by the stem's own table; None for nodes with features."""
        if isinstance(self.stem, nn.Embedding):
            # The table's entries have unit spread: without the root, scores start out at the root
            # of the width, and a masked node costs several times its chance.
            return vectors @ self.stem.weight.T * self.width**-0.5
        return None

    def embedding(self, ids: Int[Tensor, " row"]) -> Float[Tensor, "row width"]:
        """Return the stem's vectors of node ids.

        Raises:
            ValueError: nodes have features.
        """
        if not isinstance(self.stem, nn.Embedding):
            raise ValueError("these nodes have features: there is no table of ids")
        vectors: Tensor = self.stem(ids)
        return vectors

    def layers(self) -> list[nn.Module]:
        """Return stem and layers."""
        return [self.stem, *self.blocks]

    def _jumped(self, found: list[Tensor]) -> Float[Tensor, "node width"]:
        if self.mixer is not None:
            mixed: Tensor = self.mixer(torch.cat(found, dim=1))
            return mixed
        if self.jumping == "last":
            return found[-1]
        stacked = torch.stack(found)
        return stacked.sum(dim=0) if self.jumping == "sum" else stacked.amax(dim=0)


def _without_gaps(layout: Layout) -> tuple[Int[Tensor, " node"], int]:
    """Number the graphs that have nodes; an empty one among them would make attention NaN."""
    if all(layout.lengths):
        return layout.segment, layout.segments
    place, filled = [], 0
    for length in layout.lengths:
        place.append(filled)
        filled += length > 0
    numbers = torch.tensor(place, dtype=torch.int64).to(layout.device, non_blocking=True)
    return numbers[layout.segment], filled


def _pooled(
    vectors: Float[Tensor, "node width"], layout: Layout, pool: Pool
) -> Float[Tensor, "segment width"]:
    if pool == "mean":
        return segment_mean(vectors, layout)
    empty = vectors.new_zeros(layout.segments, vectors.shape[1])
    if pool == "sum":
        return empty.index_add(0, layout.segment, vectors)
    if pool == "max":
        index = layout.segment[:, None].expand_as(vectors)
        return empty.scatter_reduce(0, index, vectors, "amax", include_self=False)
    filled = torch.tensor([s for s, n in enumerate(layout.lengths) if n], dtype=torch.int64)
    filled = filled.to(layout.device, non_blocking=True)
    return empty.index_copy(0, filled, vectors[layout.offsets[filled]])
