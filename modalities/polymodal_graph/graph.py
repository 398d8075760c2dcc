"""A graph as a raw value, and PyTorch Geometric's Data in and out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes with features or ids, and directed edges between them, each with a kind or values.

    An edge (source, target) carries what the source knows to the target. In a sampled
    neighbourhood the first node is the centre.

    Raises:
        ValueError: a shape or type other than those below.
    """

    nodes: Shaped[np.ndarray, "node *feature"]  # float32 [node, feature], or int64 ids [node]
    edges: Int[np.ndarray, "2 edge"]  # int64: sources, targets
    edge_kinds: Int[np.ndarray, " edge"] | None = None  # int64
    edge_values: Float[np.ndarray, "edge feature"] | None = None  # float32

    def __post_init__(self) -> None:
        nodes = self.nodes
        if not (
            (nodes.ndim == 2 and nodes.dtype == np.float32)
            or (nodes.ndim == 1 and nodes.dtype == np.int64)
        ):
            raise ValueError(
                "nodes must be float32 [node, feature] or int64 ids [node], got "
                f"{nodes.dtype} {list(nodes.shape)}"
            )
        edges = self.edges
        if edges.ndim != 2 or edges.shape[0] != 2 or edges.dtype != np.int64:
            raise ValueError(
                f"edges must be int64 [2, edge], got {edges.dtype} {list(edges.shape)}"
            )
        count = edges.shape[1]
        kinds, values = self.edge_kinds, self.edge_values
        if kinds is not None and (kinds.shape != (count,) or kinds.dtype != np.int64):
            raise ValueError(
                f"edge_kinds must be int64 [{count}], one an edge, got "
                f"{kinds.dtype} {list(kinds.shape)}"
            )
        if values is not None and (
            values.ndim != 2 or len(values) != count or values.dtype != np.float32
        ):
            raise ValueError(
                f"edge_values must be float32 [{count}, feature], got "
                f"{values.dtype} {list(values.shape)}"
            )

    @classmethod
    def of(
        cls,
        nodes: Any,
        edges: Any,
        *,
        edge_kinds: Any = None,
        edge_values: Any = None,
    ) -> "Graph":
        """Return the graph of any arrays, tensors or lists.

        Edges are [2, edge]; whole numbers in one dimension (or one column) are node ids, all else
        is features.

        Raises:
            ValueError: what can't be read as such.
        """
        links = _array(edges, "edges")
        if links.size == 0:
            links = np.zeros((2, 0), np.int64)
        if links.ndim == 2 and links.shape[1] == 2 != links.shape[0]:
            raise ValueError(
                f"edges must be [2, edge], got {list(links.shape)}; a list of pairs goes under "
                "'edge_list'"
            )
        return cls(
            _nodes(nodes),
            _whole(links, "edges"),
            None if edge_kinds is None else _whole(_array(edge_kinds, "edge_kinds"), "edge_kinds"),
            None if edge_values is None else _columns(_array(edge_values, "edge_values")),
        )


def _array(value: Any, name: str) -> Shaped[np.ndarray, "..."]:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} are no array: {error}") from None
    if array.dtype.kind not in "biuf":
        if array.size:
            raise ValueError(f"{name} must be numbers, got {array.dtype}")
        array = array.astype(np.float32)
    return array


def _whole(array: Shaped[np.ndarray, "..."], name: str) -> Int[np.ndarray, "..."]:
    if array.dtype.kind == "f" and array.size and not np.array_equal(array, np.trunc(array)):
        raise ValueError(f"{name} must be whole numbers")
    if array.size and array.dtype.kind in "fu" and np.abs(array).max() >= 2**63:
        raise ValueError(f"{name} must be whole numbers below 2**63, got {array.max()}")
    return np.ascontiguousarray(array, dtype=np.int64)


def _columns(array: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "row column"]:
    if array.ndim == 1:
        array = array[:, None]
    with np.errstate(over="ignore"):  # becomes inf, which the tokenizer's check refuses
        return np.ascontiguousarray(array, dtype=np.float32)


