"""graph: molecules, networks and sampled neighbourhoods, with nodes as tokens."""

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from polymodal import hookimpl

if TYPE_CHECKING:
    from polymodal import Registry
    from polymodal.testing import Example
    from polymodal_graph.graph import Graph, from_pyg, to_pyg
    from polymodal_graph.large import PART_FIELDS, LargeGraph, check_held, grown_parts
    from polymodal_graph.sampling import NeighbourSampler

polymodal_interface = 1

_HOME = {
    "Graph": "graph", "from_pyg": "graph", "to_pyg": "graph",
    "PART_FIELDS": "large", "LargeGraph": "large", "check_held": "large", "grown_parts": "large",
    "NeighbourSampler": "sampling",
}  # fmt: skip

__all__ = [
    "PART_FIELDS", "Graph", "LargeGraph", "NeighbourSampler", "check_held", "from_pyg",
    "grown_parts", "polymodal_interface", "polymodal_register", "to_pyg",
]  # fmt: skip


@hookimpl
def polymodal_register(registry: "Registry") -> None:
    """Name this plugin's components."""
    registry.reader(
        "graph",
        "polymodal_graph.reading:GraphReader",
        "mappings, JSON or PyTorch Geometric Data to graphs",
    )
    registry.reader("smiles", "polymodal_graph.smiles:SmilesReader", "SMILES strings to graphs")
    registry.source(
        "edge_list",
        "polymodal_graph.edge_list:EdgeListSource",
        "a CSV edge list and node table: one graph, or one for each value of a column",
    )
    registry.source(
        "neighbourhoods",
        "polymodal_graph.neighbourhoods:NeighbourhoodSource",
        "the sampled neighbourhood of each node of one large graph",
    )
    registry.source(
        "parts",
        "polymodal_graph.parts:PartSource",
        "one large graph whole, or cut into parts; edges held out to be predicted",
    )
    registry.tokenizer("nodes", "polymodal_graph.nodes:GraphNodes", "nodes as tokens, with edges")
    registry.encoder(
        "gnn", "polymodal_graph.network:GraphNetwork", "GIN, GCN, GAT, GraphSAGE or GPS layers"
    )
    registry.encoder(
        "transformer",
        "polymodal_graph.transformer:GraphTransformer",
        "the packed transformer with attention biased by edges",
    )


@hookimpl
def polymodal_examples() -> "Iterable[Example]":
    """Return a small case of each component, for the conformance kit."""
    from polymodal_graph.examples import examples

    return examples()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'polymodal_graph' has no attribute {name!r}")
    return getattr(import_module(f"polymodal_graph.{_HOME[name]}"), name)
