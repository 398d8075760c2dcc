"""A small case of each component, for the conformance kit."""

from functools import partial
from pathlib import Path

import numpy as np

from polymodal.testing import Example

PAIRS = ((0, 1), (1, 2), (2, 3), (3, 0), (3, 4))


def _tables(folder: Path) -> None:
    edges = "".join(f"{a},{b}\n" for a, b in PAIRS)
    (folder / "edges.csv").write_text("source,target\n" + edges)
    nodes = "".join(f"{n},{n / 2},{n % 2},{n % 3}\n" for n in range(5))
    (folder / "nodes.csv").write_text("node,height,weight,label\n" + nodes)


def examples() -> list[Example]:
    """Return small graphs with features and kinds of edges."""
    from polymodal_graph.graph import Graph

    generator = np.random.default_rng(0)
    graphs = []
    for nodes in (5, 4, 7, 1):
        near = np.arange(nodes - 1, dtype=np.int64)
        edges = np.stack([near, near + 1])
        features = generator.standard_normal((nodes, 4)).astype(np.float32)
        kinds = generator.integers(0, 2, len(near))
        values = generator.standard_normal((len(near), 1)).astype(np.float32)
        graphs.append(Graph(features, edges, kinds, values))
    written = {"nodes": [[0.5, 1.0], [1.5, 0.0]], "edge_index": [[0, 1], [1, 0]]}
    nodes_of = {"features": 4, "edge_kinds": 2, "edge_features": 1, "undirected": True}
    dropped = {"drop_nodes": 0.2, "drop_edges": 0.2}
    tables = {"nodes": "{folder}/nodes.csv"}
    encoder = partial(
        Example, kind="encoder", tokenizer={"use": "graph.nodes", **nodes_of}, raws=graphs
    )
    return [
        Example("graph.graph", "reader", values=[written, *graphs]),
        Example("graph.smiles", "reader", values=["CCO", "c1ccccc1O", "C"]),
        Example(
            "graph.edge_list", "source", {"edges": "{folder}/edges.csv", **tables}, prepare=_tables
        ),
        Example(
            "graph.neighbourhoods", "source",
            {"path": "{folder}/edges.csv", "fanouts": [2, 2], **tables}, prepare=_tables,
        ),
        Example(
            "graph.parts", "source",
            {"path": "{folder}/edges.csv", "parts": 2, "test_edges": 0.2, **tables},
            prepare=_tables,
        ),
        Example(
            "graph.nodes", "tokenizer", {**nodes_of, "drop_features": 0.3, "drop_by": "degree"},
            raws=graphs,
        ),
        *(
            Example(
                "graph.nodes", "tokenizer", {**nodes_of, **dropped, "encoding": encoding},
                raws=graphs,
            )
            for encoding in ("none", "random_walk", "laplacian")
        ),
        *(
            encoder("graph.gnn", options={"width": 16, "depth": 2, "layer": layer})
            for layer in ("gin", "gcn", "gat", "sage", "gps")
        ),
        *(
            encoder(
                "graph.transformer",
                options={"width": 16, "depth": 1, "heads": 2, "edges": edges},
            )
            for edges in ("bias", "restrict")
        ),
    ]  # fmt: skip