def _nodes(value: Any) -> Shaped[np.ndarray, "node *feature"]:
    array = _array(value, "nodes")
    if array.dtype.kind in "iu":
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim == 1:
            return _whole(array, "nodes")
    return _columns(array)


def missing_reverse(
    edges: Int[np.ndarray, "2 edge"], nodes: int
) -> Int[np.ndarray, " one_way_edge"]:
    """Return the numbers of the edges whose reverse is not there."""
    forward, backward = edges[0] * nodes + edges[1], edges[1] * nodes + edges[0]
    return np.flatnonzero(~np.isin(backward, forward))


def from_pyg(data: Any) -> Graph:
    """Return the graph of a `torch_geometric.data.Data`.

    Reads `x` (whole numbers in one column are ids), `edge_index` or, after the transform
    `ToSparseTensor`, `adj_t`; `edge_type` (kinds), and `edge_attr` (values; kinds if it is whole
    numbers in one column), else `edge_weight` or what `adj_t` holds as values. Without `x` every
    node has the id 0.

    Raises:
        ValueError: shapes that contradict each other; several graphs or types of nodes in one
            object; edges in a form that is not read.
    """
    from polymodal_graph.pyg import Batch, Data, HeteroData

    if isinstance(data, HeteroData):
        raise ValueError(
            "a HeteroData has nodes of several types: give data.to_homogeneous(), which numbers "
            "the types of edges in edge_type"
        )
    if not isinstance(data, Data):
        raise ValueError(f"a graph is a torch_geometric.data.Data, got {type(data).__name__}")
    if isinstance(data, Batch):
        raise ValueError(
            f"a Batch holds {data.num_graphs} graphs: give those of data.to_data_list()"
        )
    kinds, values = getattr(data, "edge_type", None), getattr(data, "edge_attr", None)
    if kinds is None and values is not None and not values.is_floating_point():
        single = values.dim() == 1 or (values.dim() == 2 and values.shape[1] == 1)
        if single:
            kinds, values = values.reshape(-1), None
    edges, weights = _pyg_edges(data)
    nodes = data.x
    if nodes is None:
        nodes = torch.zeros(int(data.num_nodes or 0), dtype=torch.int64)
    return Graph.of(
        nodes, edges, edge_kinds=kinds, edge_values=weights if values is None else values
    )


def _pyg_edges(data: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return [2, edge], and a weight an edge where there is one."""
    adjacency = getattr(data, "adj_t", None)
    if data.edge_index is not None or adjacency is None:
        if data.edge_index is None:
            stray = [name for name in data.to_dict() if name.startswith(("edge_", "adj", "face"))]
            if stray:
                raise ValueError(
                    f"the Data has {', '.join(stray)}, but neither edge_index nor adj_t"
                )
            return torch.zeros(2, 0, dtype=torch.int64), None
        return data.edge_index, getattr(data, "edge_weight", None)
    from torch_geometric.utils import to_edge_index

    if hasattr(adjacency, "coo"):  # torch_sparse's own class, which may have no values
        ends, sources, weights = adjacency.coo()
        return torch.stack([sources, ends]), weights
    if adjacency.layout == torch.strided:
        raise ValueError("adj_t is a dense matrix: make it sparse, or give edge_index")
    edges, weights = to_edge_index(adjacency)
    return edges.flip(0), weights  # adj_t[target, source]


def to_pyg(graph: Graph) -> Any:
    """Return a `torch_geometric.data.Data`: `x`, `edge_index`, `edge_type`, `edge_attr`.

    Ids become one column of whole numbers, so that `from_pyg` gives the same graph back.
    """
    from polymodal_graph.pyg import Data

    nodes = torch.tensor(graph.nodes)  # copied: arrays out of Arrow tables are read-only
    more = {}
    if graph.edge_kinds is not None:
        more["edge_type"] = torch.tensor(graph.edge_kinds)
    if graph.edge_values is not None:
        more["edge_attr"] = torch.tensor(graph.edge_values)
    return Data(
        x=nodes[:, None] if nodes.dim() == 1 else nodes,
        edge_index=torch.tensor(graph.edges),
        **more,
    )
