"""A source that serves one large graph as the sampled neighbourhoods of its nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, Shaped

from polymodal.component import FilePath
from polymodal.errors import DataError
from polymodal.source import Sample, Source
from polymodal_graph.edge_list import EdgeListSource
from polymodal_graph.graph import Graph, missing_reverse
from polymodal_graph.sampling import NeighbourSampler
from polymodal_graph.tables import is_number, label_of, read_table

MASKS = {"train_mask": "train", "val_mask": "validation", "test_mask": "test"}
NO_SPLIT = "none"


@dataclass(frozen=True, eq=False)
class LargeGraph:
    """A graph whose nodes are the samples, with what is known of each."""

    graph: Graph
    labels: Shaped[np.ndarray, " node"] | None
    splits: Shaped[np.ndarray, " node"]  # words


class NeighbourhoodSource(Source):
    """The surroundings of each node of one large graph, sampled hop by hop.

    Row i has `graph`, a `Graph` whose first node is the i-th centre; `label` (None where unknown);
    `split`, "train", "validation", "test" or "none"; and `node`, the centre's number. A row is the
    same each time: what is drawn follows from (seed, node) alone. `context()` holds the whole
    `graph`, its `labels` and its `splits`.

    An `.npz` file (no pickles) has edge_index [2, edge]; x [node, feature], or its non-zero
    places x_row, x_col (and x_value, else 1) with x_shape; and may have y [node], train_mask,
    val_mask and test_mask [node]. A CSV edge list goes with a node table.

    Args:
        path: an `.npz` file, or a CSV edge list.
        nodes: CSV node table of an edge list.
        fanouts: the most incoming edges taken of each node, hop by hop; -1: all.
        subgraph: whether a sample has all edges between its nodes ("induced"), or only those it was
            sampled along.
        undirected: let edges count both ways, each pair once.
        splits: the splits whose nodes are centres; None: every node. Neighbours come from all.
        seed: of what is drawn.
        source: column of a CSV edge list.
        target: column of a CSV edge list.
        node: column of the node table: the name that edges use.
        features: columns of the node table; None: all that hold numbers but the others named here.
        label: column of the node table: what `label` becomes.
        split: column of the node table: what `split` becomes.
    """

    def __init__(
        self,
        path: FilePath,
        *,
        nodes: FilePath | None = None,
        fanouts: list[int] | None = None,
        subgraph: Literal["induced", "sampled"] = "induced",
        undirected: bool = False,
        splits: list[Literal["train", "validation", "test", "none"]] | None = None,
        seed: int = 0,
        source: str = "source",
        target: str = "target",
        node: str = "node",
        features: list[str] | None = None,
        label: str = "label",
        split: str = "split",
    ):
        fanouts = [10, 5] if fanouts is None else fanouts
        if not fanouts or any(fanout == 0 or fanout < -1 for fanout in fanouts):
            raise ValueError(f"fanouts must be numbers above 0, or -1 for all, got {fanouts}")
        if subgraph not in ("induced", "sampled"):
            raise ValueError(f"subgraph must be induced or sampled, got {subgraph!r}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if path.endswith(".npz") and nodes is not None:
            raise ValueError("a node table goes with a CSV edge list; an .npz file has its nodes")
        self.path, self.nodes = path, nodes
        self.fanouts = tuple(fanouts)
        self.subgraph, self.undirected = subgraph, undirected
        self.splits = None if splits is None else tuple(splits)
        self.seed = seed
        self.source, self.target, self.node = source, target, node
        self.features, self.label, self.split = features, label, split

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was read behind: a worker reads the file itself."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __len__(self) -> int:
        """Return how many centres there are.

        Raises:
            DataError: the file is missing or not of this form.
        """
        return len(self._centres)

    def columns(self) -> tuple[str, ...]:
        """Return the names of the fields."""
        return ("graph", "label", "split", "node")

    def row(self, index: int) -> Sample:
        """Return the neighbourhood of a node."""
        centre = int(self._centres[index])
        whole = self._whole
        nodes, edges, numbers = self._sampler(
            centre,
            self.fanouts,
            np.random.default_rng([self.seed, centre]),
            induced=self.subgraph == "induced",
        )
        kinds, values = whole.graph.edge_kinds, whole.graph.edge_values
        graph = Graph(
            whole.graph.nodes[nodes],
            edges,
            None if kinds is None else kinds[numbers],
            None if values is None else values[numbers],
        )
        label = None if whole.labels is None else label_of(whole.labels, centre)
        return {"graph": graph, "label": label, "split": whole.splits[centre], "node": centre}

    def context(self) -> Mapping[str, Any]:
        """Return the whole graph, and the labels and splits of its nodes."""
        whole = self._whole
        return {"graph": whole.graph, "labels": whole.labels, "splits": whole.splits}

    @cached_property
    def _whole(self) -> LargeGraph:
        whole = self._from_npz() if self.path.endswith(".npz") else self._from_tables()
        edges, count = whole.graph.edges, len(whole.graph.nodes)
        if edges.size and (edges.min() < 0 or edges.max() >= count):
            raise DataError(f"{self.path}: an edge points outside the graph's {count} nodes")
        if not self.undirected:
            return whole
        extra = missing_reverse(edges, count)
        graph = whole.graph
        graph = Graph(
            graph.nodes,
            np.concatenate([edges, edges[::-1, extra]], axis=1),
            None if graph.edge_kinds is None else _repeated(graph.edge_kinds, extra),
            None if graph.edge_values is None else _repeated(graph.edge_values, extra),
        )
        return LargeGraph(graph, whole.labels, whole.splits)

    @cached_property
    def _sampler(self) -> NeighbourSampler:
        return NeighbourSampler(self._whole.graph.edges, len(self._whole.graph.nodes))

    @cached_property
    def _centres(self) -> Int[np.ndarray, " centre"]:
        splits = self._whole.splits
        if self.splits is None:
            return np.arange(len(splits))
        return np.flatnonzero(np.isin(splits, self.splits))

    def _from_npz(self) -> LargeGraph:
        if not Path(self.path).is_file():
            raise DataError(f"{self.path}: no such file")
        try:
            with np.load(self.path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{self.path}: not an .npz file of arrays: {error}") from None
        except Exception as error:  # zipfile's own errors share no base with the others
            raise DataError(f"{self.path}: can't be read: {error}") from None
        if "edge_index" not in found:
            raise DataError(f"{self.path}: no array 'edge_index'; it has {sorted(found)}")
        try:
            features = _features(found)
            graph = Graph.of(features, found["edge_index"])
        except (ValueError, IndexError) as error:
            raise DataError(f"{self.path}: {error}") from None
        count = len(graph.nodes)
        splits = np.full(count, NO_SPLIT, dtype=object)
        for name in ("y", *MASKS):
            if name in found and len(found[name]) != count:
                raise DataError(f"{self.path}: {name} has {len(found[name])} rows, x has {count}")
        for name, split in MASKS.items():
            if name in found:
                splits[found[name].astype(bool)] = split
        return LargeGraph(graph, found.get("y"), splits)

    def _from_tables(self) -> LargeGraph:
        tables = EdgeListSource(
            self.path,
            nodes=self.nodes,
            source=self.source,
            target=self.target,
            node=self.node,
            features=self._feature_columns(),
        )
        graph = tables.context()["graph"]
        known = tables.node_column(self.split)
        splits = np.full(len(graph.nodes), NO_SPLIT, dtype=object)
        if known is not None:
            allowed = {*MASKS.values(), NO_SPLIT}
            splits[:] = [NO_SPLIT if word is None else word for word in known]
            unknown = next((word for word in splits if word not in allowed), None)
            if unknown is not None:
                raise DataError(
                    f"{self.nodes}: column {self.split!r} must hold {', '.join(sorted(allowed))}, "
                    f"got {unknown!r}"
                )
        return LargeGraph(graph, tables.node_column(self.label), splits)

    def _feature_columns(self) -> list[str] | None:
        if self.nodes is None:
            return None
        if self.features is not None:
            return self.features
        table = read_table(self.nodes, needed=[self.node])
        others = (self.node, self.label, self.split)
        return [name for name in table if name not in others and is_number(table[name])]


def _repeated(rows: Shaped[np.ndarray, "edge *x"], extra: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([rows, rows[extra]])


def _features(found: Mapping[str, np.ndarray]) -> Shaped[np.ndarray, "node *feature"]:
    if "x" in found:
        return found["x"]
    if "x_shape" not in found:
        for name in ("y", *MASKS):
            if name in found:  # nodes without features: each has the id 0
                return np.zeros(len(found[name]), np.int64)
        edges = found["edge_index"]
        return np.zeros(int(edges.max()) + 1 if edges.size else 0, np.int64)
    dense = np.zeros(tuple(int(size) for size in found["x_shape"]), dtype=np.float32)
    dense[found["x_row"], found["x_col"]] = found.get("x_value", 1)
    return dense
