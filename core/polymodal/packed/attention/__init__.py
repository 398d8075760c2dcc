"""Attention over packed rows: one function, several back ends.

Queries of segment s see keys of segment s alone. Structure comes as edges of the layout, where
edge (source, target) lets the target's query see the source's key, as messages flow in
PyTorch Geometric.
"""

from polymodal.packed.attention.attend import Backend, Edges, attend, attention_maps
from polymodal.packed.attention.scores import Bias

__all__ = ["Backend", "Bias", "Edges", "attend", "attention_maps"]
