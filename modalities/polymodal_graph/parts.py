"""A source that serves one large graph whole, or cut into parts."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from jaxtyping import Int

from polymodal import DataError, FilePath, Sample, Source, filled, fingerprint_files
from polymodal_graph.large import (
    PART_FIELDS,
    LargeGraph,
    LargeGraphFile,
    TableOptions,
    check_held,
    grown_parts,
)


class PartSource(Source):
    """One large graph as a single sample (full batch), or as parts that hang together.

    A batch of parts is that of Cluster-GCN (Chiang et al., 2019) without edges between parts. A row
    has `graph`; `labels` (None if unknown), `splits` ("train", "validation", "test" or "none") and
    `nodes` (numbers in the whole graph), an entry a node, for evaluations `each: token`; and pairs
    of nodes for `evaluation.links`, [2, pair], each pair once: `train_edges`, the graph's own, and
    `validation_edges` and `test_edges`, which are held out of it. `context()` holds the whole
    `graph`, its `labels` and its `splits`. For the files see `graph.neighbourhoods`.

    Args:
        path: an `.npz` file, or a CSV edge list.
        nodes: CSV node table of an edge list.
        parts: how many; 1 is the whole graph.
        undirected: let edges count both ways, each pair once.
        validation_edges: share of the edges to hold out, both directions together.
        test_edges: the same, further ones.
        seed: of the parts, and of what is held out.
        columns: how the columns of tables are called; see `TableOptions`.
    """

    def __init__(
        self,
        path: FilePath,
        *,
        nodes: FilePath | None = None,
        parts: int = 1,
        undirected: bool = False,
        validation_edges: float = 0.0,
        test_edges: float = 0.0,
        seed: int = 0,
        **columns: Unpack[TableOptions],
    ):
        if parts < 1:
            raise ValueError(f"parts must be at least 1, got {parts}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        check_held(validation_edges, test_edges)
        self.file = LargeGraphFile(path, nodes, undirected, **filled(TableOptions, columns))
        self.parts = parts
        self.held = (validation_edges, test_edges)
        self.seed = seed

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was read behind: a worker reads the file itself."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __len__(self) -> int:
        """Return how many parts there are."""
        return self.parts

    def fingerprint(self) -> str:
        """Return a name for the data: from its files' names, sizes and content."""
        files = [Path(path) for path in (self.file.path, self.file.nodes) if path is not None]
        return fingerprint_files((path.name, path) for path in files)

    def columns(self) -> tuple[str, ...]:
        """Return the names of the fields."""
        return PART_FIELDS

    def row(self, index: int) -> Sample:
        """Return one part.

        Raises:
            DataError: the file is missing or not of this form.
        """
        if index not in self._rows:
            self._rows[index] = self._whole.part(self._members[index])
        return self._rows[index]

    def context(self) -> Mapping[str, Any]:
        """Return the whole graph, and the labels and splits of its nodes."""
        whole = self._whole
        return {"graph": whole.graph, "labels": whole.labels, "splits": whole.splits}

    @cached_property
    def _whole(self) -> LargeGraph:
        return self.file.read().held_out(*self.held, seed=self.seed)

    @cached_property
    def _rows(self) -> dict[int, Sample]:
        return {}  # filled as asked for: a full batch asks for its one row at every step

    @cached_property
    def _members(self) -> list[Int[np.ndarray, " node"]]:
        graph = self._whole.graph
        count = len(graph.nodes)
        if self.parts > count:
            raise DataError(f"{self.file.path}: {count} nodes can't be cut into {self.parts} parts")
        return grown_parts(graph.edges, count, self.parts, seed=self.seed)
