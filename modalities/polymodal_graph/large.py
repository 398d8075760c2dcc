"""One large graph whose nodes are the samples: read from a file, with edges held out, in parts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypedDict

import numpy as np
from jaxtyping import Bool, Int, Shaped

from polymodal import DataError, Default, read_npz
from polymodal_graph.edge_list import EdgeListSource
from polymodal_graph.graph import Graph, missing_reverse
from polymodal_graph.tables import is_number, read_table

MASKS = {"train_mask": "train", "val_mask": "validation", "test_mask": "test"}
NO_SPLIT = "none"
HELD = ("validation", "test")
MAX_BYTES = 64 * 2**30  # that an .npz file may unpack to


@dataclass(frozen=True, eq=False)
class LargeGraph:
    """A graph whose nodes are the samples, with what is known of each."""

    graph: Graph
    labels: Shaped[np.ndarray, " node"] | None
    splits: Shaped[np.ndarray, " node"]  # words
    # Pairs of nodes that were edges, by "validation" and "test"; see `held_out`.
    held: Mapping[str, Int[np.ndarray, "2 pair"]] = field(default_factory=dict)

    def held_out(self, validation: float, test: float, *, seed: int = 0) -> "LargeGraph":
        """Return the graph without these shares of its edges, which it keeps as `held` pairs.

        Both directions of an edge go together and are one pair, the lower node first; loops stay.

        Raises:
            ValueError: shares below 0, or of 1 and more together.
        """
        check_held(validation, test)
        if not validation + test:
            return self
        edges, count = self.graph.edges, len(self.graph.nodes)
        code, place = np.unique(_codes(edges, count), return_inverse=True)
        order = np.random.default_rng([seed, 1]).permutation(
            np.flatnonzero(code // count != code % count)
        )
        ends = np.round(np.cumsum([validation, test]) * len(order)).astype(np.int64)
        chosen = dict(zip(HELD, np.split(order, ends)[:2], strict=True))
        gone = np.zeros(len(code), bool)
        gone[order[: ends[1]]] = True
        kept = np.flatnonzero(~gone[place])
        return replace(
            self,
            graph=with_edges(self.graph, edges[:, kept], kept),
            held={name: _pairs(code[rows], count) for name, rows in chosen.items()},
        )

    def part(self, nodes: Int[np.ndarray, " chosen"]) -> dict[str, Any]:
        """Return what is known of some nodes, and the edges between them, as a sample's fields.

        `graph`; `labels` (None if unknown), `splits` and `nodes` (their numbers), an entry a node;
        `train_edges`, and `validation_edges` and `test_edges` that were held out, [2, pair], by
        places in the part, each pair once.
        """
        count = len(self.graph.nodes)
        place = np.full(count, -1)
        place[nodes] = np.arange(len(nodes))

        def within(pairs: Int[np.ndarray, "2 pair"]) -> tuple[np.ndarray, np.ndarray]:
            inside = np.flatnonzero((place[pairs] >= 0).all(axis=0))
            return place[pairs[:, inside]], inside

        edges, kept = within(self.graph.edges)
        graph = with_edges(self.graph, edges, kept, nodes)
        codes = np.unique(_codes(edges, len(nodes)))
        train = _pairs(codes, len(nodes))
        none = np.zeros((2, 0), np.int64)
        return {
            "graph": graph,
            "labels": None if self.labels is None else self.labels[nodes],
            "splits": self.splits[nodes],
            "nodes": nodes,
            "train_edges": train[:, train[0] != train[1]],
            **{f"{name}_edges": within(self.held.get(name, none))[0] for name in HELD},
        }


def check_held(validation: float, test: float) -> None:
    """Check the shares of edges to hold out.

    Raises:
        ValueError: one is below 0, or they leave no edge.
    """
    if min(validation, test) < 0 or validation + test >= 1:
        raise ValueError(
            "validation_edges and test_edges must not be negative and leave some edges, got "
            f"{validation} and {test}"
        )


PART_FIELDS = (
    "graph", "labels", "splits", "nodes", "train_edges", *(f"{name}_edges" for name in HELD),
)  # fmt: skip


def _codes(edges: Int[np.ndarray, "2 edge"], nodes: int) -> Int[np.ndarray, " edge"]:
    """Return a number for each edge, the same for both directions."""
    low, high = np.sort(edges, axis=0)
    return low * max(nodes, 1) + high


def _pairs(codes: Int[np.ndarray, " pair"], nodes: int) -> Int[np.ndarray, "2 pair"]:
    return np.stack(np.divmod(codes, max(nodes, 1)))


def with_edges(
    graph: Graph,
    edges: Int[np.ndarray, "2 kept"],
    kept: Int[np.ndarray, " kept"],
    nodes: Int[np.ndarray, " chosen"] | None = None,
) -> Graph:
    """Return the graph of some or all nodes with these edges, of kinds and values as `kept`."""
    kinds, values = graph.edge_kinds, graph.edge_values
    return Graph(
        graph.nodes if nodes is None else graph.nodes[nodes],
        edges,
        None if kinds is None else kinds[kept],
        None if values is None else values[kept],
    )


def undirected(graph: Graph) -> Graph:
    """Return the graph with the reverse of each edge that has none, of its kind and values."""
    edges = graph.edges
    extra = missing_reverse(edges, len(graph.nodes))
    numbers = np.concatenate([np.arange(edges.shape[1]), extra])
    return with_edges(graph, np.concatenate([edges, edges[::-1, extra]], axis=1), numbers)


def grown_parts(
    edges: Int[np.ndarray, "2 edge"], nodes: int, parts: int, *, seed: int = 0
) -> list[Int[np.ndarray, " member"]]:
    """Return the nodes cut into so many parts of equal size, to one node, joined where they can be.

    Each part grows from a random node over the neighbours left, breadth first; where none is left
    it goes on from another node. Edges count both ways.
    """
    if parts == 1:
        return [np.arange(nodes)]
    order = np.argsort(np.concatenate(edges), kind="stable")
    neighbours = np.concatenate(edges[::-1])[order]
    degree = np.bincount(np.concatenate(edges), minlength=nodes)
    ends = degree.cumsum()
    queue = iter(np.random.default_rng([seed, 2]).permutation(nodes).tolist())
    taken = np.zeros(nodes, bool)
    found = []
    for part in range(parts):
        size = (part + 1) * nodes // parts - part * nodes // parts
        members: list[int] = []
        grown = 0
        while len(members) < size:
            if grown == len(members):  # nothing left to grow from
                fresh = np.array([next(node for node in queue if not taken[node])])
            else:
                node = members[grown]
                grown += 1
                near = np.unique(neighbours[ends[node] - degree[node] : ends[node]])
                fresh = near[~taken[near]][: size - len(members)]
            taken[fresh] = True
            members += fresh.tolist()
        found.append(np.sort(np.array(members, dtype=np.int64)))
    return found


class TableOptions(TypedDict, total=False):
    """How the columns of a CSV edge list and its node table are called.

    Args:
        source: column of the edge list: where an edge starts.
        target: column of the edge list: where it ends.
        node: column of the node table: the name that edges use.
        features: columns of the node table; None: all that hold numbers but the others named here.
        label: column of the node table: what is known of a node.
        split: column of the node table: the split a node is in.
    """

    source: Annotated[str, Default("source")]
    target: Annotated[str, Default("target")]
    node: Annotated[str, Default("node")]
    features: Annotated[list[str] | None, Default(None)]
    label: Annotated[str, Default("label")]
    split: Annotated[str, Default("split")]


@dataclass(frozen=True)
class LargeGraphFile:
    """Where a large graph is read from: an `.npz` file, or a CSV edge list with a node table.

    An `.npz` file (no pickles) has edge_index [2, edge]; x [node, feature], or its non-zero
    places x_row, x_col (and x_value, else 1) with x_shape; and may have y [node], train_mask,
    val_mask and test_mask [node]; one that unpacks to more than `max_bytes` is refused. The
    attributes from `source` on are those of `TableOptions`.

    Raises:
        ValueError: a node table beside an `.npz` file.
    """

    path: str
    nodes: str | None
    undirected: bool
    source: str
    target: str
    node: str
    features: Sequence[str] | None
    label: str
    split: str
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        if self.path.endswith(".npz") and self.nodes is not None:
            raise ValueError("a node table goes with a CSV edge list; an .npz file has its nodes")

    def read(self) -> LargeGraph:
        """Return the graph.

        Raises:
            DataError: the file is missing or not of this form.
        """
        whole = self._from_npz() if self.path.endswith(".npz") else self._from_tables()
        edges, count = whole.graph.edges, len(whole.graph.nodes)
        if edges.size and (edges.min() < 0 or edges.max() >= count):
            raise DataError(f"{self.path}: an edge points outside the graph's {count} nodes")
        return replace(whole, graph=undirected(whole.graph)) if self.undirected else whole

    def _from_npz(self) -> LargeGraph:
        try:
            found = read_npz(self.path, max_bytes=self.max_bytes)
        except FileNotFoundError:
            raise DataError(f"{self.path[:200]}: no such file") from None
        except OSError as error:
            raise DataError(f"{self.path[:200]} can't be read: {error.strerror or error}") from None
        except ValueError as error:
            raise DataError(f"{self.path[:200]} is no .npz file of arrays: {error}") from None
        if "edge_index" not in found:
            raise DataError(f"{self.path}: no array 'edge_index'; it has {sorted(found)}")
        try:
            features = _features(found)
            graph = Graph.of(features, found["edge_index"])
        except (ValueError, IndexError, TypeError) as error:
            raise DataError(f"{self.path}: {error}") from None
        count = len(graph.nodes)
        splits = np.full(count, NO_SPLIT, dtype=object)
        for name in ("y", *MASKS):
            rows = found[name].shape[:1] if name in found else (count,)
            if rows != (count,):
                raise DataError(
                    f"{self.path}: {name} has {rows[0] if rows else 'no'} rows, x has {count}"
                )
        for name, split in MASKS.items():
            if name in found:
                splits[self._mask(name, found[name])] = split
        return LargeGraph(graph, found.get("y"), splits)

    def _mask(self, name: str, mask: Shaped[np.ndarray, "..."]) -> Bool[np.ndarray, " node"]:
        if mask.ndim > 1 and math.prod(mask.shape[1:]) == 1:
            mask = mask.reshape(-1)
        if mask.ndim > 1:
            raise DataError(
                f"{self.path}: {name} has shape {list(mask.shape)}: choose one of its columns"
            )
        if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
            raise DataError(f"{self.path}: {name} must hold true and false (or 1 and 0) a node")
        return mask.astype(bool)

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
            return list(self.features)
        table = read_table(self.nodes, needed=[self.node], names=[self.node])
        others = (self.node, self.label, self.split)
        return [name for name in table if name not in others and is_number(table[name])]


def _features(found: Mapping[str, np.ndarray]) -> Shaped[np.ndarray, "node *feature"]:
    if "x" in found:
        return found["x"]
    if "x_shape" not in found:
        for name in ("y", *MASKS):
            if name in found:  # nodes without features: each has the id 0
                return np.zeros(len(found[name]), np.int64)
        edges = found["edge_index"]
        return np.zeros(_within_memory(int(edges.max()) + 1 if edges.size else 0), np.int64)
    missing = [name for name in ("x_row", "x_col") if name not in found]
    if missing:
        raise ValueError(f"x_shape needs {' and '.join(missing)}")
    sizes = [int(size) for size in found["x_shape"].reshape(-1)]
    if len(sizes) != 2 or min(sizes) < 0:
        raise ValueError(f"x_shape must be [node, feature], got {sizes}")
    for name, size in zip(("x_row", "x_col"), sizes, strict=True):
        places = found[name]
        if places.size and not (places.min() >= 0 and places.max() < size):
            raise ValueError(f"{name} must lie from 0 to below {size} of x_shape")
    _within_memory(4 * math.prod(sizes))
    dense = np.zeros(sizes, dtype=np.float32)
    dense[found["x_row"], found["x_col"]] = found.get("x_value", 1)
    return dense


def _within_memory(size: int) -> int:
    """Return a size that is asked for, but for one that only a damaged file asks for.

    Raises:
        ValueError: it is larger than a file may unpack to.
    """
    if size > MAX_BYTES:
        raise ValueError(f"it asks for {size} bytes or nodes, more than {MAX_BYTES}")
    return size
