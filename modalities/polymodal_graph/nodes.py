"""Graphs as tokens: a node is a token, the edges go into the layout."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from polymodal import Layout, Tokenizer, Tokens, TokenSpec, UnreadableError
from polymodal_graph.adaptive import Centrality, centrality, edge_chances, feature_chances
from polymodal_graph.encodings import LARGEST, laplacian, random_walk
from polymodal_graph.graph import Graph, missing_reverse


class GraphNodes(Tokenizer):
    """Makes a token of each node; edges, their kinds and values stand in the layout.

    Nodes with features become values, nodes with ids become ids, to which a "mask" id is added
    at the end. The number of a node in its graph is its position and means nothing. A graph
    without edges is legal; one without nodes is refused by `check` (absent, None, has no
    tokens).

    Args:
        features: numbers a node has.
        vocabulary: how many ids nodes can have, instead of features.
        edge_kinds: how many kinds edges can have; 0 leaves kinds out.
        edge_features: numbers an edge has; 0 leaves values out.
        undirected: add the reverse, of the same kind and values, of each edge that has none.
        self_loops: add an edge from each node to itself where there is none, of a kind of its own
            if edges have kinds, and with values of zero.
        encoding: appended to the features: "random_walk" return probabilities or "laplacian"
            eigenvectors, whose signs are drawn when training (see `encodings`).
        encoding_size: how many numbers of it.
        max_nodes: refuse larger graphs; None: any.
        drop_nodes: chance that a node is left out when training, never the first.
        drop_edges: chance that an edge is left out when training.
        drop_both: whether its reverse goes with it.
        drop_features: chance that a feature is zero in all nodes of a graph when training.
        drop_by: which edges and features go: any ("uniform"), or more often those of nodes with
            low "degree", "pagerank" or "eigenvector" centrality (GCA; see `adaptive`).
    """

    reader: ClassVar[str | None] = "graph.graph"

    def __init__(
        self,
        *,
        features: int = 0,
        vocabulary: int = 0,
        edge_kinds: int = 0,
        edge_features: int = 0,
        undirected: bool = False,
        self_loops: bool = False,
        encoding: Literal["none", "random_walk", "laplacian"] = "none",
        encoding_size: int = 8,
        max_nodes: int | None = None,
        drop_nodes: float = 0.0,
        drop_edges: float = 0.0,
        drop_both: bool = True,
        drop_features: float = 0.0,
        drop_by: Literal["uniform", "degree", "pagerank", "eigenvector"] = "uniform",
    ):
        if min(features, vocabulary, edge_kinds, edge_features) < 0:
            raise ValueError("features, vocabulary and their like for edges must not be negative")
        if (features > 0) == (vocabulary > 0):
            raise ValueError(
                "give features (numbers a node has) or vocabulary (how many node ids there are), "
                f"one of them above 0, got {features} and {vocabulary}"
            )
        if encoding not in ("none", "random_walk", "laplacian"):
            raise ValueError(f"encoding must be none, random_walk or laplacian, got {encoding!r}")
        if encoding != "none" and vocabulary:
            raise ValueError("an encoding is appended to features, but these nodes have ids")
        if encoding != "none" and encoding_size < 1:
            raise ValueError(f"encoding_size must be at least 1, got {encoding_size}")
        if max_nodes is not None and max_nodes < 1:
            raise ValueError(f"max_nodes must be at least 1, got {max_nodes}")
        shares = {
            "drop_nodes": drop_nodes,
            "drop_edges": drop_edges,
            "drop_features": drop_features,
        }
        for name, share in shares.items():
            if not 0 <= share < 1:
                raise ValueError(f"{name} must lie from 0 to below 1, got {share}")
        if drop_features and vocabulary:
            raise ValueError("drop_features is for nodes with features, but these have ids")
        if undirected and not drop_both:
            raise ValueError(
                "drop_both: false and undirected contradict each other: what one direction loses "
                "would be added again; list both directions in the data"
            )
        if drop_by not in ("uniform", "degree", "pagerank", "eigenvector"):
            raise ValueError(
                f"drop_by must be uniform, degree, pagerank or eigenvector, got {drop_by!r}"
            )
        self.features, self.vocabulary = features, vocabulary
        self.edge_kinds, self.edge_features = edge_kinds, edge_features
        self.undirected, self.self_loops = undirected, self_loops
        self.encoding = encoding
        self.encoding_size = 0 if encoding == "none" else encoding_size
        self.max_nodes = max_nodes
        self.drop_nodes, self.drop_edges = drop_nodes, drop_edges
        self.drop_both, self.drop_features = drop_both, drop_features
        self.drop_by: Literal["uniform"] | Centrality = drop_by

    @property
    def spec(self) -> TokenSpec:
        """Ids (and one for "mask") or values, with edges."""
        return TokenSpec(
            vocabulary=self.vocabulary + 1 if self.vocabulary else 0,
            features=self.features + self.encoding_size if self.features else 0,
            extent=None if self.max_nodes is None else (self.max_nodes,),
            max_tokens=self.max_nodes,
            special={"mask": self.vocabulary} if self.vocabulary else {},
            edges=True,
            edge_kinds=self.edge_kinds + self.self_loops if self.edge_kinds else 0,
            edge_features=self.edge_features,
        )

    def check(self, raw: Graph) -> None:
        """Refuse a graph that does not fit the options, or whose edges lead nowhere.

        Raises:
            UnreadableError: why.
        """
        nodes, count = raw.nodes, len(raw.nodes)
        if not count:
            raise UnreadableError("the graph has no nodes")
        if self.max_nodes is not None and count > self.max_nodes:
            raise UnreadableError(f"the graph has {count} nodes, max_nodes is {self.max_nodes}")
        if self.encoding_size and count > LARGEST:
            raise UnreadableError(
                f"the graph has {count} nodes, an encoding takes {LARGEST} at most: serve "
                "neighbourhoods of it"
            )
        if self.features:
            if nodes.ndim == 1:
                raise UnreadableError(
                    f"nodes have ids, the tokenizer takes {self.features} features: set vocabulary"
                )
            if nodes.shape[1] != self.features:
                raise UnreadableError(
                    f"nodes have {nodes.shape[1]} features, the tokenizer takes {self.features}: "
                    f"set features to {nodes.shape[1]}"
                )
            if not np.isfinite(nodes).all():
                raise UnreadableError("a node has features that are NaN or infinite")
        elif nodes.ndim == 2:
            raise UnreadableError(
                f"nodes have {nodes.shape[1]} features, the tokenizer takes ids: set features"
            )
        else:
            _within(nodes, self.vocabulary, "a node's id", "vocabulary")
        self._check_edges(raw, count)

    def _check_edges(self, raw: Graph, count: int) -> None:
        edges = raw.edges
        if edges.size and (edges.min() < 0 or edges.max() >= count):
            bad = int(((edges < 0) | (edges >= count)).any(axis=0).argmax())
            raise UnreadableError(
                f"edge {bad} joins nodes {edges[0, bad]} and {edges[1, bad]}, but the graph has "
                f"{count} nodes, counted from 0"
            )
        if self.edge_kinds:
            if raw.edge_kinds is None and edges.size:
                raise UnreadableError(f"edge_kinds is {self.edge_kinds}, but edges have no kind")
            if raw.edge_kinds is not None:
                _within(raw.edge_kinds, self.edge_kinds, "an edge's kind", "edge_kinds")
        if self.edge_features:
            found = 0 if raw.edge_values is None else raw.edge_values.shape[1]
            if found != self.edge_features and edges.size:
                raise UnreadableError(
                    f"edges have {found} values, the tokenizer takes {self.edge_features}: set "
                    f"edge_features to {found}"
                )
            if raw.edge_values is not None and not np.isfinite(raw.edge_values).all():
                raise UnreadableError("an edge has values that are NaN or infinite")

    def count(self, raws: Sequence[Graph | None]) -> list[int]:
        """Return how many nodes each graph has."""
        return [0 if raw is None else len(raw.nodes) for raw in raws]

    def encode(
        self,
        raws: Sequence[Graph | None],
        *,
        generators: Sequence[np.random.Generator] | None = None,
    ) -> Tokens:
        """Return the nodes of each graph, with its edges."""
        dropping = max(self.drop_nodes, self.drop_edges, self.drop_features) > 0
        if generators is not None and (dropping or self.encoding == "laplacian"):
            generators = list(generators)  # a lazy sequence would make each one anew when asked
        graphs = [raw for raw in raws if raw is not None]
        lengths = np.array(self.count(raws), dtype=np.int64)
        first = lengths.cumsum() - lengths
        links = np.array([0 if r is None else r.edges.shape[1] for r in raws], dtype=np.int64)
        nodes = np.concatenate([self._no_nodes(), *(graph.nodes for graph in graphs)])
        edges = np.concatenate(
            [np.zeros((2, 0), np.int64), *(graph.edges for graph in graphs)], axis=1
        )
        edges = edges + first.repeat(links)
        kinds, values = self._edge_rows(graphs)
        if generators is not None and dropping:
            keep_nodes, keep_edges, columns = self._drawn(raws, generators)
            graph_of = np.arange(len(lengths)).repeat(lengths)
            if self.drop_features:
                nodes = nodes * columns[graph_of]
            keep_edges &= keep_nodes[edges].all(axis=0)
            place = keep_nodes.cumsum() - 1
            lengths = np.bincount(graph_of[keep_nodes], minlength=len(lengths))
            nodes, edges = nodes[keep_nodes], place[edges[:, keep_edges]]
            kinds = None if kinds is None else kinds[keep_edges]
            values = None if values is None else values[keep_edges]
        edges, kinds, values = self._completed(edges, kinds, values, len(nodes))
        counts = lengths.tolist()
        if self.encoding_size:
            nodes = np.concatenate([nodes, self._encoded(edges, counts, generators)], axis=1)
        layout = Layout.of(
            counts,
            edges=torch.from_numpy(np.ascontiguousarray(edges)),
            edge_kinds=None if kinds is None else torch.from_numpy(kinds),
            edge_values=None if values is None else torch.from_numpy(values),
        )
        rows = torch.from_numpy(nodes)
        return Tokens(layout, ids=rows) if self.vocabulary else Tokens(layout, values=rows)

    def decode(self, tokens: Tokens) -> list[Graph | None]:
        """Return each segment's graph, edges as they are in the layout; None for no nodes.

        An encoding is cut off again.
        """
        graphs: list[Graph | None] = []
        for segment in range(tokens.layout.segments):
            one = tokens.select([segment]).to("cpu")
            layout, rows = one.layout, one.rows.detach()
            if self.features:
                rows = rows[:, : self.features].float()
            edges = torch.zeros(2, 0, dtype=torch.int64) if layout.edges is None else layout.edges
            kinds, values = layout.edge_kinds, layout.edge_values
            graphs.append(
                Graph(
                    rows.numpy(),
                    edges.numpy(),
                    None if kinds is None else kinds.numpy(),
                    None if values is None else values.numpy(),
                )
                if layout.tokens
                else None
            )
        return graphs

    def _no_nodes(self) -> np.ndarray:
        if self.vocabulary:
            return np.zeros(0, np.int64)
        return np.zeros((0, self.features), np.float32)

    def _edge_rows(
        self, graphs: Sequence[Graph]
    ) -> tuple[Int[np.ndarray, " edge"] | None, Float[np.ndarray, "edge feature"] | None]:
        kinds = values = None
        if self.edge_kinds:
            found = [graph.edge_kinds for graph in graphs if graph.edge_kinds is not None]
            kinds = np.concatenate([np.zeros(0, np.int64), *found])
        if self.edge_features:
            rows = [g.edge_values for g in graphs if g.edge_values is not None and g.edges.size]
            values = np.concatenate([np.zeros((0, self.edge_features), np.float32), *rows])
        return kinds, values

    def _drawn(
        self, raws: Sequence[Graph | None], generators: Sequence[np.random.Generator]
    ) -> tuple[
        Bool[np.ndarray, " node"], Bool[np.ndarray, " edge"], Bool[np.ndarray, "graph feature"]
    ]:
        """Draw the nodes, edges and features that stay, each graph's from its own generator."""
        nodes, joined = [np.zeros(0, bool)], [np.zeros(0, bool)]
        columns = np.ones((len(raws), self.features), bool)
        for number, (raw, generator) in enumerate(zip(raws, generators, strict=True)):
            if raw is None:
                continue
            length, count = len(raw.nodes), raw.edges.shape[1]
            keep = generator.random(length) >= self.drop_nodes
            keep[:1] = True
            nodes.append(keep)
            edge_chance: Any = self.drop_edges
            feature_chance: Any = self.drop_features
            if self.drop_by != "uniform":
                central = centrality(raw.edges, length, self.drop_by)
                edge_chance = edge_chances(raw.edges, central, self.drop_edges)
                if self.drop_features:
                    feature_chance = feature_chances(raw.nodes, central, self.drop_features)
            draw = generator.random((count,))
            if self.drop_both:
                low, high = np.sort(raw.edges, axis=0)
                draw = draw[np.unique(low * length + high, return_inverse=True)[1]]
            joined.append(draw >= edge_chance)
            if self.drop_features:
                columns[number] = generator.random(self.features) >= feature_chance
        return np.concatenate(nodes), np.concatenate(joined), columns

    def _completed(
        self,
        edges: Int[np.ndarray, "2 edge"],
        kinds: Int[np.ndarray, " edge"] | None,
        values: Float[np.ndarray, "edge feature"] | None,
        nodes: int,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Add the reverses and self-loops that the options ask for."""
        if self.undirected:
            extra = missing_reverse(edges, nodes)
            edges = np.concatenate([edges, edges[::-1, extra]], axis=1)
            kinds = None if kinds is None else np.concatenate([kinds, kinds[extra]])
            values = None if values is None else np.concatenate([values, values[extra]])
        if self.self_loops:
            there = np.zeros(nodes, bool)
            there[edges[0, edges[0] == edges[1]]] = True
            lone = np.flatnonzero(~there)
            edges = np.concatenate([edges, np.stack([lone, lone])], axis=1)
            if kinds is not None:
                kinds = np.concatenate([kinds, np.full(len(lone), self.edge_kinds)])
            if values is not None:
                values = np.pad(values, ((0, len(lone)), (0, 0)))
        return edges, kinds, values

    def _encoded(
        self,
        edges: Int[np.ndarray, "2 edge"],
        lengths: Sequence[int],
        generators: Sequence[np.random.Generator] | None,
    ) -> Float[np.ndarray, "node size"]:
        if self.encoding == "random_walk":
            return random_walk(edges, lengths, self.encoding_size)
        found = laplacian(edges, lengths, self.encoding_size)
        if generators is None:
            return found
        signs = [1 - 2 * g.integers(0, 2, size=self.encoding_size) for g in generators]
        flips = np.array(signs, dtype=np.float32).reshape(-1, self.encoding_size)
        return found * flips.repeat(np.asarray(lengths, dtype=np.int64), axis=0)


def _within(ids: Int[np.ndarray, " row"], count: int, what: str, option: str) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        bad = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise UnreadableError(f"{what} is {bad}, but {option} is {count}: ids lie below it, from 0")
