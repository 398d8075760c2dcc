"""The reader of graphs: mappings, JSON and PyTorch Geometric's Data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polymodal import Reader, UnreadableError, bytes_or_path
from polymodal_graph.graph import Graph, from_pyg

NODES = ("nodes", "x", "node_feat", "node_ids")
EDGES = ("edges", "edge_index", "edge_list")
MOST_NODES = 100_000_000  # of nodes that are not listed, which cost memory without being data


class GraphReader(Reader):
    """Reads a graph from a mapping, JSON, or a PyTorch Geometric `Data`.

    A mapping has nodes under "nodes", "x" or "node_feat" (a row of features each, or whole numbers
    in one dimension: ids), or "node_ids"; without any, "num_nodes" nodes of id 0, or as many as
    the edges name. It has edges under "edge_index" ([2, edge]: sources, targets), "edge_list"
    (pairs), or "edges" ([2, edge], but for two edges, which could be either and are refused); all
    count nodes from 0. It may have "edge_kinds" or "edge_type" and "edge_values" or
    "edge_attr" (kinds if whole numbers in one dimension). JSON is such a mapping as text, bytes,
    `{"path", "bytes"}` or a path to a file.
    """

    def paths_in(self, value: Any) -> list[str]:
        """Return the path of a file of JSON."""
        if isinstance(value, str):
            return [value] if _is_path(value) else []
        return super().paths_in(value)

    def __call__(self, value: Any) -> Graph:
        """Return the graph.

        Raises:
            UnreadableError: no graph, or one whose parts contradict each other.
        """
        try:
            if isinstance(value, Graph):
                return value
            if any(kind.__module__.startswith("torch_geometric.") for kind in type(value).__mro__):
                return from_pyg(value)
            if isinstance(value, Mapping) and not {"path", "bytes"} >= set(value):
                return _from_mapping(value)
            return _from_mapping(_parsed(value))
        except (ValueError, TypeError, OverflowError) as error:
            raise UnreadableError(str(error)) from None


def _is_path(text: str) -> bool:
    return not text.lstrip("\ufeff \t\r\n").startswith(("{", "["))


def _parsed(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        value = bytes_or_path(value, "graph")
    if isinstance(value, str) and _is_path(value):
        value = Path(value)
    name = ""
    if isinstance(value, Path):
        name = f"{value.name[:80]}: "
        try:
            value = value.read_bytes()
        except OSError as error:
            raise UnreadableError(f"{str(value)[:200]}: {error.strerror or error}") from None
        except ValueError as error:  # NUL or half a surrogate pair in the path
            raise UnreadableError(f"{str(value)[:200]!r} is no path: {error}") from None
    if not isinstance(value, str | bytes | bytearray):
        raise UnreadableError(
            f"a graph must be a mapping, JSON or PyTorch Geometric Data, got {type(value).__name__}"
        )
    try:
        # A byte-order mark is no part of JSON; bytes may also be UTF-16, as JSON allows.
        found = json.loads(value.removeprefix("\ufeff") if isinstance(value, str) else value)
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"{name}not UTF-8: byte 0x{value[error.start]:02x} at position {error.start}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{name}not JSON: {error}") from None
    if not isinstance(found, Mapping):
        raise UnreadableError(f"{name}the JSON of a graph must be an object")
    return found


def _from_mapping(value: Mapping[str, Any]) -> Graph:
    nodes = _one_of(value, NODES)
    edges = _one_of(value, EDGES)
    if edges is None:
        raise ValueError(f"a graph needs edges under one of {', '.join(EDGES)}; none may be []")
    if value.get("edges") is not None and np.shape(edges) == (2, 2):
        raise ValueError(
            "two edges under 'edges' could be two pairs, or sources and targets: give them as "
            "'edge_list' (pairs) or 'edge_index' ([2, edge])"
        )
    if value.get("edge_list") is not None:
        pairs = np.asarray(edges)
        if pairs.size and (pairs.ndim != 2 or pairs.shape[1] != 2):
            raise ValueError(f"edge_list must be pairs, got {list(pairs.shape)}")
        edges = pairs.reshape(-1, 2).T
    if nodes is None:
        count = value.get("num_nodes")
        if count is None:
            ends = np.asarray(edges)
            count = int(ends.max()) + 1 if ends.size else 0
        if int(count) != float(count):
            raise ValueError(f"num_nodes must be a whole number, got {count}")
        if not 0 <= int(count) <= MOST_NODES:
            raise ValueError(
                f"num_nodes must lie from 0 to {MOST_NODES}, and not be negative, got {count}"
                if value.get("num_nodes") is not None
                else f"edges name {count} nodes; more than {MOST_NODES} must be listed"
            )
        nodes = np.zeros(int(count), np.int64)
    kinds = _one_of(value, ("edge_kinds", "edge_type"))
    values = _one_of(value, ("edge_values", "edge_attr"))
    if kinds is None and value.get("edge_attr") is not None:
        attributes = np.asarray(values)
        if attributes.dtype.kind in "iu" and attributes.ndim == 1:
            kinds, values = attributes, None
    return Graph.of(nodes, edges, edge_kinds=kinds, edge_values=values)


def _one_of(value: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    found = [name for name in names if value.get(name) is not None]
    if len(found) > 1:
        raise ValueError(f"a graph has one of {', '.join(names)}, not {' and '.join(found)}")
    return value[found[0]] if found else None
