"""A source of graphs from a CSV edge list and, if there is one, a node table."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from polymodal import DataError, FilePath, Sample, Source, UnreadableError, fingerprint_files
from polymodal_graph.graph import Graph
from polymodal_graph.tables import (
    Columns,
    distinct,
    is_number,
    kinds,
    label_of,
    matrix,
    numbered,
    read_table,
)

_FLOAT = re.compile(r"-?[0-9]+\.0")  # how pandas writes whole numbers of a column with gaps
_WHOLE = re.compile(r"-?[0-9]+")


class EdgeListSource(Source):
    """One graph, or with `graph` one for each value of that column, from CSV files.

    Rows have the field `graph` (a `Graph`), the value of the graph column under its name, and every
    column of the table `graphs`. Nodes stand in the order of the node table; without one they are
    the ends of the edges, sorted, with the id 0. `context()` holds the whole as one `graph`.

    Names of nodes and graphs are text, blanks around them left out: "7" and "007" are two, and so
    are "1.1" and "1.10". Columns of numbers with leading zeros ("00501") are text as well.

    Args:
        edges: path of the edge list.
        nodes: path of the node table.
        graphs: path of a table with a row for each graph (needs `graph`).
        source: column of the edge list: where an edge starts.
        target: column of the edge list: where it ends.
        node: column of the node table: the name that edges use.
        graph: column of all tables: the graph a row belongs to. Node names need to differ within
            a graph only.
        features: columns of the node table that are the nodes' features; None: all that hold
            numbers, but for names, and if there are none the id 0.
        node_kind: column of the node table that is the nodes' id, instead of features.
        edge_kind: column of the edge list: whole numbers, or words (numbered in sorted order).
        edge_values: columns of the edge list that are the edges' values.
    """

    def __init__(
        self,
        edges: FilePath,
        *,
        nodes: FilePath | None = None,
        graphs: FilePath | None = None,
        source: str = "source",
        target: str = "target",
        node: str = "node",
        graph: str | None = None,
        features: list[str] | None = None,
        node_kind: str | None = None,
        edge_kind: str | None = None,
        edge_values: list[str] | None = None,
    ):
        if graphs is not None and graph is None:
            raise ValueError("a table of graphs needs the option graph: the column that names them")
        if features is not None and node_kind is not None:
            raise ValueError("nodes have features or a node_kind, not both")
        if nodes is None and (features is not None or node_kind is not None):
            raise ValueError("features and node_kind are columns of a node table: give nodes")
        self.edges, self.nodes, self.graphs = edges, nodes, graphs
        self.source, self.target, self.node, self.graph = source, target, node, graph
        self.features, self.node_kind = features, node_kind
        self.edge_kind, self.edge_values = edge_kind, edge_values

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was read behind: a worker reads the files itself."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __len__(self) -> int:
        """Return how many graphs there are.

        Raises:
            DataError: a file or column that is missing, or a broken line.
        """
        return len(self._names)

    def fingerprint(self) -> str:
        """Return a name for the data: from its files' names, sizes and content."""
        files = [Path(path) for path in (self.edges, self.nodes, self.graphs) if path is not None]
        return fingerprint_files((path.name, path) for path in files)

    def columns(self) -> tuple[str, ...]:
        """Return "graph", the graph column and the columns of the table of graphs."""
        more = () if self.graph is None else (self.graph, *self._graph_table)
        return tuple(dict.fromkeys(("graph", *more)))

    def row(self, index: int) -> Sample:
        """Return one graph.

        Raises:
            UnreadableError: an edge whose end is no node of the graph, or a node named twice.
        """
        name = self._names[index]
        node_rows = self._node_groups[index]
        graph = self._built(node_rows, self._edge_groups[index])
        if self.graph is None:
            return {"graph": graph}
        row: dict[str, Any] = {}
        table = self._graph_table
        if table:
            at = int(numbered(table[self.graph], np.array([name]))[0])
            if at >= 0:
                row = {column: label_of(values, at) for column, values in table.items()}
        label = name.item() if isinstance(name, np.generic) else name
        return {self.graph: label, **row, "graph": graph}

    def context(self) -> Mapping[str, Any]:
        """Return {"graph": all nodes and edges as one `Graph`} for one graph; {} for many.

        Raises:
            DataError: what keeps the graph from being read.
        """
        if self.graph is not None:
            return {}
        try:
            return {"graph": self.row(0)["graph"]}
        except UnreadableError as error:
            raise DataError(str(error)) from None

    def node_column(self, name: str) -> Shaped[np.ndarray, " node"] | None:
        """Return a column of the node table, or None where there is none of that name."""
        return self._node_table.get(name)

    @cached_property
    def _edge_table(self) -> Columns:
        more = [self.graph, self.edge_kind, *(self.edge_values or [])]
        table = read_table(
            self.edges,
            needed=[self.source, self.target, *(name for name in more if name)],
            names=self._naming(self.source, self.target),
        )
        ends = {name: table[name] for name in (self.source, self.target)}
        for name, other in (tuple(ends), tuple(ends)[::-1]):
            if _all_are(_FLOAT, ends[name]) and _all_are(_WHOLE, ends[other]):
                raise DataError(
                    f"{self.edges}: column {name!r} writes numbers as '{ends[name][0]}', "
                    f"{other!r} as '{ends[other][0]}': write whole numbers in both (in pandas, "
                    "astype('Int64') before to_csv)"
                )
        return table

    @cached_property
    def _node_table(self) -> Columns:
        if self.nodes is None:
            return {}
        more = [self.graph, self.node_kind, *(self.features or [])]
        return read_table(
            self.nodes,
            needed=[self.node, *(name for name in more if name)],
            names=self._naming(self.node),
        )

    @cached_property
    def _graph_table(self) -> Columns:
        if self.graphs is None or self.graph is None:
            return {}
        return read_table(self.graphs, needed=[self.graph], names=self._naming())

    def _naming(self, *columns: str) -> list[str]:
        """Return these columns and that of the graph: what stands in them are names."""
        return [*columns, *([] if self.graph is None else [self.graph])]

    @cached_property
    def _names(self) -> Shaped[np.ndarray, " graph"]:
        """The graphs' names; a single nameless one without a graph column."""
        if self.graph is None:
            return np.array([""])
        # Not of the edges alone: a graph may have none.
        for table in (self._graph_table, self._node_table, self._edge_table):
            if table:
                return distinct(table[self.graph])
        return np.zeros(0)

    @cached_property
    def _edge_groups(self) -> list[Int[np.ndarray, " row"]]:
        return self._grouped(self._edge_table)

    @cached_property
    def _node_groups(self) -> list[Int[np.ndarray, " row"]]:
        return self._grouped(self._node_table)

    def _grouped(self, table: Columns) -> list[Int[np.ndarray, " row"]]:
        """Return the rows of each graph, in order."""
        if not table:
            return [np.zeros(0, np.int64) for _ in self._names]
        if self.graph is None:
            return [np.arange(len(next(iter(table.values()))))]
        place = numbered(self._names, table[self.graph])
        order = np.argsort(place, kind="stable")
        bounds = np.searchsorted(place[order], np.arange(len(self._names) + 1))
        return np.split(order, bounds)[1:-1]

    @cached_property
    def _nodes(self) -> Shaped[np.ndarray, "node *feature"] | None:
        """Features or ids of every row of the node table; None without any."""
        table, path = self._node_table, str(self.nodes)
        if not table:
            return None
        if self.node_kind is not None:
            return kinds(table[self.node_kind], path, self.node_kind)
        names = self.features
        if names is None:
            names = [n for n in table if n not in (self.node, self.graph) and is_number(table[n])]
        return matrix(table, names, path) if names else None

    @cached_property
    def _edge_attributes(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        table = self._edge_table
        found, values = None, None
        if self.edge_kind is not None:
            found = kinds(table[self.edge_kind], self.edges, self.edge_kind)
        if self.edge_values:
            values = matrix(table, self.edge_values, self.edges)
        return found, values

    def _built(self, nodes: Int[np.ndarray, " row"], edges: Int[np.ndarray, " row"]) -> Graph:
        table = self._edge_table
        ends = [table[name][edges] for name in (self.source, self.target)]
        for name, end in zip((self.source, self.target), ends, strict=True):
            if not is_number(end) and (end == "").any():
                line = int(edges[(end == "").argmax()]) + 1
                raise UnreadableError(f"{self.edges}: edge {line} has no {name}")
        if self.nodes is None:
            if is_number(ends[0]) != is_number(ends[1]):
                ends = [end.astype(str) for end in ends]
            names = distinct(np.concatenate(ends))
        else:
            names = self._node_table[self.node][nodes]
            if len(distinct(names)) < len(names):
                raise UnreadableError(f"{self.nodes}: a node is named twice in one graph")
        links = np.stack([numbered(names, end) for end in ends])
        if (links < 0).any():
            bad = int((links < 0).any(axis=0).argmax())
            raise UnreadableError(
                f"{self.edges}: the edge {ends[0][bad]} -> {ends[1][bad]} joins what is no node "
                f"of {self.nodes}.{_hint([end[bad] for end in ends], names)}"
            )
        values = self._nodes
        found, features = self._edge_attributes
        return Graph(
            np.zeros(len(names), np.int64) if values is None else values[nodes],
            links,
            None if found is None else found[edges],
            None if features is None else features[edges],
        )


def _all_are(form: re.Pattern[str], names: Shaped[np.ndarray, " end"]) -> bool:
    return len(names) > 0 and all(form.fullmatch(name) for name in set(names.astype(str).tolist()))


def _hint(ends: Sequence[Any], names: Shaped[np.ndarray, " node"]) -> str:
    """Say so if an end is a node's name but for the ".0" that pandas gives whole numbers."""
    known = set(names.astype(str).tolist())
    for end in map(str, ends):
        bare = end.removesuffix(".0")
        if end not in known and (bare in known or f"{end}.0" in known):
            return f" {bare!r} and '{bare}.0' are two names: write whole numbers in both tables"
    return ""
