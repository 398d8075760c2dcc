"""PyTorch Geometric, imported in one place: on import it uses what torch warns about."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.*")
    from torch_geometric.data import Batch, Data, HeteroData
    from torch_geometric.nn import (
        GATConv,
        GCNConv,
        GINConv,
        GINEConv,
        GPSConv,
        GraphNorm,
        SAGEConv,
    )

__all__ = [
    "Batch", "Data", "GATConv", "GCNConv", "GINConv", "GINEConv", "GPSConv", "GraphNorm",
    "HeteroData", "SAGEConv",
]  # fmt: skip
