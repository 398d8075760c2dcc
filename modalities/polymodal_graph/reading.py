"""The reader of graphs: mappings, JSON and PyTorch Geometric's Data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polymodal.errors import UnreadableError
from polymodal.files import bytes_or_path
from polymodal.tokenizer import Reader
from polymodal_graph.graph import Graph, from_pyg

NODES = ("nodes", "x", "node_feat", "node_ids")
EDGES = ("edges", "edge_index", "edge_list")


class GraphReader(Reader):
    """Reads a graph from a mapping, JSON, or a PyTorch Geometric `Data`.

    A mapping has nodes under "nodes", "x" or "node_feat" (a row of features each, or whole numbers
    in one dimension: ids), or "node_ids"; without any, "num_nodes" nodes of id 0, or as many as
    the edges name. It has edges under "edges" or "edge_index" ([2, edge]: sources, targets) or
    "edge_list" (pairs), and may have "edge_kinds" or "edge_type" and "edge_values" or
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
            if type(value).__module__.startswith("torch_geometric."):
                return from_pyg(value)
            if isinstance(value, Mapping) and not {"path", "bytes"} >= set(value):
                return _from_mapping(value)
            return _from_mapping(_parsed(value))
        except (ValueError, TypeError) as error:
            raise UnreadableError(str(error)) from None


def _is_path(text: str) -> bool:
    return not text.lstrip().startswith(("{", "["))


def _parsed(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        value = bytes_or_path(value)
    if isinstance(value, str) and _is_path(value):
        value = Path(value)
    name = ""
    if isinstance(value, Path):
        name = f"{value.name}: "
        try:
            value = value.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a null character in the name
            reason = getattr(error, "strerror", None) or error
            raise UnreadableError(f"{value!s:.200}: {reason}") from None
    if not isinstance(value, str | bytes | bytearray):
        raise UnreadableError(
            f"a graph must be a mapping, JSON or PyTorch Geometric Data, got {type(value).__name__}"
        )
    try:
        found = json.loads(value)
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
        if int(count) < 0:
            raise ValueError(f"num_nodes must not be negative, got {count}")
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
