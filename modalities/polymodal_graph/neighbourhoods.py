"""A source that serves one large graph as the sampled neighbourhoods of its nodes."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
from jaxtyping import Int

from polymodal import FilePath, Sample, Source, filled, fingerprint_files
from polymodal_graph.large import LargeGraph, LargeGraphFile, TableOptions, check_held, with_edges
from polymodal_graph.sampling import NeighbourSampler
from polymodal_graph.tables import label_of


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
        validation_edges: share of the edges that no sample has: `graph.parts` with the same seed
            names them, to be predicted.
        test_edges: the same, further ones.
        seed: of what is drawn.
        columns: how the columns of tables are called; see `TableOptions`.
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
        validation_edges: float = 0.0,
        test_edges: float = 0.0,
        seed: int = 0,
        **columns: Unpack[TableOptions],
    ):
        fanouts = [10, 5] if fanouts is None else fanouts
        if not fanouts or any(fanout == 0 or fanout < -1 for fanout in fanouts):
            raise ValueError(f"fanouts must be numbers above 0, or -1 for all, got {fanouts}")
        if subgraph not in ("induced", "sampled"):
            raise ValueError(f"subgraph must be induced or sampled, got {subgraph!r}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.file = LargeGraphFile(path, nodes, undirected, **filled(TableOptions, columns))
        check_held(validation_edges, test_edges)
        self.held = (validation_edges, test_edges)
        self.fanouts = tuple(fanouts)
        self.subgraph = subgraph
        self.splits = None if splits is None else tuple(splits)
        self.seed = seed

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was read behind: a worker reads the file itself."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __len__(self) -> int:
        """Return how many centres there are.

        Raises:
            DataError: the file is missing or not of this form.
        """
        return len(self._centres)

    def fingerprint(self) -> str:
        """Return a name for the data: from its files' names, sizes and content."""
        files = [Path(path) for path in (self.file.path, self.file.nodes) if path is not None]
        return fingerprint_files((path.name, path) for path in files)

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
        graph = with_edges(whole.graph, edges, numbers, nodes)
        label = None if whole.labels is None else label_of(whole.labels, centre)
        return {"graph": graph, "label": label, "split": whole.splits[centre], "node": centre}

    def context(self) -> Mapping[str, Any]:
        """Return the whole graph, and the labels and splits of its nodes."""
        whole = self._whole
        return {"graph": whole.graph, "labels": whole.labels, "splits": whole.splits}

    @cached_property
    def _whole(self) -> LargeGraph:
        return self.file.read().held_out(*self.held, seed=self.seed)

    @cached_property
    def _sampler(self) -> NeighbourSampler:
        return NeighbourSampler(self._whole.graph.edges, len(self._whole.graph.nodes))

    @cached_property
    def _centres(self) -> Int[np.ndarray, " centre"]:
        splits = self._whole.splits
        if self.splits is None:
            return np.arange(len(splits))
        return np.flatnonzero(np.isin(splits, self.splits))
